# SPDX-License-Identifier: MIT
"""The self-test of tidy.py: a clean tree has no finding, and one seed a rule has exactly that one.

Each seed replaces or adds one file of the clean tree. A rule without a seed fails the self-test, so
a rule cannot be added and never be seen to work.
"""

C = "/* SPDX-License-Identifier: MIT */\n"
HASH = "# SPDX-License-Identifier: MIT\n"

# Near misses of every rule: what must not be found.
CLEAN = {
    "include/rdy/x.h": C
    + '#include <rdy/base.h>\n#define RDY_API x\n/* What it does: strcpy() is "banned". */\n'
    + "RDY_API int rdy_x(void);\nRDY_API int rdy_beside_x(int a,\n              int b);\n"
    + "RDY_API int rdy_also(void);\n",
    "engine/atomic.h": C + "static_assert(1, \"\");\n#define load(a) __atomic_load_n(a, 0)\n",
    "engine/sys.c": C + '#include "engine/sys.h"\nint f(void)\n{\n    return -errno;\n}\n',
    "engine/x.c": C
    + '#include <errno.h>\n\n#include "engine/base.h"\n\nint g(struct s *s)\n{\n'
    + '    rdy_assert(s);\n    s->signal(1);\n    return my_strcpy("strcpy(errno)", 1);\n}\n',
    "uring/x.c": C + '#include <liburing.h>\n\n#include "engine/backend.h"\n#include "uring/x.h"\n',
    "fallback/x.c": C + '#include <sys/epoll.h>\n\n#include "engine/sys.h"\nint h = errno;\n',
    "apps/x.c": C + '#include <rdy/rdy.h>\n\n#include "apps/x.h"\n#include "x.h"\nint e = errno;\n',
    "tests/x.c": C + "#include <sys/epoll.h>\n#include <liburing.h>\n#include <stdatomic.h>\n",
    "scripts/x": "#!/bin/sh\n" + HASH + "mktemp -d /tm" "p/x-XX" "XXXX\n",
}

LONG_FUNCTION = "int g(void)\n{\n" + "    rdy_assert(1);\n" * 60 + "}\n"

# (rule, path, text)
SEEDS = [
    ("file-length", "engine/x.c", C + "\n" * 600),
    ("file-length", "engine/x.h", C + "\n" * 300),
    ("function-length", "engine/x.c", C + LONG_FUNCTION),
    ("columns", "engine/x.c", C + "/* " + "x" * 95 + " */\n"),
    ("columns", "scripts/x", "#!/bin/sh\n" + HASH + "# " + "x" * 99 + "\n"),
    ("licence", "engine/x.c", "/* The engine. */\n"),
    ("licence", "scripts/x", "#!/bin/sh\necho\n"),
    ("banned-call", "apps/x.c", C + "int f(void)\n{\n    return atoi(x);\n}\n"),
    ("banned-call", "apps/x.c", C + "void f(void)\n{\n    (void)strcpy(a, b);\n}\n"),
    ("banned-call", "uring/x.c", C + "void f(void)\n{\n    assert(a);\n}\n"),
    ("open-end", "engine/x.c", C + "/* TO" + "DO: later */\n"),
    ("machine-path", "scripts/x", "#!/bin/sh\n" + HASH + "cd /ho" "me/joe\n"),
    ("include-graph", "engine/x.c", C + '#include "uring/ring.h"\n'),
    ("include-graph", "engine/x.c", C + "#include <sys/epoll.h>\n"),
    ("include-graph", "fallback/x.c", C + "#include <liburing.h>\n"),
    ("include-graph", "uring/x.c", C + '#include "engine/driver.h"\n'),
    ("include-graph", "fallback/x.c", C + '#include "uring/ring.h"\n'),
    ("include-graph", "apps/x.c", C + '#include "engine/base.h"\n'),
    ("include-graph", "include/rdy/y.h", C + '#include "engine/base.h"\n'),
    ("atomics", "engine/x.c", C + "#include <stdatomic.h>\n"),
    ("atomics", "uring/x.c", C + "int f(int *a)\n{\n    return __atomic_load_n(a, 5);\n}\n"),
    ("errno", "engine/x.c", C + "int f(void)\n{\n    return -errno;\n}\n"),
    ("errno", "engine/x.c", C + '#include "engine/sys_call.h"\n'),
    ("undocumented", "include/rdy/y.h", C + "\nRDY_API int rdy_y(void);\n"),
    ("undocumented", "include/rdy/y.h", C + "RDY_API int y(void);\n\nRDY_API int z(void);\n"),
    ("undocumented", "include/rdy/y.h", C + "struct y {\n    int x;\n};\nRDY_API int y(void);\n"),
    ("assertion-floor", "engine/x.c", C + "int x;\n" * 500),
    ("dead-file", "engine/dead.c", C),
]


def run(source_of, check, rules):
    """Returns 0 if the clean tree is clean and every seed is found, and nothing beside it."""
    failures = 0

    def findings_of(files):
        compiled = set(CLEAN)
        return check([source_of(path, text) for path, text in files.items()], compiled)

    for rule, path, line, message in findings_of(CLEAN):
        print(f"clean tree: {path}:{line}: {rule}: {message}")
        failures += 1
    for rule, path, text in SEEDS:
        found = {finding[0] for finding in findings_of({**CLEAN, path: text})}
        if found != {rule}:
            print(f"seed for {rule} in {path}: found {sorted(found) or 'nothing'}")
            failures += 1
    for rule in set(rules) - {seed[0] for seed in SEEDS}:
        print(f"{rule}: no seed")
        failures += 1
    print(f"tidy: self-test of {len(rules)} rules with {len(SEEDS)} seeds, {failures} failures")
    return 1 if failures else 0
