/* SPDX-License-Identifier: MIT */
#include "engine/base.h"

#include <stdio.h>
#include <stdlib.h>

void rdy_panic(const char *claim, const char *file, int line)
{
    (void)fprintf(stderr, "rdy: broken invariant: %s (%s:%d)\n", claim, file, line);
    abort();
}
