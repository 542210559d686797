/* SPDX-License-Identifier: MIT */
/*
 * The scripted backend. Its open() is given no pointer of the test's, so that
 * one is passed in a thread's variable by fake_driver_open(), which calls it on
 * the same thread.
 */
#include "tests/support/fake_backend.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/driver.h"
#include "engine/sys.h"
#include "tests/support/check.h"

#define TRUTH_SLICE_MS 1

static _Thread_local struct fake *opening;

static struct fake *fake_of(struct rdy_backend *backend)
{
    return (struct fake *)(void *)backend;
}

/* --- queues and watches; under the lock --- */

static void queue_push(struct fake_queue *queue, struct rdy_fact fact)
{
    rdy_assert(queue->count < FAKE_FACTS_MAX);
    queue->fact[queue->count++] = fact;
}

static struct fake_watch *watch_of_token(struct fake *fake, uint64_t token)
{
    for (uint32_t i = 0; i < fake->watches_count; i++) {
        if (fake->watch[i].token == token)
            return &fake->watch[i];
    }
    return NULL;
}

static struct fake_watch *watch_of_fd(struct fake *fake, int fd)
{
    for (uint32_t i = fake->watches_count; i-- > 0;) {
        if (fake->watch[i].fd == fd && !fake->watch[i].is_cancelled)
            return &fake->watch[i];
    }
    return NULL;
}

static void watch_remove(struct fake *fake, struct fake_watch *watch)
{
    *watch = fake->watch[--fake->watches_count];
}

/* --- the seven functions --- */

static int fake_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    (void)report;
    (void)snprintf(why, why_len, "a test's backend runs anywhere");
    return 0;
}

static int fake_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                     size_t why_len)
{
    struct fake *fake = opening;

    rdy_assert(fake && !fake->is_open);
    fake->opened_with = *opts;
    (void)snprintf(why, why_len, "a test asked for it");
    if (fake->open_error != 0)
        return fake->open_error;
    fake->wake_fd = rdy_sys_eventfd();
    if (fake->wake_fd < 0)
        return fake->wake_fd;
    fake->is_open = true;
    fake->backend.ops = &fake->ops;
    *out = &fake->backend;
    return 0;
}

static void fake_close(struct rdy_backend *backend)
{
    struct fake *fake = fake_of(backend);

    rdy_assert(fake->is_open);
    fake->is_open = false;
    fake_ops_close_files(fake);
    (void)rdy_sys_close(fake->wake_fd);
}

static int fake_arm_locked(struct fake *fake, int fd, uint64_t token, uint32_t events)
{
    if (fake->arm_errors > 0) {
        fake->arm_errors--;
        return fake->arm_error;
    }
    rdy_assert(fake->watches_count < FAKE_WATCHES_MAX);
    rdy_assert(!watch_of_token(fake, token));
    fake->watch[fake->watches_count++] =
        (struct fake_watch){.fd = fd, .token = token, .events = events};
    fake->arms++;
    return 0;
}

static int fake_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    struct fake *fake = fake_of(backend);
    int rc;

    pthread_mutex_lock(&fake->lock);
    rc = fake_arm_locked(fake, fd, token, events);
    pthread_mutex_unlock(&fake->lock);
    return rc;
}

/* As a ring, unless the fake may be called from any thread: then as epoll. */
static int fake_disarm_locked(struct fake *fake, uint64_t token)
{
    struct fake_watch *watch = watch_of_token(fake, token);
    struct rdy_fact last = {.token = token, .result = -ECANCELED, .flags = RDY_FACT_LAST};

    fake->disarms++;
    if (fake->disarm_errors > 0) {
        fake->disarm_errors--;
        return fake->disarm_error;
    }
    if (rdy_token_about(token) != RDY_ABOUT_WATCH)
        return fake_ops_cancel(fake, token) ? 0 : -ENOENT;
    if (!watch)
        return -ENOENT;
    if (fake->ops.capabilities & RDY_BACKEND_ANY_THREAD) {
        watch_remove(fake, watch);
        return RDY_DISARMED;
    }
    watch->is_cancelled = true;
    queue_push(fake->is_withholding ? &fake->withheld : &fake->due, last);
    return 0;
}

