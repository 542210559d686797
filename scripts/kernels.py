#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads what the guests of scripts/kernels, or scripts/aarch64, wrote, and prints one table.

    kernels.py [--partial] EXPECTATIONS LOG...

A test may fail only where the expectations say that it needs a capability, and the probe of that
very machine says that the capability is missing. An expectation that did not come true fails as
well: where the capability is missing the test must fail, unless the pattern begins with "?".
--partial: not all programs were run, so an expectation may name one that is not there.

What a machine lacks besides, which no probe asks for, its log says in a line "@lacks CAPABILITY".
"""
import argparse
import collections
import fnmatch
import json
import os
import re
import sys

KINDS = ("unit", "conform", "kernel")
TAP = re.compile(r"(not ok|ok) (\d+) - (\S+(?: on \S+(?: fake)?)?)(.*)")
PLAN = re.compile(r"1\.\.(\d+)$")

Rule = collections.namedtuple("Rule", "capability program test why")


class Program:
    """One test program on one kernel: its tests by name, and how it ended."""

    def __init__(self, name):
        self.name = name
        self.out = []
        self.status = None
        self.seconds = 0

    def results(self):
        """Returns [(test, passed)]. What the program announced and did not tell of has failed."""
        results = []
        planned = 0
        for line in self.out:
            plan = PLAN.match(line)
            told = TAP.match(line)
            if plan:
                planned += int(plan.group(1))
            elif told:
                results.append((told.group(3), told.group(1) == "ok"))
        failed = sum(not passed for _, passed in results)
        if not planned or self.status is None or self.status > 128 or len(results) < planned:
            results.append(("(the program's end)", False))
        elif (self.status != 0) != (failed > 0):
            results.append(("(the program's status)", False))
        return results


class Guest:
    """One kernel: what its log says."""

    def __init__(self, path):
        self.name = os.path.basename(path).removesuffix(".log")
        self.release = "?"
        self.info = {}
        self.programs = []
        self.demo_lines = []
        self.demo_status = None
        self.is_whole = False
        self.lacks = []
        self.console = []
        info = []
        with open(path, encoding="utf-8", errors="replace") as log:
            for line in log:
                self.take(line.rstrip("\r\n"), info)
        try:
            self.info = json.loads("\n".join(info))
        except ValueError:
            self.is_whole = False

    def take(self, line, info):
        tag, _, rest = line.partition(" ")
        if tag == "@kernel":
            self.release = rest
        elif tag == "@info":
            info.append(rest)
        elif tag == "@program":
            self.programs.append(Program(rest))
        elif tag == "@out" and self.programs:
            self.programs[-1].out.append(rest)
        elif tag == "@status" and self.programs:
            status, seconds = rest.split()
            self.programs[-1].status = int(status)
            self.programs[-1].seconds = int(seconds)
        elif tag == "@demo":
            self.demo_lines.append(rest)
        elif tag == "@demostatus":
            self.demo_status = int(rest)
        elif tag == "@lacks":
            self.lacks.append(rest)
        elif tag == "@end":
            self.is_whole = True
        else:
            self.console.append(line)

    def capabilities(self):
        probed = {one["name"]: one["present"] for one in self.info.get("capabilities", [])}
        return probed | {name: False for name in self.lacks}

    def demo(self):
        if "demo" in self.lacks:
            return "-"
        return "passed" if self.demo_status == 0 else "FAILED"


def read_rules(path):
    rules = []
    with open(path, encoding="utf-8") as file:
        lines = file.read().replace("\\\n", "").splitlines()
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 4 or not all(fields):
            sys.exit(f"kernels: {path}: want capability | program | test | why: {line}")
        rules.append(Rule(*fields))
    return rules


def judge(guest, rules, is_partial):
    """Returns ({kind: [passed, not applicable, failed]}, complaints)."""
    counts = {kind: [0, 0, 0] for kind in KINDS}
    complaints = []
    capabilities = guest.capabilities()
    missing = [rule for rule in rules if not capabilities.get(rule.capability, False)]
    came_true = set()
    for rule in rules:
        if guest.info and rule.capability not in capabilities:
            complaints.append(f"the probe does not know the capability {rule.capability}")
    for program in guest.programs:
        kind = program.name.split("_")[0]
        mine = [rule for rule in missing if rule.program == program.name]
        for test, passed in program.results():
            because = [rule for rule in mine
                       if fnmatch.fnmatchcase(test, rule.test.removeprefix("?"))]
            counts[kind][0 if passed else 1 if because else 2] += 1
            if not passed and because:
                came_true.update(because)
            elif not passed:
                complaints.append(f"{program.name}: {test} failed (status {program.status})")
                complaints += [f"    {line}" for line in program.out
                               if not line.startswith(("ok ", "1..", "# ok"))][:12]
    names = {program.name for program in guest.programs}
    for rule in missing:
        if rule in came_true or rule.test.startswith("?"):
            continue
        # Without io_uring the tests on it are others, which pass: tests/support/group.c.
        if rule.capability != "multishot_poll" and not capabilities.get("multishot_poll", False):
            continue
        if rule.program in names:
            complaints.append(f"{rule.program}: no {rule.test} failed without {rule.capability}")
        elif not is_partial:
            complaints.append(f"{rule.program}: there is no such program, but an expectation")
    if guest.demo() == "FAILED":
        complaints += [f"the demo ended with {guest.demo_status}"] + guest.demo_lines[-5:]
    if not guest.is_whole:
        complaints += ["the machine did not come to its end; its last words:"] + guest.console[-8:]
    return counts, complaints


def print_table(guests, verdicts):
    def row(name, cells):
        print(f"{name:24}" + "".join(f"  {cell:>22}" for cell in cells).rstrip())

    row("", [guest.name for guest in guests])
    row("release", [guest.release for guest in guests])
    row("auto picks", [guest.info.get("auto", {}).get("backend", "?") for guest in guests])
    names = []
    for guest in guests:
        names += [name for name in guest.capabilities() if name not in names]
    for name in names:
        row(name, ["yes" if guest.capabilities().get(name) else "-" for guest in guests])
    print("\ntests that passed, that do not apply, that failed")
    for kind in KINDS:
        row(kind, ["{} / {} / {}".format(*counts[kind]) for counts, _ in verdicts])
    row("demo", [guest.demo() for guest in guests])
    for guest in guests:
        auto = guest.info.get("auto", {})
        print(f"{guest.name}: {auto.get('reason', 'no answer from rdy info')}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("expectations")
    parser.add_argument("logs", nargs="+")
    args = parser.parse_args()
    rules = read_rules(args.expectations)
    guests = [Guest(path) for path in args.logs]
    verdicts = [judge(guest, rules, args.partial) for guest in guests]
    print_table(guests, verdicts)
    failures = 0
    for guest, (_, complaints) in zip(guests, verdicts):
        for complaint in complaints:
            print(f"{guest.name}: {complaint}")
        failures += bool(complaints)
    if failures:
        print(f"kernels: {failures} of {len(guests)} FAILED")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
