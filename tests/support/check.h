/* SPDX-License-Identifier: MIT */
/*
 * What every test file begins with: cmocka, which wants four headers before its
 * own, and two claims that cmocka lacks.
 */
#ifndef RDY_TESTS_CHECK_H
#define RDY_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base.h"

/* A claim that fails the test, with its text. */
#define check(x) _assert_true((x) ? 1 : 0, #x, __FILE__, __LINE__)

/* The same in a forked child, where cmocka must not jump: the child says why
 * and ends with 1. */
#define child_check(x)                                                                             \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            dprintf(2, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #x);                       \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#endif
