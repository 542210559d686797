#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `rdy echo` on io_uring and on epoll with the raw epoll loop in raw_epoll.c.

The server runs on one processor, the load (`rdy load`, the same for every arm) on another. Each
round starts every arm afresh, in alternating order, so that a drift of the machine meets all arms
alike. What counts is the server's processor time for a request, and of that the ratio to the raw
loop within the same round; the median of these ratios is the result.

    compare.py                              64, 1000 and 10,000 connections, 64 bytes
    compare.py --cell 64x1024 --cell 64x64x16    64 connections; 1 KiB, and 64 B at depth 16

Processor time is taken from the moment in which all connections are open to the last one in which
they still are, so that accepting and closing are not counted; the whole is kept beside it. Requests
are counted by the load. Raw figures of every round go to bench/results.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import harness  # noqa: E402

CELLS = ["64x64", "1000x64", "10000x64"]
POLL_S = 0.02
CONNECT_S = 60
RATIO_MAX = 1.05


class Cell:
    """Connections, message size in bytes, messages in flight for each connection."""

    def __init__(self, text):
        match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", text)
        if not match:
            raise argparse.ArgumentTypeError(f"'{text}' is not CONNECTIONSxBYTES or ...xDEPTH")
        self.connections, self.size = int(match[1]), int(match[2])
        self.depth = int(match[3] or 1)

    def __str__(self):
        depth = f", depth {self.depth}" if self.depth > 1 else ""
        return f"{self.connections} connections x {self.size} B{depth}"

    def record(self):
        return {"connections": self.connections, "size": self.size, "depth": self.depth}


def load_command(options, server, cell):
    command = [os.path.join(options.build, "rdy"), "load", "--connect", server.address]
    command += ["--connections", str(cell.connections), "--size", str(cell.size)]
    command += ["--duration", str(options.duration), "--depth", str(cell.depth)]
    return command + ["--backend", options.load_backend, "--json"]


def watch(server, child, fds_full):
    """Samples the server while the load runs: (first, last) with all connections open."""
    first = last = None
    give_up_s = time.monotonic() + CONNECT_S
    while child.poll() is None:
        sample = server.sample()
        if sample.fds >= fds_full:
            first = first or sample
            last = sample
        if not first and sample.time_s > give_up_s:
            child.kill()
            child.communicate()
            raise harness.Failure(f"the connections did not all open within {CONNECT_S} s")
        time.sleep(POLL_S)
    return first, last


def run_load(options, server, cell):
    """Returns the load's summary and the samples around its steady part."""
    fds_full = server.sample().fds + cell.connections
    child = subprocess.Popen(
        load_command(options, server, cell),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=harness.pinned(options.load_cpu),
    )
    first, last = watch(server, child, fds_full)
    out, err = child.communicate()
    summary = harness.last_json(out)
    if child.returncode != 0 or summary is None:
        raise harness.Failure(f"rdy load ended with {child.returncode}: {err.strip()}")
    if not first or first is last:
        raise harness.Failure("there was no moment with all connections open")
    return summary, first, last


def run_arm(options, arm, cell):
    """One round of one arm: the figures that are kept."""
    with harness.Server(arm, options.server_cpu) as server:
        before = server.sample()
        load, first, last = run_load(options, server, cell)
        after = server.sample()
        summary = server.stop()
    requests = load["requests"]
    errors = {what: count for what, count in load["errors"].items() if count}
    if not requests or errors:
        raise harness.Failure(f"{arm.name}: {requests} requests, errors {errors} in {cell}")
    return {
        "arm": arm.name,
        "announced": server.line,
        "requests": requests,
        "cpu_us": (last.cpu_ns - first.cpu_ns) / 1e3 / requests,
        "cpu_whole_us": (after.cpu_ns - before.cpu_ns) / 1e3 / requests,
        "cpu_share": (last.cpu_ns - first.cpu_ns) / 1e9 / (last.time_s - first.time_s),
        "calls": summary["system_calls"] / requests,
        "rate": load["requests_per_second"],
        "p50_us": load["latency_ns"]["p50"] / 1e3,
        "p99_us": load["latency_ns"]["p99"] / 1e3,
        "load_share": load["generator_cpu_share"],
        "load": load,
        "server": summary,
    }