static int fake_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct fake *fake = fake_of(backend);
    int rc;

    (void)fd;
    pthread_mutex_lock(&fake->lock);
    rc = fake_disarm_locked(fake, token);
    pthread_mutex_unlock(&fake->lock);
    return rc;
}

/*
 * Of what holds now, that which an edge would tell. Plain data and room come
 * under a key of their own; a change of the connection's state comes without a
 * key, and is answered with everything.
 */
static uint32_t edge(const struct fake_watch *watch, uint32_t now, bool is_whole)
{
    const uint32_t keyed = RDY_EV_IN | RDY_EV_OUT | RDY_EV_PRI;
    uint32_t fresh = now & ~watch->seen;
    bool is_state_change = ((now ^ watch->seen) & ~keyed) != 0;

    if (is_state_change || (fresh != 0 && is_whole))
        return now;
    return fresh;
}

/* What poll(2) sees that it did not see before becomes facts. */
static void look(struct fake *fake)
{
    bool is_whole = (fake->ops.capabilities & RDY_BACKEND_WHOLE_STATE) != 0;

    for (uint32_t i = 0; i < fake->watches_count; i++) {
        struct fake_watch *watch = &fake->watch[i];
        uint32_t now = rdy_sys_poll_now(watch->fd, watch->events | RDY_EV_RDHUP);
        uint32_t told = edge(watch, now, is_whole);

        watch->seen = now;
        if (told != 0 && !watch->is_cancelled)
            queue_push(&fake->due, (struct rdy_fact){.token = watch->token, .events = told});
    }
}

static int hand_out(struct fake *fake, struct rdy_fact *facts, uint32_t facts_max)
{
    struct fake_queue *due = &fake->due;
    uint32_t count = due->count < facts_max ? due->count : facts_max;

    for (uint32_t i = 0; i < count; i++) {
        struct fake_watch *watch = watch_of_token(fake, due->fact[i].token);

        facts[i] = due->fact[i];
        if (watch && (facts[i].flags & RDY_FACT_LAST))
            watch_remove(fake, watch);
    }
    due->count -= count;
    memmove(due->fact, due->fact + count, due->count * sizeof(due->fact[0]));
    return (int)count;
}

static int take(struct fake *fake, struct rdy_fact *facts, uint32_t facts_max)
{
    int count;

    pthread_mutex_lock(&fake->lock);
    if (fake->is_truth)
        look(fake);
    if (fake->ops.capabilities & RDY_BACKEND_COMPLETES)
        fake_ops_progress(fake);
    count = hand_out(fake, facts, facts_max);
    if (fake->due.count > 0)
        fake->backend.is_settled = false;
    pthread_mutex_unlock(&fake->lock);
    return count;
}

/* Sleeps until a wake or the timeout; true after a wake. */
static bool sleep_on_wake(const struct fake *fake, int timeout_ms)
{
    struct pollfd item = {.fd = fake->wake_fd, .events = POLLIN};

    if (poll(&item, 1, timeout_ms) <= 0)
        return false;
    (void)rdy_sys_eventfd_drain(fake->wake_fd);
    return true;
}

static int fake_wait(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                     uint32_t facts_max)
{
    struct fake *fake = fake_of(backend);
    uint64_t start_ns = rdy_sys_now_ns();
    int count;

    fake->waits++;
    fake->waits_blocking += timeout_ns != 0;
    fake->timeout_ns = timeout_ns;
    backend->batch_waited = timeout_ns != 0 && backend->can_batch ? backend->batch_count : 1;
    if (fake->on_wait)
        fake->on_wait(fake->on_wait_arg);
    rdy_a64_bump(&backend->system_calls, 1);
    fake_ops_close_files(fake);
    if (fake->wait_error != 0)
        return fake->wait_error;
    while ((count = take(fake, facts, facts_max)) == 0) {
        if (timeout_ns == 0 || !(fake->is_truth || fake->is_blocking))
            break;
        if (timeout_ns > 0 && rdy_sys_now_ns() - start_ns >= (uint64_t)timeout_ns)
            break;
        if (sleep_on_wake(fake, TRUTH_SLICE_MS))
            break;
    }
    return count;
}

