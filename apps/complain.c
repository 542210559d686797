/* SPDX-License-Identifier: MIT */
/* The one-line complaint. A file of its own, so that the option parser links without main.c. */
#include "apps/command.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fprintf(stderr, "rdy %s: ", name);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}
