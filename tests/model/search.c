/* SPDX-License-Identifier: MIT */
/*
 * What comes next: a depth-first search over the choices of an execution, each run from its start.
 *
 * A path is the choices so far: which fiber goes on, and which value a load sees. After an
 * execution the last choice that has an alternative takes it, and what came behind is forgotten.
 *
 * Most atomics are only ever used by one fiber. The search begins without knowing which are not,
 * does not branch where an atomic is nobody else's, and begins anew, knowing better, when an
 * execution shows that one is: the first step that makes it so comes up in a search without it,
 * because what went before commutes.
 *
 * The search leaves out what only exchanges steps that commute, and nothing else: dynamic
 * partial-order reduction (Flanagan and Godefroid, POPL 2005) finds where the order of two steps
 * matters, and sleep sets (Godefroid 1996) keep it from coming to the same class twice. Waiting is
 * a condition on memory, which a step changes only where it writes, so a step that lets another
 * fiber go on is dependent on what that one waits to do.
 *
 * With a bound of preemptions (Musuvathi and Qadeer, PLDI 2007) a step may be out of reach that the
 * reduction wants, because the switches away from a fiber that could have gone on are used up. So
 * where it wants a fiber at a step, it wants it as well where the fiber of that step was switched
 * to, which costs no more (Coons, Musuvathi and McKinley, OOPSLA 2013). Nobody sleeps there: what
 * was searched behind a step may have cost fewer switches, or wanted less, than its twin would.
 * That nothing is left out is checked by comparison (classes.c) with a search that does not reduce.
 *
 * Random executions are PCT's (Burckhardt et al., ASPLOS 2010): priorities by lot, and a few points
 * at which whoever runs falls to the lowest.
 */
#include "tests/model/checker.h"

#include <stdio.h>
#include <stdlib.h>

#define NODES_MAX      2400
#define DECISIONS_MAX  (2 * STEPS_MAX)
#define PCT_POINTS     3
#define PCT_STALE_PART 4 /* a load looks back once in so many */
#define REPLAY_DIGITS  "0123456789abcdefghijklmnopqrstuvwxyz"

struct node {
    bool is_value; /* of a load, not a fiber */
    uint8_t chosen;
    uint8_t count;   /* of values */
    uint8_t enabled; /* the rest are masks of fibers */
    uint8_t wanted;  /* to be tried: all that are enabled, or those that the reduction found */
    uint8_t tried;
    uint8_t asleep;
    uint8_t last; /* the fiber that ran before */
    uint32_t preemptions;
    struct op op[FIBERS];
};

static char decisions[DECISIONS_MAX];
static uint32_t decisions_count;
static struct node path[NODES_MAX];
static uint32_t path_len;
static uint32_t at; /* in the path, of the execution that is going on */
static struct search_opts opts;
static struct search_totals totals;
static uint32_t last_fiber;
static uint32_t preemptions;
static bool is_first;

/* PCT */
static uint64_t dice;
static uint64_t dice_began;
static uint32_t priority[FIBERS];
static uint32_t change_at[PCT_POINTS];
static uint32_t steps_expected;

static bool is_reducing(void)
{
    return opts.mode == SEARCH_ALL && !opts.is_whole;
}

/* Without a bound: with the order of steps, and sleep. */
static bool is_unbounded(void)
{
    return is_reducing() && opts.preemptions == 0;
}

static uint32_t mask_of(uint32_t fiber)
{
    return 1u << fiber;
}

bool search_are_dependent(const struct op *a, const struct op *b)
{
    const char *a_at = a->at;
    const char *b_at = b->at;

    if (!a->writes && !b->writes)
        return false;
    return a_at < b_at + b->size && b_at < a_at + a->size;
}

static uint32_t enabled_mask(void)
{
    uint32_t mask = 0;

    for (uint32_t i = 1; i < FIBERS; i++) {
        const struct fiber *fiber = &fibers[i];

        if (!fiber->is_used || fiber->is_done)
            continue;
        if (!fiber->op.is_ready || fiber->op.is_ready(fiber->op.arg))
            mask |= mask_of(i);
    }
    return mask;
}

/* --- the reduction ------------------------------------------------------------------------- */

/* The last step of @fiber, or NULL. */
static const struct step *last_step_of(uint32_t fiber)
{
    for (uint32_t i = run.steps_count; i-- > 0;) {
        if (run.step[i].fiber == fiber)
            return &run.step[i];
    }
    return NULL;
}

/* A release and an acquisition of a lock never wait for the same moment. */
static bool can_meet(const struct op *next, const struct op *done)
{
    return !next->is_acquiring || done->is_acquiring;
}