static bool fake_has_news(const struct rdy_backend *backend)
{
    struct fake *fake = (struct fake *)(uintptr_t)backend;
    bool has_news;

    fake->looks++;
    if (fake->on_wait)
        fake->on_wait(fake->on_wait_arg);
    pthread_mutex_lock(&fake->lock);
    has_news = fake->due.count > 0;
    pthread_mutex_unlock(&fake->lock);
    return has_news;
}

static void fake_wake(struct rdy_backend *backend)
{
    struct fake *fake = fake_of(backend);

    (void)__atomic_fetch_add(&fake->wakes, 1, __ATOMIC_RELAXED);
    (void)rdy_sys_eventfd_write(fake->wake_fd);
}

static int fake_fd(const struct rdy_backend *backend)
{
    return ((const struct fake *)(const void *)backend)->wake_fd;
}

/* --- what tests call --- */

void fake_init(struct fake *fake, uint32_t capabilities)
{
    memset(fake, 0, sizeof(*fake));
    pthread_mutex_init(&fake->lock, NULL);
    fake->ops = (struct rdy_backend_ops){
        .name = "fake",
        .capabilities = capabilities,
        .probe = fake_probe,
        .open = fake_open,
        .close = fake_close,
        .arm = fake_arm,
        .disarm = fake_disarm,
        .wait = fake_wait,
        .wake = fake_wake,
        .fd = fake_fd,
    };
}

void fake_init_truth(struct fake *fake, bool is_whole)
{
    fake_init(fake, is_whole ? RDY_BACKEND_WHOLE_STATE : 0);
    fake->is_truth = true;
}

void fake_init_completing(struct fake *fake)
{
    fake_init(fake, RDY_BACKEND_COMPLETES);
    fake->is_truth = true;
    fake_ops_install(&fake->ops);
}

void fake_show_news(struct fake *fake)
{
    rdy_assert(!fake->is_open);
    fake->ops.has_news = fake_has_news;
}

int fake_driver_open(struct fake *fake, const struct rdy_driver_opts *opts,
                     struct rdy_driver **driver)
{
    int rc;

    opening = fake;
    rc = rdy_driver_open_with(driver, opts, &fake->ops);
    opening = NULL;
    return rc;
}

uint64_t fake_token(struct fake *fake, int fd)
{
    struct fake_watch *watch;
    uint64_t token = 0;

    pthread_mutex_lock(&fake->lock);
    watch = watch_of_fd(fake, fd);
    if (watch)
        token = watch->token;
    pthread_mutex_unlock(&fake->lock);
    check(watch != NULL);
    return token;
}

void fake_push_raw(struct fake *fake, uint64_t token, uint32_t events, int result, uint32_t flags)
{
    struct rdy_fact fact = {.token = token, .events = events, .result = result, .flags = flags};

    pthread_mutex_lock(&fake->lock);
    queue_push(&fake->due, fact);
    pthread_mutex_unlock(&fake->lock);
}

void fake_push(struct fake *fake, int fd, uint32_t events)
{
    fake_push_raw(fake, fake_token(fake, fd), events, 0, 0);
}

void fake_push_end(struct fake *fake, int fd, uint32_t events, int result, uint32_t flags)
{
    fake_push_raw(fake, fake_token(fake, fd), events, result, flags | RDY_FACT_LAST);
}

void fake_let_go(struct fake *fake, bool is_reversed)
{
    struct fake_queue *from = &fake->withheld;

    pthread_mutex_lock(&fake->lock);
    for (uint32_t i = 0; i < from->count; i++)
        queue_push(&fake->due, from->fact[is_reversed ? from->count - 1 - i : i]);
    from->count = 0;
    fake->ops_state.is_withholding = false;
    pthread_mutex_unlock(&fake->lock);
}
