/* SPDX-License-Identifier: MIT */
/* The operations of a world: see tests/fuzz/world.h. */
#include "tests/fuzz/world.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 4096u

typedef void world_fn(struct world *world, struct world_slot *slot, unsigned char arg);

/* --- the other thread --- */

/* One call at a time, handed over and waited for: a foreign thread, but a deterministic one. */
struct world_foreign {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    world_fn *fn; /* to be called, or NULL */
    struct world *world;
    struct world_slot *slot;
    unsigned char arg;
    bool is_ending;
};

static void *foreign_main(void *arg)
{
    struct world_foreign *foreign = arg;

    pthread_mutex_lock(&foreign->mutex);
    while (!foreign->is_ending) {
        if (foreign->fn) {
            foreign->fn(foreign->world, foreign->slot, foreign->arg);
            foreign->fn = NULL;
            pthread_cond_broadcast(&foreign->changed);
        } else {
            pthread_cond_wait(&foreign->changed, &foreign->mutex);
        }
    }
    pthread_mutex_unlock(&foreign->mutex);
    return NULL;
}

static void on_foreign(struct world *world, world_fn *fn, struct world_slot *slot,
                       unsigned char arg)
{
    struct world_foreign *foreign = world->foreign;

    pthread_mutex_lock(&foreign->mutex);
    foreign->slot = slot;
    foreign->arg = arg;
    foreign->fn = fn;
    pthread_cond_broadcast(&foreign->changed);
    while (foreign->fn)
        pthread_cond_wait(&foreign->changed, &foreign->mutex);
    pthread_mutex_unlock(&foreign->mutex);
}

static void must(bool is_fine, const char *what)
{
    if (is_fine)
        return;
    fprintf(stderr, "fuzz: %s: %s\n", what, strerror(errno));
    abort();
}

static void foreign_begin(struct world *world)
{
    struct world_foreign *foreign = calloc(1, sizeof(*foreign));

    must(foreign != NULL, "calloc");
    foreign->world = world;
    pthread_mutex_init(&foreign->mutex, NULL);
    pthread_cond_init(&foreign->changed, NULL);
    must(pthread_create(&foreign->thread, NULL, foreign_main, foreign) == 0, "pthread_create");
    world->foreign = foreign;
}

static void foreign_end(struct world_foreign *foreign)
{
    pthread_mutex_lock(&foreign->mutex);
    foreign->is_ending = true;
    pthread_cond_broadcast(&foreign->changed);
    pthread_mutex_unlock(&foreign->mutex);
    pthread_join(foreign->thread, NULL);
    free(foreign);
}

/* --- files --- */

static void set_nonblocking(int fd)
{
    must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(listener >= 0 && bind(listener, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
             listen(listener, 1) == 0 &&
             getsockname(listener, (struct sockaddr *)&addr, &addr_len) == 0,
         "listen");
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fds[1], (struct sockaddr *)&addr, sizeof(addr)) == 0, "connect");
    fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    must(fds[0] >= 0, "accept4");
    close(listener);
    set_nonblocking(fds[0]);
    set_nonblocking(fds[1]);
}

static void slot_open(struct world *world, struct world_slot *slot, unsigned char arg)
{
    int fds[2] = {-1, -1};

    (void)world;
    if (slot->is_open)
        return;
    *slot = (struct world_slot){.kind = arg % WORLD_KINDS, .is_open = true};
    switch (slot->kind) {
    case WORLD_UNIX:
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0,
             "socketpair");
        break;
    case WORLD_TCP:
        tcp_pair(fds);
        break;
    case WORLD_PIPE:
        must(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0, "pipe2");
        break;
    case WORLD_EVENT:
    case WORLD_KINDS:
        fds[0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        must(fds[0] >= 0, "eventfd");
        break;
    }
    slot->fd = fds[0];
    slot->peer = fds[1];
}

static void close_peer(struct world_slot *slot)
{
    if (slot->peer >= 0)
        must(close(slot->peer) == 0, "close of a peer");
    slot->peer = -1;
}

/* --- operations --- */

static void ring(void *arg, uintptr_t data)
{
    struct world_bell *bell = arg;

    (void)data;
    __atomic_fetch_add(&bell->rung, 1, __ATOMIC_RELAXED);
}

static void op_register(struct world *world, struct world_slot *slot, unsigned char arg)
{
    static const uint32_t interests[] = {RDY_INTEREST_READ | RDY_INTEREST_WRITE, RDY_INTEREST_READ,
                                         RDY_INTEREST_WRITE,
                                         RDY_INTEREST_READ | RDY_INTEREST_ERROR};
    int rc;

    if (!slot->is_open || slot->is_registered)
        return;
    slot->interest = interests[arg % 4];
    if (slot->kind == WORLD_PIPE)
        slot->interest &= ~RDY_INTEREST_WRITE;
    if (slot->interest == 0)
        slot->interest = RDY_INTEREST_READ;
    rc = rdy_register(world->driver, slot->fd, slot->interest, &slot->reg);
    if (rc < 0) {
        errno = -rc;
        must(false, "rdy_register");
    }
    slot->is_registered = true;
}

