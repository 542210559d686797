/* SPDX-License-Identifier: MIT */
/*
 * A driver on a scripted fake, with eventfds to register: what the tests of the driver begin with.
 * The files are never written; whatever is "ready" about them was said by the test.
 */
#ifndef RDY_TESTS_SCRIPTED_H
#define RDY_TESTS_SCRIPTED_H

#include "engine/driver.h"
#include "tests/support/stage.h"

struct script {
    struct fake fake;
    struct rdy_driver *driver;
};

/* cmocka set-up and tear-down: a fake like a ring. The tear-down closes a driver that is open. */
int script_setup(void **state);
int script_teardown(void **state);

/* The same with a fake like epoll: any thread, whole state. */
int script_setup_any_thread(void **state);

/* Registers a fresh eventfd for reading and writing. */
struct rdy_registration script_register(struct script *script, int *fd);

/* Leaves @bell in the slot for READ of what is not ready. */
void script_await_read(struct rdy_registration *reg, struct bell *bell);

/* A turn that neither blocks nor fails; the number of events. */
int script_turn(struct script *script);

/* Readiness for READ and WRITE now. */
uint32_t script_ready(const struct rdy_registration *reg);

struct rdy_driver_stats script_stats(const struct script *script);

#define SCRIPT_TEST(function)                                                                      \
    cmocka_unit_test_setup_teardown(function, script_setup, script_teardown)

#endif
