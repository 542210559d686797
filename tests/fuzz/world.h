/* SPDX-License-Identifier: MIT */
/*
 * A world is one driver and a few files, and what a user did to them. The fuzzer runs the same
 * operations in two worlds, on io_uring and on epoll, and asks poll(2) who is right.
 *
 * Three things must hold when the kernel has nothing more to say (settled):
 *
 * - what poll(2) says is ready, the registration says too (readiness is never lost);
 * - nobody waits for what is ready (no lost wake-up): polls that were left with a waker and waits;
 * - once a file was read, or written, until EAGAIN, the registration does not call it readable, or
 *   writable, any more, unless poll(2) does (no readiness that stands for ever).
 *
 * A violation prints what it was and aborts: the fuzzer keeps the input.
 */
#ifndef RDY_TESTS_FUZZ_WORLD_H
#define RDY_TESTS_FUZZ_WORLD_H

#include <stdbool.h>

#include <rdy/registration.h>

#define WORLD_SLOTS 2u
#define WORLD_WAITS 2u

enum world_kind {
    WORLD_UNIX,
    WORLD_TCP,
    WORLD_PIPE,
    WORLD_EVENT,
    WORLD_KINDS
};

/* Rings when it is woken; a bell that hangs on a poll slot or in a wait is waited for. */
struct world_bell {
    uint32_t rung;
    bool is_waiting;
};

struct world_wait {
    struct rdy_readiness readiness;
    struct world_bell bell;
    uint32_t interest;
    bool is_begun;
};

struct world_slot {
    enum world_kind kind;
    int fd;   /* ours; -1: closed, or nothing here */
    int peer; /* the other end, or -1 */
    bool is_open;
    bool is_registered;
    uint32_t interest;
    struct rdy_registration reg;
    struct world_bell bells[2]; /* of the poll slots, by direction */
    struct rdy_event late;      /* read until EAGAIN on it, and not cleared yet */
    bool is_late;
    struct world_wait waits[WORLD_WAITS];
};

struct world_foreign;

struct world {
    const char *name;
    struct rdy_driver *driver;
    struct world_foreign *foreign; /* the thread that some operations run on */
    struct world_slot slots[WORLD_SLOTS];
    uint64_t operations;
};

/* One step of an input. */
struct world_op {
    unsigned char code; /* modulo the number of operations */
    unsigned char slot; /* modulo WORLD_SLOTS */
    unsigned char arg;
    bool is_foreign; /* on the other thread, where the call may be made on any */
};

/* Dies if the backend cannot be had: a fuzzer of one world proves nothing. */
void world_open(struct world *world, enum rdy_backend_kind backend);
void world_close(struct world *world);

/* Does one operation, if it makes sense now. */
void world_do(struct world *world, const struct world_op *op);

/* Checks what must hold, ends everything, and sees that nothing was left behind. */
void world_end(struct world *world);

/* Prints the violation and aborts. */
_Noreturn void world_fail(const struct world *world, const struct world_slot *slot,
                          const char *what);

/* --- world_check.c --- */

/* Turns until nothing more comes. */
void world_settle(struct world *world);

/* Settled: nothing was lost and nobody waits in vain. */
void world_check(struct world *world);

/* Empties and fills every file until EAGAIN, and checks that its readiness went. Data is lost. */
void world_check_drained(struct world *world);

/* What was hanging on the slot's registration is over. */
void world_forget_waits(struct world_slot *slot);

#endif
