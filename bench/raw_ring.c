/* SPDX-License-Identifier: MIT */
/* The ring of the io_uring baseline: see raw_ring.h. */
#include "bench/raw_ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/uring_newer.h"

#define SQ_ENTRIES   1024
#define CQ_ENTRIES   16384
#define GROUP        0
#define SIGSET_BYTES 8

/* Pieces of deferred work that one enter runs, unless it waits for more completions than that. */
#define TASK_WORK_PORTION 20

static void *make(size_t count, size_t size)
{
    void *made = calloc(count, size);

    if (!made)
        raw_die("memory", "out of it");
    return made;
}

static void complain(const char *flag, const char *text, const char *fix)
{
    fprintf(stderr, "raw_uring: %s: '%s': %s\n", flag, text, fix);
    exit(2);
}

static uint32_t number_of(const char *flag, const char *text, uint32_t max)
{
    char *end = NULL;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value > max)
        complain(flag, text, "use a number, and one that is not too large");
    return (uint32_t)value;
}

static uint32_t power_of(const char *flag, const char *text, uint32_t max)
{
    uint32_t value = number_of(flag, text, max);

    if (value == 0 || (value & (value - 1)))
        complain(flag, text, "use a power of two");
    return value;
}

/* A switch with a number; false if @flag is none. */
static bool parse_number(struct raw_options *options, const char *flag, const char *text)
{
    if (strcmp(flag, "--buffers") == 0)
        options->buffers = power_of(flag, text, 32768);
    else if (strcmp(flag, "--buffer-size") == 0)
        options->buffer_size = power_of(flag, text, 1 << 20);
    else if (strcmp(flag, "--buffer-gap") == 0)
        options->buffer_gap = number_of(flag, text, 1 << 20);
    else if (strcmp(flag, "--wait-for") == 0)
        options->wait_for = number_of(flag, text, CQ_ENTRIES);
    else if (strcmp(flag, "--wait-us") == 0)
        options->wait_us = number_of(flag, text, 1000000);
    else if (strcmp(flag, "--wait-after-full") == 0)
        options->wait_after_full = number_of(flag, text, CQ_ENTRIES);
    else if (strcmp(flag, "--zero-copy-from") == 0)
        options->zero_copy_from = number_of(flag, text, UINT32_MAX);
    else
        return false;
    return true;
}

static bool parse_switch(struct raw_options *options, const char *flag)
{
    if (strcmp(flag, "--bundles") == 0)
        options->has_bundles = true;
    else if (strcmp(flag, "--incremental") == 0)
        options->has_incremental = true;
    else if (strcmp(flag, "--files") == 0)
        options->has_files = true;
    else if (strcmp(flag, "--ring-fd") == 0)
        options->has_ring_fd = true;
    else
        return false;
    return true;
}

void raw_options_parse(struct raw_options *options, int argc, char **argv)
{
    *options = (struct raw_options){.buffers = 256, .buffer_size = 4096, .wait_for = 1};
    for (int i = 1; i < argc; i++) {
        if (parse_switch(options, argv[i]))
            continue;
        if (i + 1 == argc)
            complain(argv[i], "", "it is unknown, or its value is missing");
        if (strcmp(argv[i], "--listen") == 0)
            options->where = argv[i + 1];
        else if (!parse_number(options, argv[i], argv[i + 1]))
            complain(argv[i], argv[i + 1], "there is no such flag");
        i++;
    }
    if (!options->where) {
        fprintf(stderr, "usage: raw_uring --listen HOST:PORT [--buffers N] [--buffer-size BYTES]\n"
                        "    [--buffer-gap BYTES] [--wait-for N --wait-us US]\n"
                        "    [--wait-after-full N] [--zero-copy-from BYTES]\n"
                        "    [--bundles] [--incremental] [--files] [--ring-fd]\n");
        exit(2);
    }
    if (options->wait_for > 1 && options->wait_us == 0)
        complain("--wait-for", "", "give --wait-us, or it could wait for ever");
    if (options->has_bundles && options->has_incremental)
        complain("--bundles", "", "not with --incremental: kernels before 6.15 mix them up");
}

static void buffer_return(struct raw_ring *ring, int id)
{
    const struct raw_options *options = ring->options;
    size_t stride = (size_t)options->buffer_size + options->buffer_gap;
    int mask = io_uring_buf_ring_mask(options->buffers);

    ring->buffers[id] = (struct buffer){.is_kernels = options->has_incremental != 0};
    io_uring_buf_ring_add(ring->buffer_ring, ring->bytes + (size_t)id * stride,
                          options->buffer_size, (unsigned short)id, mask, (int)ring->returned);
    ring->order[ring->order_tail++ & mask] = (uint16_t)id;
    ring->returned++;
}

