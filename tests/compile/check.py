#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What must be true of the code before it runs: four checks, each one ctest entry or more.

    check.py refuses FILE --compiler CC --expect REGEX   fails with -DVIOLATE, and says REGEX;
                                                         compiles in silence without
    check.py headers --compiler CC --language c|c++      each header compiles alone, and twice
    check.py symbols --library FILE                      all names begin with rdy_, and what is
                                                         visible is what the headers declare
    check.py probes --program FILE [--none]              each static probe is there, with its
                                                         arguments, as a nop, and documented
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
COMMON = ["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
COMMON += ["-I" + ROOT, "-I" + os.path.join(ROOT, "include")]


def run(command, text=None):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def fail(message, output=""):
    print(message)
    if output:
        print(output)
    return 1


def refuses(options):
    command = [options.compiler, "-std=c17", *COMMON]
    # All the way to code: gcc finds an ignored result only after the syntax.
    command += ["-c", "-o", os.devnull]
    if "clang" in options.compiler:
        command += ["-Wthread-safety"]
    control = run([*command, options.file])
    if control.returncode != 0 or control.stderr:
        return fail("the program without the violation does not compile:", control.stderr)
    violation = run([*command, "-DVIOLATE", options.file])
    if violation.returncode == 0:
        return fail("the violation compiles: the check is dead", violation.stderr)
    if not re.search(options.expect, violation.stderr):
        return fail(f"it fails, but not with '{options.expect}':", violation.stderr)
    print("refused:", re.search(options.expect, violation.stderr).group(0))
    return 0


def headers(options):
    standard = {"c": "-std=c17", "c++": "-std=c++17"}[options.language]
    folders = ["include/rdy"] if options.public else ["engine", "uring", "fallback"]
    paths = [path for folder in folders for path in glob.glob(f"{ROOT}/{folder}/*.h")]
    if not paths:
        return fail("no header found")
    failures = 0
    for path in sorted(paths):
        name = os.path.relpath(path, ROOT).replace("include/rdy/", "rdy/")
        command = [options.compiler, standard, *COMMON, "-fsyntax-only"]
        command += ["-x", options.language, "-"]
        # Twice, so that a missing guard shows.
        result = run(command, f'#include "{name}"\n#include "{name}"\n')
        if result.returncode != 0:
            failures += fail(f"{name} does not stand alone:", result.stderr)
    print(f"{len(paths)} headers, {failures} failures")
    return 1 if failures else 0


def declared():
    """The functions that the public headers export."""
    names = set()
    for path in glob.glob(f"{ROOT}/include/rdy/*.h"):
        with open(path, encoding="utf-8") as file:
            for match in re.finditer(r"^RDY_API\b[^;(]*?(\w+)\(", file.read(), re.M):
                names.add(match.group(1))
    return names


# The second is hidden, and what <sys/sdt.h> measures the probes' places from.
OURS = ("rdy_", "_.stapsdt.base")


def symbols(options):
    result = run(["readelf", "-sW", options.library])
    if result.returncode != 0:
        return fail("readelf failed", result.stderr)
    defined, visible = set(), set()
    for line in result.stdout.splitlines():
        # Num Value Size Type Bind Vis Ndx Name
        fields = line.split()
        if len(fields) == 8 and fields[4] in ("GLOBAL", "WEAK") and fields[6] != "UND":
            defined.add(fields[7])
            if fields[5] == "DEFAULT":
                visible.add(fields[7])
    foreign = sorted(name for name in defined - visible if not name.startswith(OURS))
    foreign += sorted(name for name in visible if not name.startswith("rdy_"))
    if foreign:
        return fail("names outside of rdy_: " + " ".join(foreign))
    if visible != declared():
        missing = " ".join(sorted(declared() - visible)) or "none"
        extra = " ".join(sorted(visible - declared())) or "none"
        return fail(f"declared but not defined: {missing}; visible but not declared: {extra}")
    print(f"{len(defined)} names begin with rdy_, {len(visible)} of them are visible")
    return 0


# Each probe, and how many arguments it has.
PROBES = {
    "turn_begin": 2,
    "turn_end": 2,
    "wake": 2,
    "task_poll_begin": 2,
    "task_poll_end": 2,
    "register": 3,
    "deregister": 2,
    "arm": 3,
    "rearm": 3,
    "overflow": 2,
}
NOTE = re.compile(
    r"Provider: rdy\s+Name: (\w+)\s+Location: (0x[0-9a-f]+), .*?\n\s+Arguments: ([^\n]*)", re.S
)


def instruction_at(program, location):
    command = ["objdump", "-d", "--no-show-raw-insn", f"--start-address={location}"]
    command += [f"--stop-address={int(location, 16) + 1}", program]
    match = re.search(r"^ *[0-9a-f]+:\s+(\w+)", run(command).stdout, re.M)
    return match.group(1) if match else None


def probes(options):
    notes = NOTE.findall(run(["readelf", "-n", options.program]).stdout)
    if options.none:
        return fail(f"probes in a build without them: {notes}") if notes else 0
    found = {name for name, _, _ in notes}
    if found != set(PROBES):
        return fail(f"missing: {set(PROBES) - found}; unknown: {found - set(PROBES)}")
    with open(f"{ROOT}/docs/probes.md", encoding="utf-8") as file:
        documented = set(re.findall(r"^\| `(\w+)` \|", file.read(), re.M))
    if documented != set(PROBES):
        return fail(f"docs/probes.md has {sorted(documented)}")
    for name, location, arguments in notes:
        if len(re.findall(r"(?:^| )-?[1248]@", arguments)) != PROBES[name]:
            return fail(f"{name} has the arguments '{arguments}'")
        if instruction_at(options.program, location) != "nop":
            return fail(f"{name} at {location} is {instruction_at(options.program, location)}")
    print(f"{len(PROBES)} probes in {len(notes)} places, a nop each")
    return 0


def main():
    parser = argparse.ArgumentParser(description="Checks on what compiles and what is exported.")
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("refuses")
    mode.add_argument("file")
    mode.add_argument("--compiler", required=True)
    mode.add_argument("--expect", required=True)
    mode.set_defaults(run=refuses)
    mode = modes.add_parser("headers")
    mode.add_argument("--compiler", required=True)
    mode.add_argument("--language", choices=("c", "c++"), required=True)
    mode.add_argument("--public", action="store_true")
    mode.set_defaults(run=headers)
    mode = modes.add_parser("symbols")
    mode.add_argument("--library", required=True)
    mode.set_defaults(run=symbols)
    mode = modes.add_parser("probes")
    mode.add_argument("--program", required=True)
    mode.add_argument("--none", action="store_true")
    mode.set_defaults(run=probes)
    options = parser.parse_args()
    compiler = getattr(options, "compiler", None)
    if compiler and not shutil.which(compiler):
        return fail(f"{compiler} is not installed; scripts/setup installs it")
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
