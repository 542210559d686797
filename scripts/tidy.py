#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The style test: what neither the compilers nor clang-format hold.

Reads every source of the tree and prints one line a finding: file, line, rule, what to do instead.
No finding: exit 0. It reads text, not syntax: comments and strings are blanked first, functions are
found by a brace in the first column, which is where clang-format puts it.

    tidy.py                  check the tree
    tidy.py --build DIR      also check that the build in DIR compiles every C and C++ file
    tidy.py --list-c         print the C and C++ files, for clang-format
    tidy.py --self-test      seed one violation a rule, and expect each to be found
"""
import argparse
import json
import os
import re
import statistics
import sys

LINES_MAX = {".c": 600, ".cc": 600, ".h": 300}
FUNCTION_LINES_MAX = 60
COLUMNS_MAX = 100
ASSERTIONS_PER_KLOC_MIN = 20

C_SUFFIXES = (".c", ".h", ".cc")
TEXT_SUFFIXES = C_SUFFIXES + (".py", ".sh", ".cmake", ".txt", ".md", ".json", ".in")
# What a backend may know of the engine.
BACKEND_SEAM = ("backend", "base", "atomic", "message_head", "sys")
# Programs that tests build by themselves.
SEPARATE = ("tests/compile/", "tests/install/user/")

# Written in two halves, so that this file does not find itself.
OPEN_ENDS = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"]) + r")\b")
MACHINE_PATHS = re.compile(
    "|".join(["/ho" r"me/\w", "/Us" r"ers/\w", "/ro" r"ot/\w", "/wo" r"rk/\w", "/tm" "p/build"])
)

BANNED = {
    "strcpy": "memcpy() with a length that was checked, or snprintf()",
    "strncpy": "memcpy() and a NUL, or snprintf()",
    "strcat": "snprintf() into the rest of the buffer",
    "strncat": "snprintf() into the rest of the buffer",
    "sprintf": "snprintf()",
    "vsprintf": "vsnprintf()",
    "gets": "fgets() or read()",
    "atoi": "strtol() with its end and range checked",
    "atol": "strtol() with its end and range checked",
    "atof": "strtod() with its end checked",
    "strtok": "strchr() or strtok_r()",
    "alloca": "an array of fixed size",
    "signal": "sigaction()",
    "select": "poll() or the engine",
    "rand": "a seeded generator, with the seed printed",
    "gethostbyname": "getaddrinfo()",
}
# What a library may not do to its host: a second heap, output, a check that NDEBUG removes.
BANNED_IN_ENGINE = {
    "strdup": "mallocx() and memcpy()",
    "assert": "rdy_assert()",
    "printf": "a return value, a counter, or the report that the caller gave",
}


class Source:
    """One file: its text as it is, with comments blanked, and with strings blanked too."""

    def __init__(self, path, text):
        self.path = path
        self.folder = path.split("/")[0] if "/" in path else ""
        self.suffix = os.path.splitext(path)[1]
        self.text = text
        self.lines = text.split("\n")
        if text.endswith("\n"):
            self.lines.pop()
        self.is_c = self.suffix in C_SUFFIXES
        self.commentless = blank(text, strings=False) if self.is_c else text
        self.code = blank(text, strings=True) if self.is_c else text

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1


TOKENS = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'", re.S
)


def blank(text, strings):
    def replace(match):
        token = match.group(0)
        if token[0] in "\"'" and not strings:
            return token
        return re.sub(r"[^\n]", " ", token)

    return TOKENS.sub(replace, text)


def functions(source):
    """Yields (line, lines, head) of every function whose braces stand in the first column."""
    lines = source.code.split("\n")
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i - 1
            while start > 0 and lines[start - 1].strip() and not re.search(
                r"[;}]\s*$|^#", lines[start - 1]
            ):
                start -= 1
            head = " ".join(lines[start:i])
            if "(" not in head:  # a namespace, a class, a struct
                start = None
        elif line.startswith("}") and start is not None:
            yield start + 1, i - start + 1, head
            start = None


# The rules. Each takes all sources and yields (path, line, message).


def rule_file_length(tree):
    for source in tree:
        most = LINES_MAX.get(source.suffix)
        if most and len(source.lines) > most:
            yield source.path, most + 1, f"{len(source.lines)} lines; at most {most}: split it"


def rule_function_length(tree):
    for source in tree:
        if not source.is_c:
            continue
        for line, length, _ in functions(source):
            if length > FUNCTION_LINES_MAX:
                message = f"a function of {length} lines; at most {FUNCTION_LINES_MAX}"
                yield source.path, line, message


def rule_columns(tree):
    for source in tree:
        if source.suffix in (".md", ".json"):
            continue
        for number, line in enumerate(source.lines, 1):
            if len(line) > COLUMNS_MAX:
                yield source.path, number, f"{len(line)} columns; at most {COLUMNS_MAX}"


def rule_licence(tree):
    for source in tree:
        if source.suffix in (".md", ".json") or not source.text:
            continue
        first = source.lines[0]
        if first.startswith("#!") and len(source.lines) > 1:
            first = source.lines[1]
        mark = "SPDX-License-Identifier: MIT"
        want = f"/* {mark} */" if source.is_c else f"# {mark}"
        if first != want:
            yield source.path, 1, f"the first line is not '{want}'"


def rule_banned_call(tree):
    for source in tree:
        if not source.is_c:
            continue
        banned = dict(BANNED)
        if source.folder in ("engine", "uring", "fallback"):
            banned.update(BANNED_IN_ENGINE)
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(banned) + r")\s*\(")
        for match in pattern.finditer(source.code):
            name = match.group(1)
            yield source.path, source.line_of(match.start()), f"{name}(): use {banned[name]}"


def rule_open_end(tree):
    for source in tree:
        for match in OPEN_ENDS.finditer(source.text):
            yield source.path, source.line_of(match.start()), (
                f"'{match.group(0)}' in the tree: do it now, or file an issue"
            )


def rule_machine_path(tree):
    for source in tree:
        for match in MACHINE_PATHS.finditer(source.text):
            yield source.path, source.line_of(match.start()), (
                f"'{match.group(0)}' is a path of somebody's machine"
            )


INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*([<\"])([^>\"\n]+)[>\"]", re.M)


def include_problem(source, is_quoted, name):
    """Why @source may not include @name, or None."""
    folder, top = source.folder, name.split("/")[0]
    is_check = folder in ("tests", "bench")
    if re.match(r"liburing|linux/io_uring\.h$", name) and folder != "uring" and not is_check:
        return "only uring/ knows io_uring"
    if name == "sys/epoll.h" and folder != "fallback" and not is_check:
        return "only fallback/ knows epoll"
    if not is_quoted or is_check:
        return None
    if folder == "include":
        return "a public header includes <rdy/...> and the system's headers only"
    if folder == "engine" and top != "engine":
        return "the engine includes its own headers and <rdy/...> only"
    if folder in ("uring", "fallback"):
        seam = [f"engine/{header}.h" for header in BACKEND_SEAM]
        if top != folder and "/" in name and name not in seam:
            return f"a backend sees of the engine only {', '.join(seam)}"
    if folder in ("apps", "examples") and top in ("engine", "uring", "fallback", "include"):
        return "programs use <rdy/...> only, as a user's would"
    return None


def rule_include_graph(tree):
    for source in tree:
        if not source.is_c:
            continue
        for match in INCLUDE.finditer(source.commentless):
            problem = include_problem(source, match.group(1) == '"', match.group(2))
            if problem:
                yield source.path, source.line_of(match.start()), f"{match.group(2)}: {problem}"


def rule_atomics(tree):
    pattern = re.compile(r"\b__(?:atomic|sync)_\w+|\b_Atomic\b|stdatomic\.h|\batomic_\w+\s*\(")
    for source in tree:
        if not source.is_c or source.folder in ("tests", "bench"):
            continue
        if source.path == "engine/atomic.h":
            continue
        for match in pattern.finditer(source.code):
            yield source.path, source.line_of(match.start()), (
                f"{match.group(0)}: an atomic is touched in engine/atomic.h only, order in the name"
            )


def rule_errno(tree):
    for source in tree:
        is_sys = re.fullmatch(r"engine/(sys\w*\.c|sys_call\.h)", source.path)
        if source.folder not in ("engine", "include") or not source.is_c or is_sys:
            continue
        for match in re.finditer(r"(?<![\w.>])errno\b(?!\.h)", source.code):
            yield source.path, source.line_of(match.start()), (
                "errno is read in engine/sys*.c only; everything else returns -errno"
            )
        for match in re.finditer(r'#include "engine/sys_call\.h"', source.commentless):
            yield source.path, source.line_of(match.start()), (
                "engine/sys_call.h is for engine/sys*.c: put the call into a wrapper there"
            )


def is_documented(lines, index):
    """True if a comment stands above, perhaps one for several declarations without a gap."""
    index -= 1
    while index >= 0 and re.match(r"RDY_API|\s+\S", lines[index]) and "*/" not in lines[index]:
        index -= 1
    return index >= 0 and lines[index].endswith("*/")


def rule_undocumented(tree):
    for source in tree:
        if source.folder != "include":
            continue
        for number, line in enumerate(source.lines, 1):
            if line.startswith("RDY_API") and not is_documented(source.lines, number - 1):
                yield source.path, number, "an RDY_API declaration without a comment above it"


ASSERTION = re.compile(
    r"^(?![ \t]*#[ \t]*define).*?\b(?:rdy_assert|rdy_debug|static_assert)\(", re.M
)


def assertion_figures(tree):
    """(assertions, code lines) of the engine; lines that are blank or comment do not count."""
    found = lines = 0
    for source in tree:
        if source.folder != "engine" or not source.is_c:
            continue
        found += len(ASSERTION.findall(source.code))
        lines += sum(1 for line in source.code.split("\n") if line.strip())
    return found, lines


def rule_assertion_floor(tree):
    found, lines = assertion_figures(tree)
    if found * 1000 < ASSERTIONS_PER_KLOC_MIN * lines:
        yield "engine", 0, (
            f"{found} assertions in {lines} lines; at least {ASSERTIONS_PER_KLOC_MIN} a thousand"
        )


def rule_dead_file(tree, compiled, skipped):
    """@compiled: the paths that the build compiles; None: not asked."""
    if compiled is None:
        return
    for source in tree:
        if source.suffix not in (".c", ".cc") or source.path.startswith(SEPARATE):
            continue
        if source.folder not in skipped and source.path not in compiled:
            yield source.path, 1, "no target compiles this file"


RULES = {
    "file-length": rule_file_length,
    "function-length": rule_function_length,
    "columns": rule_columns,
    "licence": rule_licence,
    "banned-call": rule_banned_call,
    "open-end": rule_open_end,
    "machine-path": rule_machine_path,
    "include-graph": rule_include_graph,
    "atomics": rule_atomics,
    "errno": rule_errno,
    "undocumented": rule_undocumented,
    "assertion-floor": rule_assertion_floor,
    "dead-file": rule_dead_file,
}


def check(tree, compiled=None, skipped=()):
    """Returns every finding as (rule, path, line, message)."""
    findings = []
    for name, rule in RULES.items():
        arguments = (tree, compiled, skipped) if rule is rule_dead_file else (tree,)
        findings += [(name, *finding) for finding in rule(*arguments)]
    return findings


def is_script(path):
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def paths_of(root):
    """The files of the tree that the rules know, without build folders; sorted."""
    for folder, folders, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        if "CMakeCache.txt" in files:
            folders[:] = []
            continue
        folders[:] = sorted(
            name
            for name in folders
            if name not in (".git", "__pycache__")
            and not (relative == "." and name.startswith("build"))
            and (relative, name) != ("bench", "results")
        )
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            if name.endswith(TEXT_SUFFIXES) or ("." not in name and is_script(path)):
                yield os.path.normpath(os.path.join(relative, name))


def load(root):
    tree = []
    for path in paths_of(root):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            tree.append(Source(path, file.read()))
    return tree


def compiled_by(build, root):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    return {
        os.path.relpath(os.path.join(entry["directory"], entry["file"]), root) for entry in entries
    }


def print_figures(tree):
    lengths = [length for source in tree if source.is_c for _, length, _ in functions(source)]
    found, lines = assertion_figures(tree)
    print(f"tidy: {len(tree)} files, {sum(len(source.lines) for source in tree)} lines")
    if lengths:
        median = int(statistics.median(lengths))
        print(f"tidy: {len(lengths)} functions, median {median} lines, longest {max(lengths)}")
    if lines:
        share = found * 1000 / lines
        print(f"tidy: {found} assertions in {lines} engine lines, {share:.1f} a thousand")


def main():
    parser = argparse.ArgumentParser(description="The style test.")
    parser.add_argument("--build", help="a build folder with compile_commands.json")
    parser.add_argument("--skip", action="append", default=[], help="a folder not in that build")
    parser.add_argument("--list-c", action="store_true", help="print the C and C++ files")
    parser.add_argument("--self-test", action="store_true", help="prove that each rule can fail")
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

    if options.self_test:
        sys.dont_write_bytecode = True
        import tidy_seeds

        return tidy_seeds.run(Source, check, RULES)
    if options.list_c:
        print("\n".join(path for path in paths_of(root) if path.endswith(C_SUFFIXES)))
        return 0

    tree = load(root)
    compiled = compiled_by(options.build, root) if options.build else None
    findings = check(tree, compiled, options.skip)
    for rule, path, line, message in findings:
        print(f"{path}:{line}: {rule}: {message}")
    print_figures(tree)
    print(f"tidy: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
