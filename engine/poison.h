/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer and its leak checker must be told about memory that they did not hand out
 * themselves, and the model checker about memory that it did. Nothing in other builds.
 */
#ifndef RDY_ENGINE_POISON_H
#define RDY_ENGINE_POISON_H

#include "engine/atomic.h"

#if defined(__SANITIZE_ADDRESS__)
#define RDY_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RDY_ASAN
#endif
#endif

#ifdef RDY_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

/* From now on a touch of these bytes is reported. Bounds are multiples of 8. */
static inline void rdy_poison(const void *bytes, size_t size)
{
#ifdef RDY_ASAN
    __asan_poison_memory_region(bytes, size);
#elif defined(RDY_MODEL)
    rdy_model_poison(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

static inline void rdy_unpoison(const void *bytes, size_t size)
{
#ifdef RDY_ASAN
    __asan_unpoison_memory_region(bytes, size);
#elif defined(RDY_MODEL)
    rdy_model_unpoison(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

/* What pointers in these bytes point to is not leaked. */
static inline void rdy_leak_root_add(const void *bytes, size_t size)
{
#ifdef RDY_ASAN
    __lsan_register_root_region(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

static inline void rdy_leak_root_remove(const void *bytes, size_t size)
{
#ifdef RDY_ASAN
    __lsan_unregister_root_region(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

#endif
