/* SPDX-License-Identifier: MIT */
/*
 * Tasks: spawn, wake, poll, abort, end.
 *
 * A wake may come from any thread and at any time, also for a task that is gone. Its cost on the
 * runtime's own thread is one compare-and-swap and a push; from elsewhere the task goes onto a
 * stack (Treiber 1986; taken as a whole, so it has no ABA) and the driver is unparked.
 *
 * Why no wake is lost: each wake from elsewhere is a read-modify-write of `state`, also one that
 * changes nothing, and so are the runtime's moves to running and from running to idle. They stand
 * in one order. If the wake is before "running", what the waker wrote is visible to that poll (the
 * waker releases, the runtime acquires); if it is after, it finds running or idle and the task is
 * polled again. A wake that only looked, saw "queued" and went away would leave a window in which
 * the poll misses what the waker wrote.
 *
 * Who is woken by the task that runs goes next, ahead of the queue: what it was woken for is still
 * in the cache. Only the first, so that several who are woken keep their order; and at most three
 * times in a row, then the queue has its turn, or two tasks that wake each other would keep it.
 */
#include "engine/runtime.h"

#include <stdlib.h>

#include "engine/driver.h"
#include "engine/lane_plain.h"
#include "engine/probe.h"

#define SELF_SIZE_MAX  (1024u * 1024u)
#define SELF_ALIGNMENT 16u

_Thread_local struct rdy_runtime *rdy_runtime_current;

/* Another thread's wake: the task is ours to push, since we moved it to queued. */
static void inbox_push(struct rdy_runtime *runtime, struct rdy_task *task)
{
    void *head = rdy_aptr_load_relaxed(&runtime->shared.inbox);

    /* Releases `next`; pairs with the swap in rdy_task_drain_inbox(). */
    do {
        task->next = head;
    } while (!rdy_aptr_cas_acq_rel(&runtime->shared.inbox, &head, task));

    /* Whoever pushes onto the empty stack unparks, for all who come before it is drained. */
    if (!head)
        rdy_driver_unpark(runtime->driver);
}

static inline uint32_t state_after_wake(uint32_t state)
{
    if (state == RDY_TASK_IDLE)
        return RDY_TASK_QUEUED;
    if (state == RDY_TASK_RUNNING)
        return RDY_TASK_WOKEN;
    return state;
}

static void count_stale(struct rdy_runtime *runtime)
{
    (void)rdy_a64_add_relaxed(&runtime->shared.stale_wakes, 1);
}

static void wake_here(struct rdy_runtime *runtime, struct rdy_task *task)
{
    uint32_t seen = rdy_a32_load_relaxed(&task->state);

    /* The poll will be on this thread: a wake that changes nothing has nothing to publish. */
    do {
        if (state_after_wake(seen) == seen) {
            if (seen == RDY_TASK_ENDED)
                count_stale(runtime);
            return;
        }
    } while (!rdy_a32_cas_acq_rel(&task->state, &seen, state_after_wake(seen)));

    if (seen != RDY_TASK_IDLE)
        return;
    __builtin_prefetch(task->self); /* on its way while those before it run */
    rdy_a64_bump(&runtime->count.local_wakes, 1);
    if (runtime->polled && !runtime->next)
        runtime->next = task;
    else
        rdy_task_queue_push(&runtime->ready, task);
}

static void wake_from_elsewhere(struct rdy_runtime *runtime, struct rdy_task *task)
{
    uint32_t seen = rdy_a32_load_relaxed(&task->state);

    /*
     * Release: what the waker wrote, for the poll; pairs with the swap to running in
     * rdy_task_run(). Acquire: that the runtime is done with `next`; pairs with the move to idle in
     * task_park().
     */
    do {
        if (seen == RDY_TASK_ENDED) {
            count_stale(runtime);
            return;
        }
    } while (!rdy_a32_cas_acq_rel(&task->state, &seen, state_after_wake(seen)));

    if (seen != RDY_TASK_IDLE) {
        (void)rdy_a64_add_relaxed(&runtime->shared.remote_wakes_late, 1);
        return;
    }
    (void)rdy_a64_add_relaxed(&runtime->shared.remote_wakes, 1);
    inbox_push(runtime, task);
}

/*
 * The function of every task's waker. A task that ends and another that takes over its header
 * between the look at the generation and the change of the state get a wake for nothing: a poll too
 * many, which every poll function has to bear.
 */
