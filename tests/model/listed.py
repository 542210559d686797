#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tables of docs/testing.md name each target of the model checker that has to pass, and each
mutant, and no other.

    listed.py MODEL_CHECK
"""
import os
import re
import subprocess
import sys

import mutants_seeds

DOCS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "docs", "testing.md")


def rows(text, head):
    """The names in the first column of the table whose head begins with @head."""
    table = text.split(head, 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([\w-]+)`", table, re.M)


def differences(what, have, want):
    for name in sorted(set(have) ^ set(want)):
        yield f"docs/testing.md: the {what} {name} is " + ("unknown" if name in have else "missing")
    for name in sorted({name for name in have if have.count(name) > 1}):
        yield f"docs/testing.md: the {what} {name} is there twice"


def main():
    listed = subprocess.run([sys.argv[1], "--list"], capture_output=True, text=True, check=True)
    # A target with a mistake is a test of the checker; the others begin with what is claimed.
    targets = [line.split(":")[0] for line in listed.stdout.splitlines()
               if not line.endswith(" (must be found)")]
    with open(DOCS, encoding="utf-8") as file:
        text = file.read()
    found = [*differences("target", rows(text, "| target | executions |"), targets),
             *differences("mutant", rows(text, "| mutant | what is wrong |"),
                          [seed.name for seed in mutants_seeds.seeds()])]
    print("\n".join(found) if found else f"{len(targets)} targets, and all mutants")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