def run_cell(options, arms, cell):
    """All rounds of a cell, interleaved; every other round goes through the arms backwards."""
    rounds = []
    for number in range(options.rounds):
        order = arms if number % 2 == 0 else list(reversed(arms))
        done = {}
        for arm in order:
            print(f"  {cell}: round {number + 1} of {options.rounds}, {arm.name}", file=sys.stderr)
            done[arm.name] = run_arm(options, arm, cell)
        rounds.append([done[arm.name] for arm in arms])
    return rounds


def median_of(rounds, position, key):
    return statistics.median(figures[position][key] for figures in rounds)


def ratios_of(rounds, position):
    return [figures[position]["cpu_us"] / figures[0]["cpu_us"] for figures in rounds]


def cell_lines(cell, arms, rounds):
    columns = "{:<12} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6}  {}"
    yield ""
    yield f"{cell}, {len(rounds)} rounds"
    heads = ("arm", "cpu us/rq", "whole", "calls/rq", "rq/s", "p50 us", "p99 us", "server", "load")
    yield columns.format(*heads, "cpu per request / raw loop (lowest, highest)")
    for position, arm in enumerate(arms):
        ratios = ratios_of(rounds, position)
        ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.2f}, {max(ratios):.2f})"
        medians = [
            f"{median_of(rounds, position, key):.{places}f}"
            for key, places in (
                ("cpu_us", 3),
                ("cpu_whole_us", 3),
                ("calls", 3),
                ("rate", 0),
                ("p50_us", 0),
                ("p99_us", 0),
                ("cpu_share", 2),
                ("load_share", 2),
            )
        ]
        yield columns.format(arm.name, *medians, ratio if position else "1")


def verdict_lines(arms, cells):
    """Says for each goal whether it was reached."""
    yield ""
    for cell, rounds in cells:
        for position, arm in enumerate(arms[1:], 1):
            ratio = statistics.median(ratios_of(rounds, position))
            word = "within" if ratio <= RATIO_MAX else "MISSED:"
            yield f"{cell}: {arm.name} / {arms[0].name} = {ratio:.3f}, {word} {RATIO_MAX}"


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_common(parser)
    parser.add_argument("--cell", type=Cell, action="append", metavar="CxB[xD]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=int, default=5, help="seconds for each arm and round")
    parser.add_argument("--load-backend", default="epoll", help="of the load; the same for all")
    parser.add_argument("--name", default="compare", help="of the result files")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.cell = options.cell or [Cell(text) for text in CELLS]
    if options.rounds < 1 or options.duration < 1:
        parser.error("--rounds and --duration are at least 1")
    return options


def main():
    options = parse()
    os.sched_setaffinity(0, {options.load_cpu})
    arms = harness.chosen_arms(options)
    about = harness.machine(options.build)
    lines = list(harness.machine_lines(about))
    lines.append(f"server on cpu {options.server_cpu}, load on cpu {options.load_cpu}")
    print("\n".join(lines))
    cells = []
    for cell in options.cell:
        rounds = run_cell(options, arms, cell)
        cells.append((cell, rounds))
        added = list(cell_lines(cell, arms, rounds))
        print("\n".join(added), flush=True)
        lines += added
    added = list(verdict_lines(arms, cells))
    print("\n".join(added))
    lines += added
    if not options.no_save:
        record = {
            "machine": about,
            "cells": [{**cell.record(), "rounds": rounds} for cell, rounds in cells],
        }
        print("saved as " + harness.save(options.results, options.name, record, lines) + ".*")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except harness.Failure as failure:
        print(f"compare: {failure}", file=sys.stderr)
        sys.exit(1)