static int piece_make(struct raw_ring *ring)
{
    int piece = ring->pieces_free;

    if (piece == NO_PIECE) {
        piece = ring->pieces_count++;
        ring->pieces = realloc(ring->pieces, (size_t)ring->pieces_count * sizeof(*ring->pieces));
        if (!ring->pieces)
            raw_die("pieces", "out of memory");
    } else {
        ring->pieces_free = ring->pieces[piece].next;
    }
    return piece;
}

void raw_ring_free(struct raw_ring *ring, int piece)
{
    while (piece != NO_PIECE) {
        struct piece *freed = &ring->pieces[piece];
        struct buffer *buffer = &ring->buffers[freed->buffer];
        int next = freed->next;

        if (--buffer->pieces == 0 && !buffer->is_kernels)
            buffer_return(ring, freed->buffer);
        freed->next = ring->pieces_free;
        ring->pieces_free = piece;
        piece = next;
    }
}

/* @len bytes at the end of what the buffer has. */
static int piece_of(struct raw_ring *ring, int id, uint32_t len)
{
    size_t stride = (size_t)ring->options->buffer_size + ring->options->buffer_gap;
    struct buffer *buffer = &ring->buffers[id];
    int piece = piece_make(ring);

    ring->pieces[piece] =
        (struct piece){.next = NO_PIECE,
                       .buffer = id,
                       .len = len,
                       .bytes = ring->bytes + (size_t)id * stride + buffer->filled};
    buffer->pieces++;
    buffer->filled += len;
    return piece;
}

/* Buffers of a bundle follow one another in the order in which they were put into the ring. */
static int take_bundle(struct raw_ring *ring, int id, uint32_t len, int *last)
{
    uint16_t mask = (uint16_t)io_uring_buf_ring_mask(ring->options->buffers);
    int first = NO_PIECE;

    if (ring->order[ring->order_head & mask] != id)
        raw_die("bundle", "its buffers are not in order; this kernel cannot be used with it");
    for (;;) {
        uint32_t part = len < ring->options->buffer_size ? len : ring->options->buffer_size;
        int piece = piece_of(ring, ring->order[ring->order_head++ & mask], part);

        if (first == NO_PIECE)
            first = piece;
        else
            ring->pieces[*last].next = piece;
        *last = piece;
        len -= part;
        if (len == 0)
            return first;
    }
}

int raw_ring_take(struct raw_ring *ring, const struct io_uring_cqe *cqe, int *last)
{
    int id = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);

    if (ring->options->has_bundles)
        return take_bundle(ring, id, (uint32_t)cqe->res, last);
    *last = piece_of(ring, id, (uint32_t)cqe->res);
    if (ring->options->has_incremental)
        ring->buffers[id].is_kernels = (cqe->flags & IORING_CQE_F_BUF_MORE) != 0;
    return *last;
}

bool raw_ring_show_buffers(struct raw_ring *ring)
{
    if (ring->returned == 0)
        return false;
    io_uring_buf_ring_advance(ring->buffer_ring, (int)ring->returned);
    ring->returned = 0;
    return true;
}

/* Ours, because liburing 2.3 knows neither the least wait nor a mask without a time. */
static void ring_enter(struct raw_ring *ring, uint32_t wait_for, uint32_t wait_us, bool is_look)
{
    struct io_uring_sq *sq = &ring->uring.sq;
    struct __kernel_timespec now = {0};
    struct __kernel_timespec hour = {.tv_sec = 3600};
    struct newer_getevents_arg arg = {.sigmask_sz = SIGSET_BYTES, .min_wait_usec = wait_us};
    sigset_t none;
    uint32_t before;

    sigemptyset(&none);
    arg.sigmask = (uint64_t)(uintptr_t)&none;
    if (is_look)
        arg.ts = (uint64_t)(uintptr_t)&now;
    else if (wait_us > 0) /* without a time the kernel ends an empty wait after the least wait */
        arg.ts = (uint64_t)(uintptr_t)&hour;
    /* Release: the kernel reads the requests after the tail. */
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    sq->sqe_head = sq->sqe_tail;
    before = io_uring_cq_ready(&ring->uring);
    ring->count->system_calls++;
    (void)io_uring_enter2((unsigned)ring->enter_fd,
                          sq->sqe_tail - io_uring_smp_load_acquire(sq->khead), wait_for,
                          ring->enter_flags, (void *)&arg, sizeof(arg));
    ring->entered_with = io_uring_cq_ready(&ring->uring) - before;
}

