/* SPDX-License-Identifier: MIT */
/*
 * What every file of the engine stands on: assertions, attributes, a few integer helpers.
 *
 * rdy_assert() is checked in every build: a false one is our bug or our caller's, never the
 * kernel's and never a peer's. rdy_debug() is for checks that cost something on a hot path, and is
 * compiled in with RDY_DEBUG.
 */
#ifndef RDY_ENGINE_BASE_H
#define RDY_ENGINE_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <rdy/base.h>

#define rdy_likely(x)   __builtin_expect(!!(x), 1)
#define rdy_unlikely(x) __builtin_expect(!!(x), 0)

/*
 * On the way of every request. Linkers put such functions side by side: a sleep leaves little of
 * them in the nearest cache, and what lay between them would be fetched along with them.
 */
#define RDY_HOT __attribute__((hot))

/* Prints the claim and where it stood, then aborts. */
__attribute__((noreturn, cold)) void rdy_panic(const char *claim, const char *file, int line);

#define rdy_assert(x) (rdy_likely(x) ? (void)0 : rdy_panic(#x, __FILE__, __LINE__))

#ifdef RDY_DEBUG
#define rdy_debug(x) rdy_assert(x)
#else
#define rdy_debug(x) ((void)sizeof(!!(x)))
#endif

/* Under a sanitizer, which wants to see the C library's calls rather than bare system calls. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RDY_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define RDY_SANITIZED 1
#endif
#endif

/* clang's thread-safety analysis; nothing under gcc. On functions only: see docs/design.md. */
#if defined(__clang__)
#define RDY_CAPABILITY(name) __attribute__((capability(name)))
#define RDY_REQUIRES(lock)   __attribute__((requires_capability(lock)))
#define RDY_EXCLUDES(lock)   __attribute__((locks_excluded(lock)))
#define RDY_ACQUIRES(lock)   __attribute__((acquire_capability(lock)))
#define RDY_RELEASES(lock)   __attribute__((release_capability(lock)))
#define RDY_UNCHECKED        __attribute__((no_thread_safety_analysis))
#else
#define RDY_CAPABILITY(name)
#define RDY_REQUIRES(lock)
#define RDY_EXCLUDES(lock)
#define RDY_ACQUIRES(lock)
#define RDY_RELEASES(lock)
#define RDY_UNCHECKED
#endif

/*
 * The bytes that two cores may not both write without slowing each other down: the line, or the
 * pair of lines where the hardware fetches two at a time.
 */
#if defined(__x86_64__) || defined(__aarch64__) || defined(__powerpc64__)
#define RDY_CACHE_LINE 128
#elif defined(__s390x__)
#define RDY_CACHE_LINE 256
#else
#define RDY_CACHE_LINE 64
#endif

#define rdy_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define RDY_NS_PER_S  INT64_C(1000000000)
#define RDY_NS_PER_MS INT64_C(1000000)
#define RDY_NS_PER_US INT64_C(1000)

#endif
