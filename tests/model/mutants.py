#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The mutation test of the model checker: each seeded bug must be found by a target.

    mutants.py --build DIR [--jobs N] [--table] [NAME...]
    mutants.py --list

Each mutant of seeds() is a copy of one engine file with one text replaced. The files that see it
are compiled as DIR compiled them and linked with the rest of DIR's model_check; then its targets
run until one fails. A mutant that compiles with an error, or that no target finds, fails the test.
Each schedule goes to stdout, the table comes last; with --table
only that, for docs/testing.md. The mutant's model_check stays in
DIR/mutants/NAME, so that its schedule can be replayed.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import time

import mutants_seeds

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
INCLUDE = re.compile(r'^#include "(engine/[\w.]+)"', re.M)
TARGET_SECONDS = 60
COLUMNS = 120  # of a schedule's lines; who wants the callers replays it


class Build:
    """What model_check of a build folder is made of."""

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.model = os.path.join(self.folder, "tests", "model")
        self.commands = {}
        with open(os.path.join(self.folder, "compile_commands.json"), encoding="utf-8") as file:
            for entry in json.load(file):
                if "rdy_model_engine.dir" in entry["command"]:
                    path = os.path.relpath(os.path.realpath(entry["file"]), ROOT)
                    self.commands[path] = entry
        self.includes = {path: includes_of(path) for path in self.commands}

    def objects(self):
        for name in ("model_check.dir", "rdy_model_targets.dir"):
            for folder, _, files in os.walk(os.path.join(self.model, "CMakeFiles", name)):
                yield from (os.path.join(folder, file) for file in files if file.endswith(".o"))

    def link(self, objects, program):
        library = os.path.join(self.model, "librdy_model_engine.a")
        return ["cc", "-no-pie", "-o", program, *objects, *self.objects(), library]

    def compile(self, path, source, overlay, output):
        """The command that compiles @source in the place of @path."""
        entry = self.commands[path]
        words = [word for word in shlex.split(entry["command"]) if word not in ("-Werror",)]
        words[words.index("-o") + 1] = output
        words[words.index("-c") + 1] = source
        words.insert(1 if "ccache" not in words[0] else 2, "-I" + overlay)
        return words, entry["directory"]


def includes_of(path, seen=None):
    """The engine headers that @path includes, directly or not."""
    seen = set() if seen is None else seen
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        for name in INCLUDE.findall(file.read()):
            if name not in seen:
                seen.add(name)
                includes_of(name, seen)
    return seen


def run(command, folder=None, timeout=None):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder,
                                timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout} s"
    return result.returncode, result.stdout + result.stderr


class Broken(Exception):
    """The mutant itself is no good."""


def mutate(build, seed, folder):
    """Builds the mutant's model_check; its path."""
    with open(os.path.join(ROOT, seed.path), encoding="utf-8") as file:
        text = file.read()
    if text.count(seed.old) != 1:
        raise Broken(f"{seed.path} has its text {text.count(seed.old)} times, not once")
    source = os.path.join(folder, seed.path)
    os.makedirs(os.path.dirname(source), exist_ok=True)
    with open(source, "w", encoding="utf-8") as file:
        file.write(text.replace(seed.old, seed.new))
    if seed.path.endswith(".h"):
        paths = [path for path in build.commands if seed.path in build.includes[path]]
        paths = [path for path in paths if not seed.only or path in seed.only]
    else:
        paths = [seed.path]
    objects = []
    for path in paths:
        objects.append(os.path.join(folder, os.path.basename(path) + ".o"))
        file = source if path == seed.path else os.path.join(ROOT, path)
        status, output = run(*build.compile(path, file, folder, objects[-1]))
        if status != 0:
            raise Broken(f"{path} does not compile:\n{output}")
    program = os.path.join(folder, "model_check")
    status, output = run(build.link(objects, program))
    if status != 0:
        raise Broken(f"it does not link:\n{output}")
    return program


LAYERS = ("data race", "lost wake-up", "deadlock", "livelock", "broken invariant", "leak",
          "freed memory", "memory that is nobody's", "freed twice", "not true")


def hunt(build, seed):
    """(is_caught, row, output) of one mutant."""
    began = time.monotonic()
    folder = os.path.join(build.folder, "mutants", seed.name)
    try:
        program = mutate(build, seed, folder)
    except Broken as problem:
        return False, (seed.name, "-", "no mutant", "-", "-"), str(problem)
    everything = ""
    for target in seed.targets:
        command = [program, "--target", target, "--seconds", str(TARGET_SECONDS)]
        status, output = run(command, timeout=2 * TARGET_SECONDS)
        everything += output
        failure = re.search(r"^FAILED: \w+: (.*)", output, re.M)
        if status == 1 and failure:
            layer = next((name for name in LAYERS if name in failure.group(1)), "its own check")
            count = re.search(r": (\d+) executions", output)
            seconds = f"{time.monotonic() - began:.1f} s"
            return True, (seed.name, target, layer, count.group(1), seconds), output
    return False, (seed.name, " ".join(seed.targets), "NOT FOUND", "-", "-"), everything


def print_table(rows):
    head = ("mutant", "target", "found as", "executions", "in")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def print_markdown(seeds, rows):
    print("| mutant | what is wrong | target | found as | executions |")
    print("|---|---|---|---|---:|")
    for seed, (name, target, layer, executions, _) in zip(seeds, rows):
        print(f"| `{name}` | {seed.why} | `{target}` | {layer} | {executions} |")


def main():
    parser = argparse.ArgumentParser(description="Seeded bugs, which the model checker must find.")
    parser.add_argument("--build", default=os.path.join(ROOT, "build-test"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    seeds = mutants_seeds.seeds()
    if options.list:
        for seed in seeds:
            print(f"{seed.name}: {seed.path}: {seed.why}")
        return 0
    unknown = set(options.names) - {seed.name for seed in seeds}
    if unknown:
        print("no such mutant:", " ".join(sorted(unknown)), file=sys.stderr)
        return 2
    seeds = [seed for seed in seeds if not options.names or seed.name in options.names]
    build = Build(options.build)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda seed: hunt(build, seed), seeds))
    rows = [row for _, row, _ in results]
    missed = sum(1 for is_caught, _, _ in results if not is_caught)
    if options.table:
        print_markdown(seeds, rows)
        return 1 if missed else 0
    for seed, (_, _, output) in zip(seeds, results):
        print(f"--- {seed.name}: {seed.why}")
        for line in output.split("\n"):
            print(line if line.startswith("replay:") else line[:COLUMNS])
    print_table(rows)
    print(f"mutants: {len(seeds)}, {missed} not found, {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
