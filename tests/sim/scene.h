/* SPDX-License-Identifier: MIT */
/*
 * A scene: a runtime with servers on it, as the weather has them, and the invariants that hold
 * before each wait, when nothing more will happen, and at the end.
 */
#ifndef RDY_TESTS_SIM_SCENE_H
#define RDY_TESTS_SIM_SCENE_H

#include <rdy/rdy.h>

#include "engine/driver.h"
#include "engine/list.h"
#include "engine/runtime.h"

struct sim_scene {
    struct rdy_runtime *runtime; /* NULL: not open */
    struct rdy_link sessions;    /* of sim_session.link */
    uint32_t sessions_count;     /* that began */
    uint32_t aborts;
    uint32_t naps;
    uint32_t errands; /* tasks that end by themselves, and have not yet */
};

extern struct sim_scene sim_scene;

/* One seed, from the begin to the end. Fails, or returns. */
void sim_scene_run(uint64_t seed, bool is_tracing);

/* Asks the runtime to shut down. */
void sim_scene_shut(void);

/* Nothing more will happen, and nobody waits for a time. True: now something does. */
bool sim_scene_quiet(void);

/* invariants.c: before each wait, and when all is quiet. */
void sim_scene_check(void);
void sim_scene_check_levels(void);

/*
 * The connection of @fd is broken off by the engine's side with @error, and its peer need not get
 * what it should. Fails if there is no reason for that error.
 */
void sim_excuse(int fd, int error);

#endif
