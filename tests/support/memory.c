/* SPDX-License-Identifier: MIT */
#include "tests/support/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "engine/atomic.h"
#include "tests/support/check.h"

#define NTH_MAX 5000u /* more allocations than any scene makes */
#define FDS_MAX 256

static struct rdy_a32 is_watched;
static struct rdy_a64 live; /* allocations that were not freed; wraps below zero */
static _Thread_local struct {
    bool is_on;
    uint32_t fail_at;
    uint32_t calls;
} here;

void memory_watch(uint32_t fail_at)
{
    here.is_on = true;
    here.fail_at = fail_at;
    here.calls = 0;
    rdy_a64_store_relaxed(&live, 0);
    (void)rdy_a32_swap_seq_cst(&is_watched, 1);
}

uint32_t memory_unwatch(int64_t *left)
{
    (void)rdy_a32_swap_seq_cst(&is_watched, 0);
    here.is_on = false;
    *left = (int64_t)rdy_a64_load_relaxed(&live);
    return here.calls;
}

/* True if this one is to fail. */
static bool fails(void)
{
    return here.is_on && ++here.calls == here.fail_at;
}

static void *came(void *made)
{
    if (made && rdy_a32_load_relaxed(&is_watched) != 0)
        (void)rdy_a64_add_relaxed(&live, 1);
    return made;
}

static void went(const void *freed)
{
    if (freed && rdy_a32_load_relaxed(&is_watched) != 0)
        (void)rdy_a64_add_relaxed(&live, UINT64_MAX); /* minus one */
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void __real_free(void *memory);
void __wrap_free(void *memory);
void *__real_mallocx(size_t size, int flags);
void *__wrap_mallocx(size_t size, int flags);
void __real_dallocx(void *memory, int flags);
void __wrap_dallocx(void *memory, int flags);
int __real_mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len);
int __wrap_mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : came(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : came(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    bool is_new = !old;
    void *made = fails() ? NULL : __real_realloc(old, size);

    return is_new ? came(made) : made;
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : came(__real_aligned_alloc(align, size));
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    int err = fails() ? ENOMEM : __real_posix_memalign(out, align, size);

    if (err == 0)
        (void)came(*out);
    return err;
}

void __wrap_free(void *freed)
{
    went(freed);
    __real_free(freed);
}

void *__wrap_mallocx(size_t size, int flags)
{
    return fails() ? NULL : came(__real_mallocx(size, flags));
}

void __wrap_dallocx(void *freed, int flags)
{
    went(freed);
    __real_dallocx(freed, flags);
}

/* A new arena is an allocation, too; it is not given back, but kept for the next. */
int __wrap_mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
{
    if (strcmp(name, "arenas.create") == 0 && fails())
        return EAGAIN;
    return __real_mallctl(name, old, old_len, new, new_len);
}

static int fds_open(void)
{
    int count = 0;

    for (int fd = 0; fd < FDS_MAX; fd++)
        count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
}

uint32_t memory_walk(memory_scene_fn *run, void *arg)
{
    int fds;
    uint32_t nth;

    assert_int_equal(run(arg), 0); /* what is made once for the process is there */
    fds = fds_open();
    for (nth = 1; nth < NTH_MAX; nth++) {
        int64_t left;
        uint32_t calls;
        int rc;

        memory_watch(nth);
        rc = run(arg);
        calls = memory_unwatch(&left);
        if (calls < nth) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != 0 && rc != -ENOMEM)
            fail_msg("with allocation %u failing: %d", nth, rc);
        if (left != 0)
            fail_msg("with allocation %u failing %lld are not freed", nth, (long long)left);
        assert_int_equal(fds_open(), fds);
    }
    print_message("%u allocations failed, one after the other\n", nth - 1);
    assert_true(nth < NTH_MAX);
    return nth - 1;
}