static RDY_HOT void task_wake(void *arg, uint64_t data)
{
    struct rdy_task *task = arg;
    struct rdy_runtime *runtime = task->runtime;

    rdy_probe2(wake, task, runtime);
    if (rdy_unlikely(rdy_a32_load_relaxed(&task->head.generation) != (uint32_t)data))
        count_stale(runtime);
    else if (rdy_likely(rdy_runtime_current == runtime))
        wake_here(runtime, task);
    else
        wake_from_elsewhere(runtime, task);
}

RDY_HOT struct rdy_waker rdy_task_waker(struct rdy_task *task)
{
    return (struct rdy_waker){
        .fn = task_wake,
        .arg = task,
        .data = rdy_a32_load_relaxed(&task->head.generation),
    };
}

struct rdy_task_id rdy_task_get_id(const struct rdy_task *task)
{
    return (struct rdy_task_id){
        .slot = task->head.slot,
        .generation = rdy_a32_load_relaxed(&task->head.generation),
    };
}

RDY_HOT struct rdy_runtime *rdy_task_runtime(const struct rdy_task *task)
{
    return task->runtime;
}

/* A header in state ended: a spare one, else a new one. */
static struct rdy_task *header_take(struct rdy_runtime *runtime, int *err)
{
    struct rdy_task *task = runtime->spare;

    if (task) {
        runtime->spare = task->next;
        return task;
    }
    task = rdy_slab_take(runtime->tasks, err);
    if (!task)
        return NULL;
    task->runtime = runtime;
    task->flags = RDY_TASK_GONE;
    rdy_a32_store_relaxed(&task->state, RDY_TASK_ENDED);
    return task;
}

/* Keeps a header for the next spawn; the slab would keep its memory just as long. */
static void header_keep(struct rdy_runtime *runtime, struct rdy_task *task)
{
    rdy_assert(rdy_a32_load_relaxed(&task->state) == RDY_TASK_ENDED);
    rdy_assert(task->flags & RDY_TASK_GONE);
    task->next = runtime->spare;
    runtime->spare = task;
}

static uint32_t flags_of(const struct rdy_task_spec *spec)
{
    if (spec->timeout_ns != 0)
        return RDY_TASK_TIMED | RDY_TASK_NAMED;
    return spec->name ? RDY_TASK_NAMED : 0;
}

/* Bytes in front of a task's own struct. */
static size_t front_size(uint32_t flags)
{
    if (flags & RDY_TASK_TIMED)
        return sizeof(struct rdy_timer) + sizeof(struct rdy_task_label);
    return flags & RDY_TASK_NAMED ? sizeof(struct rdy_task_label) : 0;
}

/* calloc() aligns to 16 whatever is a multiple of 16. */
int rdy_task_self_make(const struct rdy_task_spec *spec, void **self)
{
    size_t front = front_size(flags_of(spec));
    char *block;

    *self = NULL;
    if (!spec->poll || spec->self_size > SELF_SIZE_MAX)
        return -EINVAL;
    if (front + spec->self_size == 0)
        return 0;
    block =
        calloc(1, (front + spec->self_size + SELF_ALIGNMENT - 1) & ~(size_t)(SELF_ALIGNMENT - 1));
    if (!block)
        return -ENOMEM;
    rdy_assert(((uintptr_t)block & (SELF_ALIGNMENT - 1)) == 0);
    *self = block + front;
    return 0;
}

static void self_free(uint32_t flags, void *self)
{
    if (self)
        free((char *)self - front_size(flags));
}

void rdy_task_self_free(const struct rdy_task_spec *spec, void *self)
{
    self_free(flags_of(spec), self);
}

/* Part of rdy_spawn() rather than called by it: that is a tenth of what a small task costs. */
static inline __attribute__((always_inline)) int task_start(struct rdy_runtime *runtime,
                                                            const struct rdy_task_spec *spec,
                                                            void *self, struct rdy_task **started)
{
    struct rdy_task *task;
    int rc = 0;

    rdy_debug(rdy_driver_is_own_thread(runtime->driver));
    if (runtime->is_closing)
        return -ESHUTDOWN;
    task = header_take(runtime, &rc);
    if (!task)
        return rc;
    task->self = self;
    task->poll = spec->poll;
    task->drop = spec->drop;
    task->join = NULL;
    task->flags = flags_of(spec);
    if (rdy_unlikely(task->flags != 0))
        rdy_task_label(task)->name = spec->name;
    if (rdy_unlikely(task->flags & RDY_TASK_TIMED))
        rdy_task_arm_deadline(task, rdy_task_first_deadline(runtime, spec->timeout_ns));

    /* A swap, not a store: a late waker of the header's last task may be at this word now. */
    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_QUEUED);
    rdy_task_queue_push(&runtime->ready, task);
    if (rdy_unlikely(!runtime->is_inside))
        rdy_runtime_call_again(runtime);
    *started = task;
    return 0;
}

