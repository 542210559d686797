/* SPDX-License-Identifier: MIT */
/* What a fuzz target offers: libFuzzer's interface, which fuzz_main.c drives as well. */
#ifndef RDY_TESTS_FUZZ_FUZZ_H
#define RDY_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
