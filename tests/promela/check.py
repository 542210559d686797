#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Verifies a Promela model with spin, and that it would have found what it is there to find.

    check.py MODEL.pml

The model's assertions and each of its ltl formulas must hold, as it stands and once more for each
line "// also NAME=VALUE" with that defined. Then each line "// fault NAME: ..."
is compiled in with -DNAME, and at least one of them must fail: a model that cannot fail proves
nothing. The search is exhaustive, or it is an error.
"""
import concurrent.futures
import re
import subprocess
import sys
import tempfile

LIMIT_S = 60
DEPTH_MAX = 200000
FAULT = re.compile(r"^// fault (\w+): ", re.M)
ALSO = re.compile(r"^// also (\w+=\w+)$", re.M)
FORMULA = re.compile(r"^ltl (\w+) ", re.M)
CLAIM = re.compile(r"assertion violated\s+!\(")
ERRORS = re.compile(r"State-vector .* errors: (\d+)")
STATES = re.compile(r"^\s*(\d+) states, stored", re.M)


def run(*command, folder):
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S,
                            check=False)
    if result.returncode != 0:
        sys.exit(f"promela: {' '.join(command)}:\n{result.stdout}{result.stderr}")
    return result.stdout


def verify(model, define, formulas, is_fault):
    """Returns (what fails: formulas by name, or an assertion; states seen)."""
    with tempfile.TemporaryDirectory() as folder:
        run("spin", "-a", *([f"-D{define}"] if define else []), model, folder=folder)
        run("gcc", "-O0", "-w", "-DNOFAIR", "-DMEMLIM=1024", "-o", "pan", "pan.c", folder=folder)
        failed, states = [], 0
        for formula in formulas:
            out = run("./pan", "-a", f"-m{DEPTH_MAX}", "-N", formula, folder=folder)
            errors = ERRORS.search(out)
            if not errors or "max search depth too small" in out or "out of memory" in out:
                sys.exit(f"promela: {model}: the search is not whole:\n{out}")
            if int(errors.group(1)) > 0:
                is_claim = CLAIM.search(out) or "assertion violated" not in out
                failed.append(formula if is_claim else "an assertion")
                if is_fault:
                    break
            states += int(STATES.search(out).group(1))
        return failed, states


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: check.py MODEL.pml")
    model = sys.argv[1]
    with open(model, encoding="utf-8") as file:
        text = file.read()
    faults, formulas = FAULT.findall(text), FORMULA.findall(text)
    if not faults or not formulas:
        sys.exit(f"promela: {model}: no fault, or no formula")
    is_good = True
    for define in [None] + ALSO.findall(text):
        failed, states = verify(model, define, formulas, False)
        print(f"{define or 'as it stands'}: {len(formulas)} formulas, {states} states")
        for name in failed:
            print(f"FAILED: {name}")
        is_good = is_good and not failed
    # Most of the time is the compiler's.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda fault: verify(model, fault, formulas, True), faults))
    for fault, (found, _) in zip(faults, verdicts):
        print(f"{fault}: " + (f"found by {found[0]}" if found else "NOT FOUND"))
        is_good = is_good and bool(found)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
