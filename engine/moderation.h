/* SPDX-License-Identifier: MIT */
/*
 * How many events a wait goes on for, learnt from how the last ones ended.
 *
 * With many connections a thread may sleep and wake for each event, although the next is some
 * microseconds away; that costs more than to answer it. Network drivers moderate their interrupts
 * for the same reason, and as they do (adaptive coalescing) we go by what came: one wait is tried
 * that goes on for two events. If they came in the batch's time, so does the next, and after some
 * such waits one for an event more; after one that was in vain, for one less, down to the first
 * event. From then on, after each vain try twice as many waits are let pass before the next; each
 * wait that fills halves that again.
 *
 * A wait's time counts from its begin. So whoever has few events is never late: the time has passed
 * when one comes. What may be late, by that time at most, is what comes sooner after the last turn.
 *
 * Of few connections all may wait for our answer, and then nothing comes while we wait for more. So
 * at most one event for RDY_MODERATION_SHARE connections is waited for, and of fewer than twice as
 * many connections none. It knows no clock and no kernel. The driver's thread.
 */
#ifndef RDY_ENGINE_MODERATION_H
#define RDY_ENGINE_MODERATION_H

#include "engine/base.h"

#define RDY_MODERATION_SHARE 8u /* connections to each event */
#define RDY_MODERATION_FILLS 8u /* waits in a row that filled, before the next goes on for more */
#define RDY_MODERATION_SKIPS 1024u /* waits for one event of which one is a try, at the least */

struct rdy_moderation {
    uint32_t count;   /* events to go on for; 0 and 1: the first ends the wait */
    uint32_t fills;   /* waits in a row that filled */
    uint32_t skips;   /* waits that are let pass before the next try */
    uint32_t backoff; /* what a vain try doubles, for its skips, and a fill halves */
};

/* The events that the next wait goes on for, at most @most. @connections: that there are. */
uint32_t rdy_moderation_next(struct rdy_moderation *moderation, uint32_t connections,
                             uint32_t most);

/* That wait was to go on for @asked events, at least two, and @came came. */
void rdy_moderation_learn(struct rdy_moderation *moderation, uint32_t asked, uint32_t came);

#endif
