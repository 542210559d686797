/* SPDX-License-Identifier: MIT */
/* Readiness as text, for logs. */
#include <rdy/ready.h>

#include <stdio.h>

#include "engine/base.h"

static const struct {
    uint32_t flag;
    const char *name;
} ready_names[] = {
    {RDY_READABLE, "readable"},       {RDY_WRITABLE, "writable"},
    {RDY_READ_CLOSED, "read_closed"}, {RDY_WRITE_CLOSED, "write_closed"},
    {RDY_PRIORITY, "priority"},       {RDY_ERROR, "error"},
};

static size_t append(char *buf, size_t buf_len, size_t used, const char *name)
{
    int n = snprintf(buf + used, buf_len - used, "%s%s", used ? "|" : "", name);

    return n < 0 || (size_t)n >= buf_len - used ? buf_len - 1 : used + (size_t)n;
}

const char *rdy_ready_format(uint32_t ready, char *buf, size_t buf_len)
{
    size_t used = 0;

    if (buf_len == 0)
        return buf;
    buf[0] = '\0';
    for (size_t i = 0; i < sizeof(ready_names) / sizeof(ready_names[0]); i++) {
        if (ready & ready_names[i].flag)
            used = append(buf, buf_len, used, ready_names[i].name);
    }
    if (ready & ~RDY_READY_ALL) {
        char rest[16];

        (void)snprintf(rest, sizeof(rest), "0x%x", ready & ~RDY_READY_ALL);
        used = append(buf, buf_len, used, rest);
    }
    if (used == 0)
        (void)append(buf, buf_len, 0, "none");
    return buf;
}
