/* SPDX-License-Identifier: MIT */
/* What the two backends have in common: see kernel.h. */
#include "tests/sim/kernel.h"

#include "tests/sim/scene.h"

#define IDLE_TURNS_MAX 1500u
#define STEPS_MAX      400000u
#define QUIET_NS       (20 * 24 * 3600 * SIM_S) /* who waits longer waits for something else */

enum sim_hold sim_kernel_hold(uint64_t token)
{
    return sim_ring_is_open() ? sim_ring_hold(token) : sim_epoll_hold(token);
}

uint32_t sim_kernel_tokens(uint64_t *tokens, uint32_t tokens_max)
{
    return sim_ring_is_open() ? sim_ring_tokens(tokens, tokens_max)
                              : sim_epoll_tokens(tokens, tokens_max);
}

bool sim_kernel_is_cancelled(uint64_t token)
{
    return sim_ring_is_open() && sim_ring_is_cancelled(token);
}

uint32_t sim_kernel_buffers(void)
{
    return sim_ring_is_open() ? sim_ring_buffers() : 0;
}

bool sim_kernel_is_ring(void)
{
    return sim_ring_is_open();
}

bool sim_kernel_is_closed(void)
{
    return !sim_ring_is_open() && !sim_epoll_is_open();
}

void sim_step(void)
{
    sim.step++;
    if (sim.step > STEPS_MAX)
        sim_fail("no end in sight after so many waits");
    sim_scene_check();
    sim_spend();
}

/* Whoever asks again and again without waiting, although nothing happens, does so for ever. */
static void note_idle(void)
{
    sim.idle_turns = sim.happened == sim.happened_before ? sim.idle_turns + 1 : 0;
    sim.happened_before = sim.happened;
    if (sim.idle_turns > IDLE_TURNS_MAX)
        sim_fail("the engine spins: so many waits without a pause, and nothing happens");
}

bool sim_pass_time(uint64_t until_ns, uint64_t work_ns)
{
    uint64_t next_ns = sim_next_ns();

    if (until_ns <= sim.now_ns) {
        note_idle();
        return false;
    }
    sim.idle_turns = 0;
    if (work_ns < next_ns)
        next_ns = work_ns;
    if (next_ns == SIM_NEVER && until_ns - sim.now_ns > QUIET_NS)
        return sim_scene_quiet();
    if (until_ns < next_ns) {
        sim.now_ns = until_ns;
        return false;
    }
    if (next_ns > sim.now_ns)
        sim.now_ns = next_ns;
    (void)sim_run_due();
    return true;
}
