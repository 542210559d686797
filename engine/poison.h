/* SPDX-License-Identifier: MIT */
/*
 * What the checkers of memory must be told, each of which sees only a part of it by itself:
 * AddressSanitizer and its leak checker about memory that they did not hand out; MemorySanitizer
 * and Valgrind (which sees no client of the kernel but its system calls) also about bytes that the
 * kernel wrote behind their backs; the model checker about memory that it did hand out. Nothing in
 * other builds.
 */
#ifndef RDY_ENGINE_POISON_H
#define RDY_ENGINE_POISON_H

#include "engine/atomic.h"

#if defined(__SANITIZE_ADDRESS__)
#define RDY_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RDY_ASAN
#elif __has_feature(memory_sanitizer)
#define RDY_MSAN
#endif
#endif

#if defined(RDY_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#elif defined(RDY_MSAN)
#include <sanitizer/msan_interface.h>
#elif defined(RDY_VALGRIND)
#include <valgrind/memcheck.h>
#endif

/*
 * From now on a touch of these bytes is reported; by MemorySanitizer, when something depends on
 * them. Bounds are multiples of 8.
 */
static inline void rdy_poison(const void *bytes, size_t size)
{
#if defined(RDY_ASAN)
    __asan_poison_memory_region(bytes, size);
#elif defined(RDY_MSAN)
    __msan_poison(bytes, size);
#elif defined(RDY_VALGRIND)
    (void)VALGRIND_MAKE_MEM_NOACCESS(bytes, size);
#elif defined(RDY_MODEL)
    rdy_model_poison(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

/* They may be touched again, and what they hold be used. */
static inline void rdy_unpoison(const void *bytes, size_t size)
{
#if defined(RDY_ASAN)
    __asan_unpoison_memory_region(bytes, size);
#elif defined(RDY_MSAN)
    __msan_unpoison(bytes, size);
#elif defined(RDY_VALGRIND)
    (void)VALGRIND_MAKE_MEM_DEFINED(bytes, size);
#elif defined(RDY_MODEL)
    rdy_model_unpoison(bytes, size);
#else
    (void)bytes;
    (void)size;
#endif
}

/*
 * Of @size bytes that may be touched, the kernel has written the first @written, where no checker
 * saw it; what the others hold is nobody's business until they are written, too.
 */
static inline void rdy_written(const void *bytes, size_t written, size_t size)
{
#if defined(RDY_MSAN)
    __msan_unpoison(bytes, written);
    __msan_poison((const char *)bytes + written, size - written);
#elif defined(RDY_VALGRIND)
    (void)VALGRIND_MAKE_MEM_DEFINED(bytes, written);
    (void)VALGRIND_MAKE_MEM_UNDEFINED((const char *)bytes + written, size - written);
#else
    (void)bytes;
    (void)written;
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
