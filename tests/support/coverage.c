/* SPDX-License-Identifier: MIT */
/*
 * A program counts its lines when it exits. Many tests run what cannot be taken back in a child
 * that leaves by _exit(), and some expect one that aborts: so these two write the counts first. The
 * linker puts them in the place of the C library's (--wrap, in tests/CMakeLists.txt), in builds for
 * coverage only.
 */
#include <stdlib.h>
#include <unistd.h>

#include "engine/base.h"

#ifdef RDY_COVERAGE

void __gcov_dump(void);
__attribute__((noreturn)) void __real__exit(int status);
__attribute__((noreturn)) void __wrap__exit(int status);
__attribute__((noreturn)) void __real_abort(void);
__attribute__((noreturn)) void __wrap_abort(void);

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}

void __wrap_abort(void)
{
    __gcov_dump();
    __real_abort();
}

#endif