static void want_at(struct node *node, uint32_t fiber)
{
    node->wanted |= node->enabled & mask_of(fiber) ? (uint8_t)mask_of(fiber) : node->enabled;
}

/*
 * The last step that @fiber's next one could have come before: there it is wanted. Where it could
 * not go on then, everybody is.
 */
static void want_before(uint32_t fiber)
{
    const struct op *op = &fibers[fiber].op;
    const struct step *last = last_step_of(fiber);

    for (uint32_t i = run.steps_count; i-- > 0;) {
        const struct step *step = &run.step[i];

        if (step->fiber == fiber || !search_are_dependent(&step->op, op) ||
            !can_meet(op, &step->op))
            continue;
        if (last && last->before_count[step->fiber] > i)
            continue;
        want_at(&path[step->node], fiber);
        return;
    }
}

/* Where a fiber was switched to, before @node; NULL if there is no such place. */
static struct node *switch_before(struct node *node)
{
    while (node-- > path) {
        if (!node->is_value && node->chosen != node->last)
            return node;
    }
    return NULL;
}

/* With a bound: before the last such step of each other fiber, and where that was switched to. */
static void want_before_each(uint32_t fiber)
{
    const struct op *op = &fibers[fiber].op;
    uint32_t seen = mask_of(fiber);

    for (uint32_t i = run.steps_count; i-- > 0;) {
        const struct step *step = &run.step[i];
        struct node *node = &path[step->node];

        if ((seen & mask_of(step->fiber)) || !search_are_dependent(&step->op, op) ||
            !can_meet(op, &step->op))
            continue;
        seen |= mask_of(step->fiber);
        want_at(node, fiber);
        node = switch_before(node);
        if (node)
            want_at(node, fiber);
    }
}

static void want_where_it_matters(void)
{
    for (uint32_t i = 1; i < FIBERS; i++) {
        if (!fibers[i].is_used || fibers[i].is_done)
            continue;
        if (opts.preemptions == 0)
            want_before(i);
        else
            want_before_each(i);
    }
}

/* Fills in which steps come before the one just added in every exchange of commuting steps. */
static void step_order(struct step *step)
{
    const struct step *last = last_step_of(step->fiber);
    uint32_t index = run.steps_count;

    memset(step->before_count, 0, sizeof(step->before_count));
    if (last)
        memcpy(step->before_count, last->before_count, sizeof(step->before_count));
    for (uint32_t i = 0; i < index; i++) {
        const struct step *other = &run.step[i];

        if (other->fiber == step->fiber || !search_are_dependent(&other->op, &step->op))
            continue;
        for (uint32_t f = 0; f < FIBERS; f++) {
            if (other->before_count[f] > step->before_count[f])
                step->before_count[f] = other->before_count[f];
        }
    }
    step->before_count[step->fiber] = (uint16_t)(index + 1);
}

/* Who sleeps at the next node: those whose step commutes with the one chosen at @node. */
static uint32_t asleep_after(const struct node *node)
{
    uint32_t mask = 0;

    for (uint32_t i = 1; i < FIBERS; i++) {
        if ((node->asleep & mask_of(i)) && i != node->chosen &&
            !search_are_dependent(&node->op[i], &node->op[node->chosen]))
            mask |= mask_of(i);
    }
    return mask;
}

/* --- the path ------------------------------------------------------------------------------ */

static void decide(uint32_t choice)
{
    rdy_assert(choice < sizeof(REPLAY_DIGITS) - 1);
    if (decisions_count < DECISIONS_MAX)
        decisions[decisions_count++] = REPLAY_DIGITS[choice];
}

static void step_add(uint32_t chosen)
{
    struct step *step = &run.step[run.steps_count];

    if (run.steps_count == STEPS_MAX)
        return; /* fiber_step() says that it is a livelock */
    memset(step, 0, sizeof(*step));
    step->op = fibers[chosen].op;
    step->fiber = (uint8_t)chosen;
    step->node = (uint16_t)(at - 1);
    if (is_unbounded())
        step_order(step);
    run.steps_count++;
    decide(chosen);
}

bool search_is_alone(const struct op *op)
{
    if (opts.mode != SEARCH_ALL)
        return false;
    if (op->is_ready || !op->at || sharing_is_shared(op->at))
        return false;
    step_add(self);
    return true;
}

static struct node *node_add(void)
{
    if (path_len == NODES_MAX)
        model_fail("livelock: more than %u choices", NODES_MAX);
    memset(&path[path_len], 0, sizeof(path[0]));
    at++;
    return &path[path_len++];
}

