#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares `rdy echo` on io_uring and on epoll with the raw epoll loop in raw_epoll.c.

The server runs on one processor, the load (`rdy load`, the same for every arm) on another. Each
round starts every arm afresh, in alternating order, so that a drift of the machine meets all arms
alike. What counts is the server's processor time for a request, and of that the ratio to the raw
loop within the same round; the median of these ratios is the result. On a shared machine --tries
leaves out the rounds in which others had the most of the processors' time.

    compare.py                              64, 1000 and 10,000 connections, 64 bytes
    compare.py --cell 64x1024 --cell 64x64x16    64 connections; 1 KiB, and 64 B at depth 16
    compare.py --cell 64x64/1               each connection is closed after one request

Processor time is taken from the moment in which all connections are open to the last one in which
they still are, so that accepting and closing are not counted; the whole is kept beside it. With so
many requests a connection both are part of the work, and the whole run is what counts. Requests are
counted by the load. Raw figures of every round go to bench/results.

System calls come twice: "calls/rq" is what the server counted from its start to its end, opening
and closing of all connections included; "steady" is what the kernel counted while all were open, in
one round more whose times are not used. That needs tracefs, and is "-" without: as root,

    unshare -m sh -c 'mount -t tracefs tracefs /sys/kernel/tracing && bench/compare.py'

A load that is slower than the server lets it find little work at a time, and one that sends in
batches (--load-backend uring) gives it more; that changes how much there is to batch, and with it
every figure of a ring. With --share-cpu a process that never sleeps takes half of the server's
processor: the server is then what is short, as in an overload. It counts only its own time.

An arm "raw-uring.NAME" is the raw io_uring loop with an optional feature; harness.py lists them.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import calls  # noqa: E402
import harness  # noqa: E402

CELLS = ["64x64", "1000x64", "10000x64"]
POLL_S = 0.02
CONNECT_S = 60
RATIO_MAX = 1.05


class Cell:
    """Connections, message size in bytes, messages in flight for each, requests until its end."""

    def __init__(self, text):
        match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?(?:/(\d+))?", text)
        if not match:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not CONNECTIONSxBYTES, ...xDEPTH or .../REQUESTS"
            )
        self.connections, self.size = int(match[1]), int(match[2])
        self.depth = int(match[3] or 1)
        self.requests = int(match[4] or 0)

    def __str__(self):
        depth = f", depth {self.depth}" if self.depth > 1 else ""
        requests = f", {self.requests} requests each" if self.requests else ""
        return f"{self.connections} connections x {self.size} B{depth}{requests}"

    def record(self):
        return {
            "connections": self.connections,
            "size": self.size,
            "depth": self.depth,
            "requests_per_connection": self.requests,
        }


def load_command(options, server, cell):
    command = [os.path.join(options.build, "rdy"), "load", "--connect", server.address]
    command += ["--connections", str(cell.connections), "--size", str(cell.size)]
    command += ["--duration", str(options.duration), "--depth", str(cell.depth)]
    if cell.requests:
        command += ["--requests-per-connection", str(cell.requests)]
    return command + ["--backend", options.load_backend, "--json"]


class Window:
    """The part of a run in which all connections are open: the first and the last moment of it."""

    def __init__(self, server, counter):
        self.server = server
        self.counter = counter  # of system calls, or None
        self.first = self.last = None
        self.first_calls = self.last_calls = None

    def look(self):
        self.last = self.server.sample()
        if self.counter:
            self.last_calls = self.counter.read()
        if not self.first:
            self.first, self.first_calls = self.last, self.last_calls

    def is_empty(self):
        return self.first is self.last

    def calls(self):
        return self.last_calls - self.first_calls if self.counter else None


def are_all_open(server, child, server_fds, child_fds):
    """A server without descriptors of its connections has accepted what the load has opened."""
    if server.arm.has_descriptors:
        return harness.descriptors_of(server.pid) >= server_fds
    return harness.descriptors_of(child.pid) >= child_fds


def watch(server, child, connections, server_fds, window):
    """Looks at the server while the load runs, as long as all connections are open."""
    give_up_s = time.monotonic() + CONNECT_S
    while child.poll() is None:
        if are_all_open(server, child, server_fds, connections):
            window.look()
        if not window.first and time.monotonic() > give_up_s:
            child.kill()
            child.communicate()
            raise harness.Failure(f"the connections did not all open within {CONNECT_S} s")
        time.sleep(POLL_S)