static void op_deregister(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)arg;
    if (!slot->is_registered)
        return;
    world_forget_waits(slot);
    if (rdy_deregister(&slot->reg) != 0)
        world_fail(world, slot, "rdy_deregister refused a live registration");
    slot->is_registered = false;
}

/* The peer stays: what we close it must hear of. */
static void op_close(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)arg;
    if (!slot->is_open)
        return;
    if (slot->is_registered) {
        world_forget_waits(slot);
        if (rdy_close(&slot->reg) != 0)
            world_fail(world, slot, "rdy_close refused a live registration");
    } else {
        must(close(slot->fd) == 0, "close");
    }
    close_peer(slot);
    *slot = (struct world_slot){.fd = -1, .peer = -1};
}

static void op_peer_writes(struct world *world, struct world_slot *slot, unsigned char arg)
{
    static const char bytes[CHUNK * 64];
    static const uint64_t one = 1;

    (void)world;
    if (!slot->is_open)
        return;
    if (slot->kind == WORLD_EVENT)
        (void)!write(slot->fd, &one, sizeof(one));
    else if (slot->kind == WORLD_PIPE && slot->peer >= 0)
        (void)!write(slot->peer, bytes, 1 + (size_t)arg * 16);
    else if (slot->peer >= 0)
        (void)!send(slot->peer, bytes, 1 + (size_t)arg * 512, MSG_NOSIGNAL);
}

static void op_peer_reads(struct world *world, struct world_slot *slot, unsigned char arg)
{
    static char bytes[CHUNK * 64];

    (void)world;
    if (slot->is_open && slot->peer >= 0 && slot->kind != WORLD_PIPE)
        (void)!read(slot->peer, bytes, 1 + (size_t)arg * 1024);
}

static void op_peer_shuts(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)world;
    if (!slot->is_open || slot->peer < 0)
        return;
    if (slot->kind == WORLD_PIPE || (arg & 3) == 3)
        close_peer(slot);
    else
        (void)shutdown(slot->peer, arg & 1 ? SHUT_RD : SHUT_WR);
}

static void op_peer_resets(struct world *world, struct world_slot *slot, unsigned char arg)
{
    struct linger linger = {.l_onoff = 1};

    (void)world;
    (void)arg;
    if (!slot->is_open || slot->peer < 0)
        return;
    if (slot->kind == WORLD_TCP)
        must(setsockopt(slot->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0,
             "SO_LINGER");
    close_peer(slot);
}

static void op_we_shut(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)world;
    if (slot->is_open && (slot->kind == WORLD_UNIX || slot->kind == WORLD_TCP))
        (void)shutdown(slot->fd, arg & 1 ? SHUT_RD : SHUT_WR);
}

struct span {
    size_t len;
};

static ssize_t try_read(int fd, void *arg)
{
    static _Thread_local char bytes[CHUNK * 64];
    ssize_t count = read(fd, bytes, ((struct span *)arg)->len);

    return count < 0 ? -errno : count;
}

static ssize_t try_write(int fd, void *arg)
{
    static const char bytes[CHUNK * 64];
    ssize_t count = send(fd, bytes, ((struct span *)arg)->len, MSG_NOSIGNAL);

    return count < 0 ? -errno : count;
}

static void op_read(struct world *world, struct world_slot *slot, unsigned char arg)
{
    struct span span = {slot->kind == WORLD_EVENT ? sizeof(uint64_t) : 1 + (size_t)arg * 1024};

    (void)world;
    if (slot->is_registered)
        (void)!rdy_try_io(&slot->reg, RDY_INTEREST_READ, try_read, &span);
}

static void op_write(struct world *world, struct world_slot *slot, unsigned char arg)
{
    struct span span = {1 + (size_t)arg * 1024};

    (void)world;
    if (slot->is_registered && (slot->kind == WORLD_UNIX || slot->kind == WORLD_TCP))
        (void)!rdy_try_io(&slot->reg, RDY_INTEREST_WRITE, try_write, &span);
}

static void op_poll(struct world *world, struct world_slot *slot, unsigned char arg)
{
    enum rdy_direction direction = arg & 1 ? RDY_DIRECTION_WRITE : RDY_DIRECTION_READ;
    struct world_bell *bell = &slot->bells[direction];
    struct rdy_waker waker = {.fn = ring, .arg = bell};
    struct rdy_event event;

    if (!slot->is_registered)
        return;
    if (direction == RDY_DIRECTION_WRITE && (slot->interest & RDY_INTEREST_WRITE) == 0)
        return;
    __atomic_store_n(&bell->rung, 0, __ATOMIC_RELAXED);
    switch (rdy_poll_readiness(&slot->reg, direction, &waker, &event)) {
    case 0:
        bell->is_waiting = false;
        break;
    case RDY_PENDING:
        bell->is_waiting = true;
        break;
    default:
        world_fail(world, slot, "a poll of a live registration failed");
    }
}