int rdy_task_start(struct rdy_runtime *runtime, const struct rdy_task_spec *spec, void *self,
                   struct rdy_task **started)
{
    return task_start(runtime, spec, self, started);
}

int rdy_spawn(struct rdy_runtime *runtime, const struct rdy_task_spec *spec, void **self,
              struct rdy_task_id *id)
{
    struct rdy_task *task = NULL;
    void *made;
    int rc = rdy_task_self_make(spec, &made);

    if (rc < 0)
        return rc;
    rc = task_start(runtime, spec, made, &task);
    if (rc < 0) {
        rdy_task_self_free(spec, made);
        return rc;
    }
    rdy_a64_bump(&runtime->count.local_spawns, 1);
    if (self)
        *self = made;
    if (id)
        *id = rdy_task_get_id(task);
    return 0;
}

const char *rdy_task_name(const struct rdy_task *task)
{
    const char *name = NULL;

    if (task->flags & RDY_TASK_NAMED)
        name = rdy_task_label(task)->name;
    return name ? name : "";
}

/*
 * Ends a task that is not being polled: its name and wakers are stale from here on, so that
 * whatever its drop does, abort itself included, finds it gone. The joiner hears of it last, when
 * all that the task held is free. The header is the caller's to keep.
 */
static void task_end(struct rdy_runtime *runtime, struct rdy_task *task, int result)
{
    void *self = task->self;

    rdy_assert((task->flags & RDY_TASK_GONE) == 0);
    task->flags |= RDY_TASK_GONE;
    (void)rdy_slab_renew(runtime->tasks, task);
    /* Pairs with rdy_flow_inside(), as do those of task_polls and reaped below. */
    rdy_a64_bump_release(&runtime->count.tasks_ended, 1);
    if (rdy_unlikely(task->flags & RDY_TASK_TIMED))
        (void)rdy_timer_cancel(rdy_task_deadline(task));
    if (task->drop)
        task->drop(self);
    self_free(task->flags, self);
    task->self = NULL;
    if (task->join)
        rdy_task_resolve(task, result);
}

/* A queued one is reaped when it comes out of its queue. */
void rdy_task_cut_off(struct rdy_runtime *runtime, struct rdy_task *task, int result)
{
    uint32_t seen = RDY_TASK_IDLE;
    bool was_idle = rdy_a32_cas_acq_rel(&task->state, &seen, RDY_TASK_ENDED);

    rdy_assert(was_idle || seen == RDY_TASK_QUEUED);
    task_end(runtime, task, result);
    if (was_idle)
        header_keep(runtime, task);
}

struct rdy_task *rdy_task_find(const struct rdy_runtime *runtime, struct rdy_task_id id)
{
    struct rdy_task *task =
        rdy_slab_find(runtime->tasks, ((uint64_t)id.slot << 32) | id.generation);

    return task && (task->flags & RDY_TASK_GONE) == 0 ? task : NULL;
}

int rdy_task_abort(struct rdy_runtime *runtime, struct rdy_task_id id)
{
    struct rdy_task *task = rdy_task_find(runtime, id);

    if (!task)
        return -ESRCH;
    if (task == runtime->polled) {
        if ((task->flags & RDY_TASK_ABORTED) == 0)
            rdy_a64_bump(&runtime->count.task_aborts, 1);
        task->flags |= RDY_TASK_ABORTED;
        return 0;
    }
    rdy_a64_bump(&runtime->count.task_aborts, 1);
    rdy_task_cut_off(runtime, task, -ECANCELED);
    return 0;
}

void rdy_task_defer(struct rdy_task *task)
{
    rdy_assert(task->runtime->polled == task);
    task->flags |= RDY_TASK_DEFERRED;
}

void rdy_task_overdraw(struct rdy_task *task)
{
    rdy_task_defer(task);
    task->flags |= RDY_TASK_OVERDREW;
}

int rdy_task_charge(struct rdy_task *task)
{
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rdy_task_spend(task);
    return 0;
}

bool rdy_task_has_budget(const struct rdy_task *task)
{
    rdy_assert(task->runtime->polled == task);
    return task->runtime->budget_left > 0;
}

