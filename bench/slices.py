#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the same servers as compare.py, in many short slices: for differences of a few percent.

On a shared machine a second of one server and a second of another differ by more than the servers
do, because what others do there changes from second to second. So all servers of a cell live
through it, on the same processor, asleep but for the one whose turn it is, and the load goes from
one to the next in slices of a fraction of a second, in an order drawn anew for each round. What
counts is the ratio to the first arm within a round, and of three arms and more also to the second;
the result is the median over all rounds, with an interval that holds nine out of ten medians of
rounds drawn from these (the bootstrap of Efron, 1979). The first arm is there twice: how far its
second is from 1 shows what a result is worth.

    slices.py                              64, 1000 and 10,000 connections, 64 bytes
    slices.py --cell 1x64 --rounds 60      one connection

Processor time for a request is the share of a processor that the server took while all connections
were open, divided by the rate of requests. System calls are compare.py's to count.
"""
import argparse
import contextlib
import random
import statistics
import sys
import time

sys.dont_write_bytecode = True
import compare  # noqa: E402
import harness  # noqa: E402

ARMS = "raw-epoll,raw-uring,rdy-completion"
DRAWS = 1000
TRIES_MAX = 5
CLOSE_S = 10


class Load:
    """What compare.run_load() wants to know, with the length of a slice as its duration."""

    def __init__(self, options):
        self.build, self.load_cpu = options.build, options.load_cpu
        self.load_backend = options.load_backend
        self.duration, self.slice_s = f"{options.slice}ms", options.slice / 1e3


def await_idle(server):
    """Until it has closed what the last slice has left: then its descriptors can be counted."""
    give_up_s = time.monotonic() + CLOSE_S
    while harness.descriptors_of(server.pid) > server.fds_idle:
        if time.monotonic() > give_up_s:
            raise harness.Failure(f"{server.arm.name} kept connections open for {CLOSE_S} s")
        time.sleep(compare.POLL_S)


def measure(load, server, cell):
    """Microseconds of the server's processor time for a request."""
    await_idle(server)
    summary, window = compare.run_load(load, server, cell)
    ran_s = (window.last.cpu_ns - window.first.cpu_ns) / 1e9
    seen_s = window.last.time_s - window.first.time_s
    if seen_s < load.slice_s / 2:
        raise harness.Disturbed(f"all connections were open for {1e3 * seen_s:.0f} ms only")
    return 1e6 * (ran_s / seen_s) / summary["requests_per_second"]


def measure_again(load, server, cell):
    """The same, until the machine let it be measured."""
    for _ in range(TRIES_MAX):
        try:
            return measure(load, server, cell)
        except harness.Disturbed as why:
            disturbed = why
    raise disturbed


def run_rounds(options, servers, cell):
    """For each round the figures of all servers. The first round is for warming up."""
    load = Load(options)
    draw = random.Random(f"{options.seed} {cell}")
    rounds = []
    for number in range(options.rounds + 1):
        order = list(enumerate(servers))
        draw.shuffle(order)
        done = {}
        for position, server in order:
            what = f"  {cell}: round {number} of {options.rounds}, {server.arm.name}"
            print(what, file=sys.stderr)
            done[position] = measure_again(load, server, cell)
        rounds.append([done[position] for position in range(len(servers))])
    return rounds[1:]


def run_cell(options, arms, cell):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(harness.Server(arm, options.server_cpu)) for arm in arms]
        for server in servers:
            server.fds_idle = harness.descriptors_of(server.pid)
        rounds = run_rounds(options, servers, cell)
        for server in servers:
            server.stop()
    return rounds


def interval(ratios):
    """(lowest, highest) of the middle nine tenths of the medians of as many, drawn from these."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWS)
    )
    return medians[DRAWS // 20], medians[DRAWS - 1 - DRAWS // 20]


def ratio(rounds, position, base):
    """The median of the ratios of two arms, and its interval."""
    ratios = [figures[position] / figures[base] for figures in rounds]
    return {"ratio": statistics.median(ratios), "interval": interval(ratios)}


def results_of(names, bases, rounds):
    """For each arm its name, median time, and its ratio to each of @bases, by position."""
    for position, name in enumerate(names):
        yield {
            "arm": name,
            "cpu_us": statistics.median(figures[position] for figures in rounds),
            "to": {names[base]: ratio(rounds, position, base) for base in bases},
        }


def text_of(found):
    low, high = found["interval"]
    return f"{found['ratio']:.3f} ({low:.3f} to {high:.3f})"


def cell_lines(cell, count, results):
    width = max(14, *(len(result["arm"]) for result in results))
    columns = "{:<" + str(width) + "} {:>10}" + "  {:<24}" * len(results[0]["to"])
    yield ""
    yield f"{cell}, {count} rounds"
    yield columns.format("arm", "cpu us/rq", *("/ " + name for name in results[0]["to"])).rstrip()
    for result in results:
        ratios = [text_of(found) for found in result["to"].values()]
        yield columns.format(result["arm"], f"{result['cpu_us']:.3f}", *ratios).rstrip()


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_common(parser, "slices")
    parser.add_argument("--cell", type=compare.Cell, action="append", metavar="CxB[xD]")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--slice", type=int, default=300, help="milliseconds of an arm and round")
    parser.add_argument("--load-backend", default="epoll", help="of the load; the same for all")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the orders")
    options = parser.parse_args()
    options.cell = options.cell or [compare.Cell(text) for text in compare.CELLS]
    options.arms = options.arms or ARMS
    if options.rounds < 2:
        parser.error("--rounds is at least 2")
    if options.slice < 100:
        parser.error("--slice is at least 100: a slice has to hold some looks at the server")
    if any(cell.requests for cell in options.cell):
        parser.error("--cell: connections that are closed are compare.py's to measure")
    return options


def main():
    options = parse()
    arms = harness.chosen_arms(options)
    arms.append(arms[0])
    names = [arm.name for arm in arms[:-1]] + [arms[0].name + " again"]
    report = harness.begin_cells(options)
    bases = [0] if len(names) < 4 else [0, 1]
    cells = []
    try:
        for cell in options.cell:
            rounds = run_cell(options, arms, cell)
            results = list(results_of(names, bases, rounds))
            report.say(cell_lines(cell, len(rounds), results))
            cells.append({**cell.record(), "results": results, "cpu_us": rounds})
    finally:
        if cells:
            report.save({"seed": options.seed, "cells": cells})
    return 0


if __name__ == "__main__":
    harness.run_script(main)
