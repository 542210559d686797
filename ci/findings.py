#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What three static analysers find in the sources, against the list of what is known to be wrong.

    findings.py BUILD       BUILD has a compile_commands.json of clang

gcc -fanalyzer, clang-tidy and cppcheck read every C file of the library and of the command. Each
has its blind spots (assertions with messages, ownership by a pointer into the middle of a block),
so findings.known lists what was looked at and is not a bug, with the reason. A finding that is not
on the list fails, and so does a line of the list that nothing finds any more.
"""
import collections
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
KNOWN = os.path.join(ROOT, "ci", "findings.known")
FOLDERS = ("engine", "uring", "fallback", "apps")
INCLUDE = ["-I.", "-Iinclude", "-D_GNU_SOURCE", "-DRDY_DEBUG", "-DRDY_FAULTS"]
GCC_LINE = re.compile(r"^([^:\s]+):\d+:\d+: warning: .*\[-W(analyzer-[\w-]+)\]$")
TIDY_LINE = re.compile(
    r"^(?:\S*/)?((?:engine|uring|fallback|apps)/[^:/]+):\d+:\d+: \w+: .*\[([\w.,-]+)\]$"
)
CPPCHECK_LINE = re.compile(r"^([^:\s]+):(\w+)$")


def sources():
    return sorted(path for folder in FOLDERS for path in glob.glob(f"{folder}/*.c"))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def matches(pattern, text):
    """(file, check) for each line that is a finding; a place counts once, however often printed."""
    lines = dict.fromkeys(text.splitlines())
    return [(match[1], match[2]) for line in lines if (match := pattern.match(line))]


def gcc(path):
    command = ["gcc", "-std=c17", *INCLUDE, "-O1", "-fanalyzer", "-c", "-o", os.devnull, path]
    return [("gcc", *found) for found in matches(GCC_LINE, run(command))]


def tidy(path, build):
    text = run(["clang-tidy", "--quiet", "-p", build, path])
    if "error:" in text:
        raise RuntimeError(f"clang-tidy cannot read {path}:\n{text}")
    return [("clang-tidy", *found) for found in matches(TIDY_LINE, text)]


def cppcheck():
    text = run(["cppcheck", "--enable=warning,performance,portability", "--std=c11", "--quiet",
                "--suppress=missingIncludeSystem", "--template={file}:{id}", *INCLUDE, *FOLDERS])
    return [("cppcheck", *found) for found in matches(CPPCHECK_LINE, text)]


def find_all(build):
    found = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(cppcheck)]
        jobs += [pool.submit(tidy, path, build) for path in sources()]
        jobs += [pool.submit(gcc, path) for path in sources()]
        for job in jobs:
            found.update(job.result())
    return found


def look_again(found, known, build):
    """
    clang-tidy 14 now and then tells of what is not there (an unterminated va_list in a file without
    any), and does not the next time: what is not known is a finding if it is found twice.
    """
    unknown = [key for key in found if key[0] == "clang-tidy" and found[key] > known[key]]
    again = {path: collections.Counter(tidy(path, build)) for path in {key[1] for key in unknown}}
    for key in unknown:
        count = again[key[1]][key]
        if count < found[key]:
            print(f"findings: {' '.join(key)}: {found[key]}, and {count} when asked again")
            found[key] = count
    return +found


def read_known():
    known = collections.Counter()
    with open(KNOWN, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            fields = line.split("#", 1)[0].split()
            if not fields:
                continue
            if len(fields) != 4 or not fields[3].isdigit() or "#" not in line:
                sys.exit(f"{KNOWN}:{number}: wanted TOOL FILE CHECK COUNT # REASON")
            known[tuple(fields[:3])] = int(fields[3])
    return known


def main():
    if len(sys.argv) != 2 or not os.path.exists(f"{sys.argv[1]}/compile_commands.json"):
        sys.exit("usage: findings.py BUILD, a folder with compile_commands.json")
    build = os.path.abspath(sys.argv[1])
    os.chdir(ROOT)
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        compiled = {os.path.relpath(entry["file"], ROOT) for entry in json.load(file)}
    unknown = [path for path in sources() if path not in compiled]
    if unknown:
        sys.exit(f"findings: {build} does not compile {unknown[0]}")
    known = read_known()
    found = look_again(find_all(build), known, build)
    for key, count in sorted(found.items()):
        if count > known[key]:
            print(f"findings: {' '.join(key)}: {count}, known are {known[key]}")
    for key, count in sorted(known.items()):
        if count > found[key]:
            print(f"findings: {' '.join(key)}: {found[key]}, but findings.known lists {count}")
    tools = collections.Counter(key[0] for key in found.elements())
    print("findings: " + ", ".join(f"{tool} {count}" for tool, count in sorted(tools.items()))
          + f" in {len(sources())} files, all known" * (found == known))
    return 0 if found == known else 1


if __name__ == "__main__":
    sys.exit(main())