/* Begins a wait, asks it again, or gives it up. */
static void op_wait(struct world *world, struct world_slot *slot, unsigned char arg)
{
    struct world_wait *wait = &slot->waits[arg % WORLD_WAITS];
    struct rdy_waker waker = {.fn = ring, .arg = &wait->bell};
    struct rdy_event event;
    int rc;

    if (!slot->is_registered)
        return;
    if (wait->is_begun && (arg & 2)) {
        (void)rdy_readiness_cancel(&wait->readiness);
        wait->is_begun = false;
        return;
    }
    if (!wait->is_begun) {
        wait->interest = slot->interest & (arg & 4 ? RDY_INTEREST_READ : ~0u);
        wait->interest &= RDY_INTEREST_READ | RDY_INTEREST_WRITE;
        if (wait->interest == 0)
            return;
        rdy_readiness_init(&wait->readiness, &slot->reg, wait->interest);
        __atomic_store_n(&wait->bell.rung, 0, __ATOMIC_RELAXED);
    }
    rc = rdy_readiness_poll(&wait->readiness, &waker, &event);
    if (rc != 0 && rc != RDY_PENDING)
        world_fail(world, slot, "a wait on a live registration failed");
    wait->is_begun = rc == RDY_PENDING;
}

void world_forget_waits(struct world_slot *slot)
{
    for (uint32_t i = 0; i < WORLD_WAITS; i++) {
        if (slot->waits[i].is_begun)
            (void)rdy_readiness_cancel(&slot->waits[i].readiness);
        slot->waits[i].is_begun = false;
    }
    slot->bells[0] = slot->bells[1] = (struct world_bell){0};
    slot->is_late = false;
}

/*
 * A slow reader: what it saw, and that the file said EAGAIN, it tells the engine only later. With
 * some arguments there is more to read by then, which is the race that ticks are for.
 */
static void op_read_late(struct world *world, struct world_slot *slot, unsigned char arg)
{
    struct span span = {CHUNK * 64};

    if (!slot->is_registered || (slot->interest & RDY_INTEREST_READ) == 0)
        return;
    if (!slot->is_late || (arg & 1) == 0) {
        slot->late = rdy_ready_event(&slot->reg, RDY_INTEREST_READ);
        slot->is_late = false;
        for (int i = 0; i < 64 && !slot->is_late; i++)
            slot->is_late = try_read(slot->fd, &span) == -EAGAIN;
    }
    if (arg & 2)
        op_peer_writes(world, slot, 0);
    if (arg & 4)
        world_settle(world);
    if (slot->is_late && (arg & 8)) {
        rdy_clear_readiness(&slot->reg, slot->late);
        slot->is_late = false;
    }
}

static void op_turn(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)slot;
    for (int i = 0; i <= (arg & 3); i++) {
        if (rdy_driver_turn(world->driver, 0) < 0)
            world_fail(world, slot, "a turn failed");
    }
}

static void op_check(struct world *world, struct world_slot *slot, unsigned char arg)
{
    (void)slot;
    if ((arg & 7) == 7)
        world_check_drained(world);
    else
        world_check(world);
}

static const struct {
    world_fn *fn;
    bool is_for_any_thread;
} operations[] = {
    {slot_open, false},     {op_register, true},   {op_deregister, true}, {op_close, true},
    {op_peer_writes, true}, {op_peer_reads, true}, {op_peer_shuts, true}, {op_peer_resets, true},
    {op_we_shut, true},     {op_read, true},       {op_write, true},      {op_poll, true},
    {op_wait, true},        {op_turn, false},      {op_check, false},     {op_read_late, false},
};

void world_do(struct world *world, const struct world_op *op)
{
    size_t code = op->code % (sizeof(operations) / sizeof(operations[0]));
    struct world_slot *slot = &world->slots[op->slot % WORLD_SLOTS];

    world->operations++;
    if (op->is_foreign && operations[code].is_for_any_thread)
        on_foreign(world, operations[code].fn, slot, op->arg);
    else
        operations[code].fn(world, slot, op->arg);
}

void world_open(struct world *world, enum rdy_backend_kind backend)
{
    struct rdy_driver_opts opts = {.size = sizeof(opts), .backend = backend};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    int rc;

    sigaction(SIGPIPE, &ignore, NULL); /* files without a reader are part of the game */
    rc = rdy_driver_open(&world->driver, &opts);
    if (rc < 0) {
        errno = -rc;
        must(false, "rdy_driver_open");
    }
    world->name = rdy_driver_backend_name(world->driver);
    for (uint32_t i = 0; i < WORLD_SLOTS; i++)
        world->slots[i] = (struct world_slot){.fd = -1, .peer = -1};
    foreign_begin(world);
}

void world_end(struct world *world)
{
    struct rdy_driver_stats stats;

    world_check_drained(world);
    for (uint32_t i = 0; i < WORLD_SLOTS; i++)
        op_close(world, &world->slots[i], 0);
    world_settle(world);
    rdy_driver_read_stats(world->driver, &stats);
    if (stats.entries_live != 0 || stats.cancels_pending != 0)
        world_fail(world, NULL, "an entry or a cancel was left behind");
}

void world_close(struct world *world)
{
    foreign_end(world->foreign);
    rdy_driver_close(world->driver);
}
