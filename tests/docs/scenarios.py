#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks docs/scenarios.md: every test that its tables name exists and is run.

A row is | scenario | what happens | where | test |. "where" is a ctest name (`unit_task`,
`apps_echo`) and "test" one or more tests of that program in backticks; or "where" is "-" and "test"
is the reason why the scenario does not apply. A test counts as run if its program lists it: defined
but in no list, it would prove nothing.

    scenarios.py               check the document; silent but for a count, and findings
    scenarios.py --self-test   seed one mistake of each kind and expect each to be found
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DOCUMENT = "docs/scenarios.md"
HEAD = ["scenario", "what happens", "where", "test"]
# Lists are made with cmocka's macros, or one in capitals: ON_BOTH(test), SCENARIO(test, where).
LISTED_IN_C = re.compile(r"\b(?:cmocka_unit_test\w*|[A-Z][A-Z_]+)\(\s*(\w+)")
DEFINED_IN_C = re.compile(r"^static void (\w+)\(", re.M)
LISTED_IN_PYTHON = re.compile(r"^\s+def (test_\w+)\(", re.M)
REASON_MIN = 10  # characters; "n/a" is none


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def tests_of(program):
    """The tests that a ctest entry runs, or None if there is no such entry."""
    kind, _, name = program.partition("_")
    path = f"tests/{kind}/test_{name}"
    if os.path.exists(os.path.join(ROOT, path + ".c")):
        text = read(path + ".c")
        return set(LISTED_IN_C.findall(text)) & set(DEFINED_IN_C.findall(text))
    if os.path.exists(os.path.join(ROOT, path + ".py")):
        return set(LISTED_IN_PYTHON.findall(read(path + ".py")))
    return None


def rows(text):
    """Yields (line, group, cells) of every row; a table's head and rule are left out if right."""
    group = ""
    is_in_table = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            group = line.strip("# `")
        if not line.startswith("|"):
            is_in_table = False
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if is_in_table and not set(line) <= set("|-: "):
            yield number, group, cells
        elif not is_in_table and cells != HEAD:
            yield number, group, None
        is_in_table = True


def check_row(cells, known):
    if cells is None:
        yield "a table that does not begin with | " + " | ".join(HEAD) + " |"
        return
    if len(cells) != len(HEAD) or not all(cells):
        yield f"a row of {len(cells)} cells, or an empty one; {len(HEAD)} are wanted"
        return
    where, test = cells[2], cells[3]
    if where == "-":
        if len(test) < REASON_MIN or "`" in test[:1]:
            yield f"'{test}' is no reason why it does not apply"
        return
    program = where.strip("`")
    if program not in known:
        known[program] = tests_of(program)
    if known[program] is None:
        yield f"there is no test program {program}"
        return
    names = re.findall(r"`(\w+)`", test)
    if not names:
        yield "no test is named"
    for name in names:
        if name not in known[program]:
            yield f"{program} runs no test {name}"


def findings(text):
    known = {}
    seen = set()
    count = 0
    for number, group, cells in rows(text):
        count += 1
        for message in check_row(cells, known):
            yield number, message
        if cells:
            if (group, cells[0]) in seen:
                yield number, f"{cells[0]} stands twice under {group}"
            seen.add((group, cells[0]))
    if count == 0:
        yield 1, "no rows"


TABLE = "# Group\n\n| scenario | what happens | where | test |\n|---|---|---|---|\n"
GOOD = "| `a` | it does | `unit_task` | `stale_names_are_refused` |\n"
SEEDS = {
    "a program that is not there": "| `b` | it does | `unit_nothing` | `x` |\n",
    "a test that is not there": "| `b` | it does | `unit_task` | `stale_names_are_welcome` |\n",
    "a function that is no test": "| `b` | it does | `unit_task` | `run_for_a_while` |\n",
    "one of two that is not there": "| `b` | it does | `unit_task` | "
    "`stale_names_are_refused`, `nothing` |\n",
    "no test": "| `b` | it does | `unit_task` | soon |\n",
    "no reason": "| `b` | it does | - | n/a |\n",
    "an empty cell": "| `b` | | `unit_task` | `stale_names_are_refused` |\n",
    "a cell too few": "| `b` | it does | `unit_task` |\n",
    "a scenario twice": GOOD,
    "another table": "\n| a | b |\n|---|---|\n| `b` | it does |\n",
}


def self_test():
    failures = 0
    for name, seed, expected in [("nothing", "", False)] + [(n, s, True) for n, s in SEEDS.items()]:
        found = list(findings(TABLE + GOOD + seed))
        if bool(found) != expected:
            print(f"seeded {name}: found {found}")
            failures += 1
    if not list(findings("# Nothing\n")):
        print("seeded a document without rows: found nothing")
        failures += 1
    print(f"scenarios: self-test of {len(SEEDS) + 2} seeds, {failures} failures")
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    if sys.argv[1:]:
        print("the only argument is --self-test", file=sys.stderr)
        return 2
    text = read(DOCUMENT)
    found = list(findings(text))
    for number, message in found:
        print(f"{DOCUMENT}:{number}: {message}")
    print(f"scenarios: {sum(1 for _ in rows(text))} rows, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