static uint32_t lowest(uint32_t mask)
{
    return (uint32_t)__builtin_ctz(mask);
}

/* Whom the bound lets go on: where it is met, only who ran before. */
static uint32_t node_affordable(const struct node *node)
{
    bool is_met = opts.preemptions > 0 && node->preemptions == opts.preemptions;
    uint32_t last = mask_of(node->last);

    return is_met && (node->enabled & last) ? last : UINT32_MAX;
}

/* Whom a node may still try. */
static uint32_t node_open(const struct node *node)
{
    uint32_t open = node->wanted & ~(uint32_t)node->tried & ~(uint32_t)node->asleep;
    uint32_t affordable = node_affordable(node);

    totals.is_cut = totals.is_cut || (open & ~affordable) != 0;
    return open & affordable;
}

static const struct node *previous_fiber_node(void)
{
    for (uint32_t i = path_len; i-- > 0;) {
        if (!path[i].is_value)
            return &path[i];
    }
    return NULL;
}

/* A node of the search's own: 0 if whatever follows was seen elsewhere. */
static uint32_t choose_new(uint32_t enabled)
{
    const struct node *previous = previous_fiber_node();
    uint32_t asleep = previous ? asleep_after(previous) : 0;
    struct node *node = node_add();
    uint32_t awake = enabled & ~asleep;
    uint32_t open;

    node->enabled = (uint8_t)enabled;
    node->asleep = (uint8_t)asleep;
    node->last = (uint8_t)last_fiber;
    node->preemptions = preemptions;
    for (uint32_t i = 1; i < FIBERS; i++)
        node->op[i] = fibers[i].op;
    open = awake & node_affordable(node);
    if (open == 0) {
        path_len--;
        at--;
        run.outcome = OUTCOME_PRUNED;
        return 0;
    }
    node->chosen = (uint8_t)((open & mask_of(last_fiber)) ? last_fiber : lowest(open));
    node->wanted = (uint8_t)(is_reducing() ? mask_of(node->chosen) : enabled);
    return node->chosen;
}

static uint64_t roll(void)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice;
}

static uint32_t choose_by_priority(uint32_t enabled)
{
    struct node *node = node_add();
    uint32_t best = 0;

    for (uint32_t i = 0; i < PCT_POINTS; i++) {
        if (change_at[i] == run.steps_count && last_fiber != 0)
            priority[last_fiber] = i;
    }
    for (uint32_t i = 1; i < FIBERS; i++) {
        if ((enabled & mask_of(i)) && (best == 0 || priority[i] > priority[best]))
            best = i;
    }
    node->enabled = (uint8_t)enabled;
    node->chosen = (uint8_t)best;
    return best;
}

static uint32_t replayed(uint32_t valid)
{
    const char *digit = *opts.replay ? strchr(REPLAY_DIGITS, *opts.replay) : NULL;
    uint32_t chosen = digit ? (uint32_t)(digit - REPLAY_DIGITS) : UINT32_MAX;

    if (chosen >= 32 || !(valid & mask_of(chosen)))
        model_fail("the schedule to replay is another program's: no choice '%.1s' after %u steps",
                   opts.replay, run.steps_count);
    opts.replay++;
    return chosen;
}

static void fail_stuck(void)
{
    char text[400] = "";
    size_t used = 0;
    bool is_due = false;

    for (uint32_t i = 1; i < FIBERS && used < sizeof(text); i++) {
        const struct fiber *fiber = &fibers[i];

        if (!fiber->is_used || fiber->is_done)
            continue;
        is_due = is_due || (fiber->op.is_due && fiber->op.is_due(fiber->op.arg));
        used += (size_t)snprintf(text + used, sizeof(text) - used, " '%s' waits for %s;",
                                 run.target->fiber[i - 1].name, fiber->op.what);
    }
    (void)snprintf(run.failure, sizeof(run.failure), "%s:%s nobody else can go on",
                   is_due ? "lost wake-up" : "deadlock", text);
    run.outcome = OUTCOME_FAILED;
}

static bool are_all_done(void)
{
    for (uint32_t i = 1; i < FIBERS; i++) {
        if (fibers[i].is_used && !fibers[i].is_done)
            return false;
    }
    return true;
}

static uint32_t pick(uint32_t enabled)
{
    if (opts.mode == SEARCH_REPLAY)
        return replayed(enabled);
    if (opts.mode == SEARCH_RANDOM)
        return choose_by_priority(enabled);
    if (at < path_len) {
        rdy_assert(!path[at].is_value && path[at].enabled == enabled);
        return path[at++].chosen;
    }
    return choose_new(enabled);
}

