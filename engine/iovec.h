/* SPDX-License-Identifier: MIT */
/* One buffer as the vectored system calls take it. */
#ifndef RDY_ENGINE_IOVEC_H
#define RDY_ENGINE_IOVEC_H

#include <sys/uio.h>

#include "engine/base.h"

/* To be sent: the kernel only reads through it; that it is not const is the interface's fault. */
static inline struct iovec rdy_iovec_of(const void *data, size_t data_len)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = data_len};
}

#endif