/* The poll said RDY_PENDING: back to a queue, or to sleep. */
static void task_park(struct rdy_runtime *runtime, struct rdy_task *task)
{
    uint32_t seen = RDY_TASK_RUNNING;

    if (task->flags & RDY_TASK_DEFERRED) {
        (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_QUEUED);
        rdy_task_queue_push(&runtime->deferred, task);
        rdy_a64_bump(&runtime->count.local_wakes, 1);
        return;
    }
    /* Release: we are done with `next`; pairs with the move to queued in wake_from_elsewhere(). */
    if (rdy_a32_cas_acq_rel(&task->state, &seen, RDY_TASK_IDLE))
        return;
    rdy_assert(seen == RDY_TASK_WOKEN);
    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_QUEUED);
    rdy_task_queue_push(&runtime->ready, task);
    rdy_a64_bump(&runtime->count.local_wakes, 1);
}

RDY_HOT struct rdy_task *rdy_task_next(struct rdy_runtime *runtime)
{
    struct rdy_task *task = runtime->next;

    if (!task) {
        runtime->next_streak = 0;
        return rdy_task_queue_pop(&runtime->ready);
    }
    runtime->next = NULL;
    if (runtime->next_streak == RDY_TASK_NEXT_MAX && runtime->ready.first) {
        rdy_a64_bump(&runtime->count.next_bounds, 1);
        runtime->next_streak = 0;
        rdy_task_queue_push(&runtime->ready, task);
        return rdy_task_queue_pop(&runtime->ready);
    }
    if (runtime->next_streak < RDY_TASK_NEXT_MAX)
        runtime->next_streak++;
    if ((task->flags & RDY_TASK_GONE) == 0)
        rdy_a64_bump(&runtime->count.next_polls, 1);
    return task;
}

/* A task that ended while it was in a queue. */
static void task_reap(struct rdy_runtime *runtime, struct rdy_task *task)
{
    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_ENDED);
    header_keep(runtime, task);
    rdy_a64_bump_release(&runtime->count.reaped, 1);
}

static void task_poll(struct rdy_runtime *runtime, struct rdy_task *task)
{
    uint32_t was;
    int rc;

    /* Acquire: what each waker wrote before its wake; pairs with wake_from_elsewhere(). */
    was = rdy_a32_swap_acq_rel(&task->state, RDY_TASK_RUNNING);
    rdy_assert(was == RDY_TASK_QUEUED);

    task->flags &= RDY_TASK_LASTING;
    runtime->polled = task;
    runtime->budget_left = runtime->task_budget;
    rdy_a64_bump_release(&runtime->count.task_polls, 1);
    rdy_probe2(task_poll_begin, task, task->poll);
    rc = task->poll(task, task->self);
    rdy_probe2(task_poll_end, task, rc);
    runtime->polled = NULL;
    if (task->flags & RDY_TASK_OVERDREW)
        rdy_a64_bump(&runtime->count.budget_yields, 1);

    if (rc == RDY_PENDING && (task->flags & RDY_TASK_ABORTED) == 0) {
        task_park(runtime, task);
        return;
    }
    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_ENDED);
    task_end(runtime, task, rc == RDY_PENDING ? -ECANCELED : rc);
    header_keep(runtime, task);
}

RDY_HOT void rdy_task_run(struct rdy_runtime *runtime, struct rdy_task *task)
{
    if (rdy_unlikely(task->flags & RDY_TASK_GONE)) {
        task_reap(runtime, task);
        return;
    }
    task_poll(runtime, task);
    rdy_plain_end_poll(runtime->driver);
    if (rdy_unlikely(runtime->is_timed))
        rdy_poll_time_lap(runtime);
}

RDY_HOT void rdy_task_drain_inbox(struct rdy_runtime *runtime)
{
    struct rdy_task_queue woken = {0};
    struct rdy_task *task;
    uint64_t count = 0;

    if (!rdy_aptr_load_relaxed(&runtime->shared.inbox))
        return;
    /* Acquire: the `next` of each task; pairs with inbox_push(). */
    task = rdy_aptr_swap_acq_rel(&runtime->shared.inbox, NULL);
    woken.last = task;
    while (task) { /* a stack: turn it round, so that who was woken first runs first */
        struct rdy_task *next = task->next;

        task->next = woken.first;
        woken.first = task;
        task = next;
        count++;
    }
    rdy_task_queue_append(&runtime->ready, &woken);
    rdy_a64_bump_release(&runtime->count.remote_wakes_taken, count);
}

void rdy_task_end_all(struct rdy_runtime *runtime)
{
    struct rdy_task *task;
    uint32_t slot = 0;

    rdy_assert(runtime->is_closing && !runtime->polled);
    while ((task = rdy_slab_next_live(runtime->tasks, &slot))) {
        if ((task->flags & RDY_TASK_GONE) == 0)
            rdy_task_cut_off(runtime, task, -ECANCELED);
    }
}
