/* SPDX-License-Identifier: MIT */
/* What decides how long waits go on: see engine/moderation.h. */
#include "engine/moderation.h"

uint32_t rdy_moderation_next(struct rdy_moderation *moderation, uint32_t connections, uint32_t most)
{
    if (most > connections / RDY_MODERATION_SHARE)
        most = connections / RDY_MODERATION_SHARE;
    if (most < 2)
        return 1;
    if (moderation->count > 1)
        return moderation->count < most ? moderation->count : most;
    if (moderation->skips > 0) {
        moderation->skips--;
        return 1;
    }
    return 2;
}

static void fill(struct rdy_moderation *moderation, uint32_t asked)
{
    moderation->backoff /= 2;
    if (moderation->count < asked) { /* a try */
        moderation->count = asked;
        moderation->fills = 0;
    } else if (++moderation->fills == RDY_MODERATION_FILLS) {
        moderation->count = asked + 1;
        moderation->fills = 0;
    }
}

void rdy_moderation_learn(struct rdy_moderation *moderation, uint32_t asked, uint32_t came)
{
    rdy_assert(asked > 1);
    if (came >= asked) {
        fill(moderation, asked);
        return;
    }
    moderation->fills = 0;
    moderation->count = asked - 1;
    if (moderation->count > 1)
        return;
    moderation->backoff = moderation->backoff > 0 ? moderation->backoff * 2 : 1;
    if (moderation->backoff > RDY_MODERATION_SKIPS)
        moderation->backoff = RDY_MODERATION_SKIPS;
    moderation->skips = moderation->backoff;
}