def run_load(options, server, cell, counter=None):
    """Returns the load's summary and the window of its steady part."""
    window = Window(server, counter)
    if cell.requests:
        window.look()
    # Before there is a load: one that is quick has opened some by the time we are back.
    server_fds = harness.descriptors_of(server.pid) + cell.connections
    child = subprocess.Popen(
        load_command(options, server, cell),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=harness.pinned(options.load_cpu),
    )
    if cell.requests:
        out, err = child.communicate()
        window.look()
    else:
        watch(server, child, cell.connections, server_fds, window)
        out, err = child.communicate()
    summary = harness.last_json(out)
    if child.returncode != 0 or summary is None:
        why = f"rdy load ended with {child.returncode}: {err.strip()}"
        raise harness.Failure(f"{server.arm.name}: {why}")
    if window.is_empty():
        raise harness.Disturbed("all connections were open at one moment at most")
    errors = {what: count for what, count in summary["errors"].items() if count}
    if not summary["requests"] or errors:
        requests = summary["requests"]
        raise harness.Failure(f"{server.arm.name}: {requests} requests, errors {errors} in {cell}")
    return summary, window


def run_arm(options, arm, cell):
    """One round of one arm: the figures that are kept."""
    with harness.Server(arm, options.server_cpu) as server:
        before = server.sample()
        load, window = run_load(options, server, cell)
        after = server.sample()
        summary = server.stop()
    requests = load["requests"]
    first, last = window.first, window.last
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


def count_calls(options, arm, cell):
    """A round that is not timed: system calls for a request, while all connections were open."""
    with harness.Server(arm, options.server_cpu) as server:
        counter = calls.Calls(server.pid)
        try:
            load, window = run_load(options, server, cell, counter)
        finally:
            counter.close()
        server.stop()
    return window.calls() / load["requests"]


def steady_calls(options, arms, cell):
    """For each arm, or None where the kernel does not count for us."""
    if options.no_calls or not calls.is_possible():
        return [None for _ in arms]
    print(f"  {cell}: counting system calls", file=sys.stderr)
    return [count_calls(options, arm, cell) for arm in arms]


def ratios_of(rounds, position):
    return [figures[position]["cpu_us"] / figures[0]["cpu_us"] for figures in rounds]


def cell_lines(cell, arms, rounds, steady):
    width = max(14, *(len(arm.name) for arm in arms))
    columns = "{:<" + str(width) + "} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6}  {}"
    yield ""
    yield f"{cell}, {rounds}"
    heads = ["arm", "cpu us/rq", "whole", "calls/rq", "steady", "rq/s", "p50 us", "p99 us"]
    heads += ["server", "load", f"cpu per request / {arms[0].name} (lowest, highest)"]
    yield columns.format(*heads)
    for position, arm in enumerate(arms):
        ratios = ratios_of(rounds.kept, position)
        ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.2f}, {max(ratios):.2f})"
        medians = [
            f"{harness.median_of(rounds.kept, position, key):.{places}f}"
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
        medians.insert(3, "-" if steady[position] is None else f"{steady[position]:.3f}")
        yield columns.format(arm.name, *medians, ratio if position else "1")


def verdict_lines(arms, cells):
    """Says for each goal whether it was reached; goals are in terms of the raw epoll loop."""
    if arms[0].name != "raw-epoll":
        return
    yield ""
    for cell, rounds, _ in cells:
        for position, arm in enumerate(arms[1:], 1):
            ratio = statistics.median(ratios_of(rounds.kept, position))
            word = "within" if ratio <= RATIO_MAX else "MISSED:"
            yield f"{cell}: {arm.name} / {arms[0].name} = {ratio:.3f}, {word} {RATIO_MAX}"


def parse():
    parser = harness.cells_parser(__doc__, "compare", Cell, "CxB[xD]", duration_s=5)
    parser.add_argument("--no-calls", action="store_true", help="leave the counted round out")
    parser.add_argument("--load-backend", default="epoll", help="of the load; the same for all")
    parser.add_argument(
        "--share-cpu", action="store_true", help="beside the server runs what never sleeps"
    )
    return harness.parse_cells(parser, [Cell(text) for text in CELLS])


def main():
    options = parse()
    arms = harness.chosen_arms(options)
    report = harness.begin_cells(options)
    cells = []
    for cell in options.cell:
        with harness.Competitor(options.server_cpu if options.share_cpu else None):
            rounds = harness.Rounds(options, arms, cell, run_arm)
            steady = steady_calls(options, arms, cell)
        cells.append((cell, rounds, steady))
        report.say(cell_lines(cell, arms, rounds, steady))
    report.say(verdict_lines(arms, cells))
    report.save(
        {
            "cells": [
                {**cell.record(), **rounds.record(), "steady_calls": steady}
                for cell, rounds, steady in cells
            ]
        }
    )
    return 0


if __name__ == "__main__":
    harness.run_script(main)
