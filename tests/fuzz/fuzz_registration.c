/* SPDX-License-Identifier: MIT */
/*
 * Sequences of operations on real files, on io_uring and on epoll, against what poll(2) says.
 *
 * An input is a list of steps of two bytes: the operation in four bits, the slot in one, on which
 * thread in one; then its argument. See tests/fuzz/world.h for what must hold.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 4096u

static struct world worlds[2];

static void close_worlds(void)
{
    printf("fuzz: %llu operations on %s, %llu on %s\n", (unsigned long long)worlds[0].operations,
           worlds[0].name, (unsigned long long)worlds[1].operations, worlds[1].name);
    world_close(&worlds[0]);
    world_close(&worlds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!worlds[0].driver) {
        world_open(&worlds[0], RDY_BACKEND_URING);
        world_open(&worlds[1], RDY_BACKEND_EPOLL);
        atexit(close_worlds);
    }
    for (size_t i = 0; i + 1 < size && i / 2 < STEPS_MAX; i += 2) {
        struct world_op op = {
            .code = data[i] & 0x0f,
            .slot = (data[i] >> 4) & 0x01,
            .is_foreign = (data[i] & 0x40) != 0,
            .arg = data[i + 1],
        };

        world_do(&worlds[0], &op);
        world_do(&worlds[1], &op);
    }
    world_end(&worlds[0]);
    world_end(&worlds[1]);
    return 0;
}
