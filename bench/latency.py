#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Latency at a fixed low rate: an open loop, for which the server sleeps between the requests.

The server runs on one processor, the load (`rdy load --rate`, on epoll, the same for every arm) on
another. Latency counts from the moment a message was due, so the load's own wake-up is in it, for
all arms alike; the ratio to the raw epoll loop of the same round is what counts. Each round starts
every arm afresh, in alternating order; the result is the median over the rounds.

    latency.py                       1 and 64 connections at 1000/s, 64 at 20,000/s, 64 bytes
    latency.py --cell 1x5000         1 connection at 5000/s

Processor time is the server's, of all the requests of a run, from its start to the load's end: at a
low rate connecting is a small part. The arms that spin do so for up to 50 us.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
import harness  # noqa: E402

CELLS = ["1x1000", "64x1000", "64x20000"]
ARMS = ["raw-epoll", "raw-uring", "rdy-epoll", "rdy-uring", "rdy-completion"]
SPINNING = ["rdy-epoll", "rdy-completion"]
SPIN_US = 50
SIZE = 64
KEYS = ("p50_us", "p99_us", "p999_us", "cpu_us")


class Cell:
    """Connections, and messages a second over all of them."""

    def __init__(self, text):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if not match:
            raise argparse.ArgumentTypeError(f"'{text}' is not CONNECTIONSxRATE")
        self.connections, self.rate = int(match[1]), int(match[2])

    def __str__(self):
        plural = "" if self.connections == 1 else "s"
        return f"{self.connections} connection{plural}, {self.rate}/s, {SIZE} B"

    def record(self):
        return {"connections": self.connections, "rate": self.rate, "size": SIZE}


def arms_here(options):
    options.arms = options.arms or ",".join(ARMS)
    arms = harness.chosen_arms(options)
    return arms + [harness.spinning(arm, SPIN_US) for arm in arms if arm.name in SPINNING]


def run_load(options, server, cell):
    command = [os.path.join(options.build, "rdy"), "load", "--connect", server.address]
    command += ["--connections", str(cell.connections), "--size", str(SIZE)]
    command += ["--duration", str(options.duration), "--rate", str(cell.rate)]
    result = subprocess.run(
        command + ["--backend", "epoll", "--mode", "readiness", "--json"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=harness.pinned(options.load_cpu),
    )
    summary = harness.last_json(result.stdout)
    if result.returncode != 0 or summary is None:
        raise harness.Failure(f"rdy load ended with {result.returncode}: {result.stderr.strip()}")
    return summary


def run_arm(options, arm, cell):
    """One round of one arm: the figures that are kept."""
    with harness.Server(arm, options.server_cpu) as server:
        before = server.sample()
        load = run_load(options, server, cell)
        after = server.sample()
        summary = server.stop()
    latency = load["latency_ns"]
    return {
        "arm": arm.name,
        "announced": server.line,
        "requests": load["requests"],
        "p50_us": latency["p50"] / 1e3,
        "p99_us": latency["p99"] / 1e3,
        "p999_us": latency["p99_9"] / 1e3,
        "cpu_us": (after.cpu_ns - before.cpu_ns) / 1e3 / load["requests"],
        "times_run": (after.times_run - before.times_run) / load["requests"],
        "late_share": load["sends_late"] / load["sends_scheduled"],
        "load": load,
        "server": summary,
    }


def ratio_of(rounds, position, key):
    """The median of the ratios to the first arm within a round, with the lowest and highest."""
    ratios = [figures[position][key] / figures[0][key] for figures in rounds]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"


def cell_lines(cell, arms, rounds):
    columns = "{:<22} {:>8} {:>8} {:>8} {:>9} {:>7} {:>7}  {:<20} {:<20} {}"
    yield ""
    yield f"{cell}, {rounds}; ratios are to {arms[0].name}"
    heads = ("arm", "p50 us", "p99 us", "p99.9 us", "cpu us/rq", "run/rq", "late %")
    yield columns.format(*heads, "p50 (low, high)", "p99", "cpu")
    for position, arm in enumerate(arms):
        figures = [f"{harness.median_of(rounds.kept, position, key):.1f}" for key in KEYS]
        figures.append(f"{harness.median_of(rounds.kept, position, 'times_run'):.2f}")
        figures.append(f"{100 * harness.median_of(rounds.kept, position, 'late_share'):.1f}")
        ratios = [ratio_of(rounds.kept, position, key) for key in ("p50_us", "p99_us", "cpu_us")]
        yield columns.format(arm.name, *figures, *ratios).rstrip()


def parse():
    parser = harness.cells_parser(__doc__, "latency", Cell, "CxRATE", duration_s=3)
    return harness.parse_cells(parser, [Cell(text) for text in CELLS])


def main():
    options = parse()
    arms = arms_here(options)
    report = harness.begin_cells(options)
    cells = []
    for cell in options.cell:
        rounds = harness.Rounds(options, arms, cell, run_arm)
        cells.append({**cell.record(), **rounds.record()})
        report.say(cell_lines(cell, arms, rounds))
    report.save({"cells": cells})
    return 0


if __name__ == "__main__":
    harness.run_script(main)