uint32_t search_choose(void)
{
    uint32_t enabled = enabled_mask();
    uint32_t chosen;

    if (enabled == 0) {
        if (are_all_done())
            run.outcome = OUTCOME_DONE;
        else
            fail_stuck();
        return 0;
    }
    if (is_reducing())
        want_where_it_matters();
    chosen = pick(enabled);
    if (chosen == 0)
        return 0;
    if (chosen != last_fiber && (enabled & mask_of(last_fiber)))
        preemptions++;
    last_fiber = chosen;
    step_add(chosen);
    return chosen;
}

static uint32_t pick_value(uint32_t count)
{
    struct node *node;

    if (opts.mode == SEARCH_REPLAY)
        return replayed((1u << count) - 1);
    if (opts.mode == SEARCH_ALL && at < path_len) {
        rdy_assert(path[at].is_value && path[at].count == count);
        return path[at++].chosen;
    }
    node = node_add();
    node->is_value = true;
    node->count = (uint8_t)count;
    if (opts.mode == SEARCH_RANDOM && roll() % PCT_STALE_PART == 0)
        node->chosen = (uint8_t)(roll() % count);
    return node->chosen;
}

uint32_t search_choose_value(uint32_t count)
{
    uint32_t chosen = pick_value(count < 30 ? count : 30);

    decide(chosen);
    return chosen;
}

uint32_t model_choose(uint32_t count)
{
    rdy_assert(self != 0 && count > 0);
    return search_choose_value(count);
}

/* --- from execution to execution ----------------------------------------------------------- */

static void random_begin(void)
{
    dice = dice_began * 0x9e3779b97f4a7c15u + 0x1234567;
    path_len = 0;
    for (uint32_t i = 0; i < 8; i++)
        (void)roll();
    for (uint32_t i = 1; i < FIBERS; i++)
        priority[i] = PCT_POINTS + (uint32_t)(roll() % 1000);
    for (uint32_t i = 0; i < PCT_POINTS; i++)
        change_at[i] = (uint32_t)(roll() % steps_expected);
}

static void execution_begin(void)
{
    at = 0;
    decisions_count = 0;
    last_fiber = 0;
    preemptions = 0;
    if (opts.mode != SEARCH_ALL)
        path_len = 0;
    if (opts.mode == SEARCH_RANDOM)
        random_begin();
}

void search_begin(const struct search_opts *given)
{
    sharing_reset();
    opts = *given;
    totals = (struct search_totals){0};
    path_len = 0;
    steps_expected = 50;
    dice_began = opts.seed;
    is_first = true;
}

/* Takes the next alternative of the last node that has one; false if none has. */
static bool path_advance(void)
{
    while (path_len > 0) {
        struct node *node = &path[path_len - 1];

        if (node->is_value) {
            if (node->chosen + 1u < node->count) {
                node->chosen++;
                return true;
            }
        } else {
            uint32_t open;

            node->tried |= (uint8_t)mask_of(node->chosen);
            if (is_unbounded())
                node->asleep |= (uint8_t)mask_of(node->chosen);
            open = node_open(node);
            if (open != 0) {
                node->chosen = (uint8_t)lowest(open);
                return true;
            }
        }
        path_len--;
    }
    return false;
}

void search_count(void)
{
    if (run.outcome == OUTCOME_PRUNED)
        totals.pruned++;
    else
        totals.executions++;
    if (run.steps_count > totals.steps_max)
        totals.steps_max = run.steps_count;
}

bool search_next(void)
{
    if (!is_first) {
        if (opts.mode == SEARCH_REPLAY || totals.executions >= opts.executions_max)
            return false;
        if (opts.mode == SEARCH_RANDOM) {
            dice_began++;
            steps_expected = totals.steps_max;
        } else if (sharing_is_outdated()) {
            path_len = 0;
            totals.is_cut = false;
        } else if (!path_advance()) {
            totals.is_complete = true;
            return false;
        }
    }
    is_first = false;
    sharing_begin();
    execution_begin();
    return true;
}

void search_print_replay(void)
{
    if (opts.mode == SEARCH_RANDOM)
        (void)printf("seed: %llu\n", (unsigned long long)dice_began);
    (void)printf("replay: model_check --target %s --replay %.*s\n", run.target->name,
                 (int)decisions_count, decisions);
}

const struct search_totals *search_totals(void)
{
    return &totals;
}