struct io_uring_sqe *raw_ring_sqe(struct raw_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    while (!sqe) {
        ring_enter(ring, 0, 0, false);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

void raw_ring_enter(struct raw_ring *ring, bool may_wait)
{
    const struct raw_options *options = ring->options;
    bool is_more = options->wait_after_full > 0 && ring->entered_with >= TASK_WORK_PORTION &&
                   (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN);

    if (!may_wait)
        ring_enter(ring, 0, 0, false);
    else if (is_more)
        ring_enter(ring, options->wait_after_full, 0, true);
    else
        ring_enter(ring, options->wait_for, options->wait_us, false);
}

static void need(const struct raw_ring *ring, uint32_t wanted, uint32_t feature, const char *what)
{
    if (wanted && !(ring->uring.features & feature))
        raw_die(what, "this kernel does not have it");
}

static void make_buffers(struct raw_ring *ring)
{
    const struct raw_options *options = ring->options;
    size_t stride = (size_t)options->buffer_size + options->buffer_gap;
    struct newer_buf_reg reg = {.ring_entries = options->buffers, .bgid = GROUP};
    void *memory = NULL;
    int rc;

    if (posix_memalign(&memory, 4096, options->buffers * sizeof(struct io_uring_buf)) ||
        posix_memalign((void **)&ring->bytes, 4096, options->buffers * stride))
        raw_die("buffers", "out of memory");
    memset(ring->bytes, 0, options->buffers * stride);
    reg.ring_addr = (uint64_t)(uintptr_t)memory;
    if (options->has_incremental)
        reg.flags = IOU_PBUF_RING_INC;
    ring->buffer_ring = memory;
    rc = io_uring_register_buf_ring(&ring->uring, (struct io_uring_buf_reg *)(void *)&reg, 0);
    if (rc < 0)
        raw_die("io_uring_register_buf_ring", strerror(-rc));
    io_uring_buf_ring_init(ring->buffer_ring);
    ring->buffers = make(options->buffers, sizeof(*ring->buffers));
    ring->order = make(options->buffers, sizeof(*ring->order));
    for (uint32_t i = 0; i < options->buffers; i++)
        buffer_return(ring, (int)i);
    (void)raw_ring_show_buffers(ring);
}

static void register_all(struct raw_ring *ring, uint32_t files_max)
{
    int rc = 0;

    if (ring->options->has_files)
        rc = io_uring_register_files_sparse(&ring->uring, files_max);
    if (rc < 0)
        raw_die("io_uring_register_files_sparse", strerror(-rc));
    if (ring->options->has_ring_fd)
        rc = io_uring_register_ring_fd(&ring->uring);
    if (rc < 0)
        raw_die("io_uring_register_ring_fd", strerror(-rc));
    ring->enter_fd = ring->uring.enter_ring_fd;
    ring->enter_flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (ring->options->has_ring_fd)
        ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
}

void raw_ring_open(struct raw_ring *ring, const struct raw_options *options,
                   struct raw_counts *count, uint32_t files_max)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                                              IORING_SETUP_CQSIZE,
                                     .cq_entries = CQ_ENTRIES};
    int rc;

    *ring = (struct raw_ring){.options = options, .count = count, .pieces_free = NO_PIECE};
    if (options->wait_after_full > 0)
        params.flags |= IORING_SETUP_TASKRUN_FLAG;
    rc = io_uring_queue_init_params(SQ_ENTRIES, &ring->uring, &params);
    if (rc < 0)
        raw_die("io_uring_setup", strerror(-rc));
    for (uint32_t i = 0; i < ring->uring.sq.ring_entries; i++)
        ring->uring.sq.array[i] = i;
    need(ring, options->has_bundles, IORING_FEAT_RECVSEND_BUNDLE, "--bundles");
    need(ring, options->wait_us, IORING_FEAT_MIN_TIMEOUT, "--wait-us");
    need(ring, options->has_incremental, IORING_FEAT_NO_IOWAIT, "--incremental (bugs before 6.15)");
    register_all(ring, files_max);
    make_buffers(ring);
}
