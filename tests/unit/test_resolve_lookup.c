/* SPDX-License-Identifier: MIT */
/*
 * The resolver over a lookup that the test answers: slow, failing, huge and odd answers, many
 * lookups at once, and lookups that are given up in each of their states.
 *
 * The host's name says what the fake answers; it counts the lists that it handed out and that have
 * not come back.
 */
#include "tests/support/jobs.h"
#include "tests/support/runtime.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <rdy/resolve.h>
#include <rdy/timer.h>

#include "engine/sys_resolve.h"

#define HUGE_COUNT  20000u
#define CROWD_COUNT 1000u
#define SECOND_NS   UINT64_C(1000000000)

static struct {
    struct rdy_a32 lists; /* handed out, not given back */
    struct rdy_a32 calls;
    sem_t begun; /* a slow lookup has begun */
    sem_t gate;  /* lets one go on */
} fake;

/* --- the fake --- */

struct fake_info {
    struct addrinfo info;
    struct sockaddr_in addr;
};

/* 10.x.y.z out of @number, and the service as the port. */
static struct addrinfo *fake_address(uint32_t number, const char *service)
{
    struct fake_info *fresh = calloc(1, sizeof(*fresh));

    if (!fresh)
        abort();
    fresh->addr.sin_family = AF_INET;
    fresh->addr.sin_port = htons((uint16_t)strtoul(service, NULL, 10));
    fresh->addr.sin_addr.s_addr = htonl(0x0a000000u + number);
    fresh->info.ai_addr = (struct sockaddr *)&fresh->addr;
    fresh->info.ai_addrlen = sizeof(fresh->addr);
    return &fresh->info;
}

static struct addrinfo *fake_list(uint32_t first, uint32_t count, const char *service)
{
    struct addrinfo *list = NULL;

    for (uint32_t i = count; i > 0; i--) {
        struct addrinfo *info = fake_address(first + i - 1, service);

        info->ai_next = list;
        list = info;
    }
    return list;
}

/* Entries that no socket could use, around and instead of one that could. */
static struct addrinfo *fake_odd_list(bool has_a_good_one, const char *service)
{
    struct addrinfo *list = fake_list(1, 3, service);

    list->ai_addr = NULL;
    list->ai_next->ai_next->ai_addrlen = sizeof(struct sockaddr_storage) + 1;
    if (!has_a_good_one)
        list->ai_next->ai_addr = NULL;
    return list;
}

static int fake_get(const char *host, const char *service, const struct addrinfo *hints,
                    struct addrinfo **list)
{
    (void)rdy_a32_add_seq_cst(&fake.calls, 1);
    if (hints->ai_flags & AI_NUMERICHOST)
        abort(); /* numbers are none of this lookup's business */
    if (strncmp(host, "fail", 4) == 0) {
        errno = ENETDOWN;
        *list = (struct addrinfo *)(void *)&fake; /* as after a failure nobody may rely on it */
        return -(int)strtol(host + 4, NULL, 10);
    }
    if (strncmp(host, "slow", 4) == 0) {
        (void)sem_post(&fake.begun);
        sem_take(&fake.gate);
    }
    if (strcmp(host, "none") == 0) {
        *list = NULL;
        return 0;
    }
    (void)rdy_a32_add_seq_cst(&fake.lists, 1);
    if (strcmp(host, "huge") == 0)
        *list = fake_list(0, HUGE_COUNT, service);
    else if (strncmp(host, "odd", 3) == 0)
        *list = fake_odd_list(host[3] != '\0', service);
    else
        *list = fake_list((uint32_t)strtoul(host + 4, NULL, 10), 1, service);
    return 0;
}

static void fake_free(struct addrinfo *list)
{
    (void)rdy_a32_add_seq_cst(&fake.lists, UINT32_MAX);
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(rdy_container_of(list, struct fake_info, info));
        list = next;
    }
}

static const struct rdy_sys_lookup fake_lookup = {.get = fake_get, .free = fake_free};

static void fake_begin(void)
{
    memset(&fake, 0, sizeof(fake));
    check(sem_init(&fake.begun, 0, 0) == 0);
    check(sem_init(&fake.gate, 0, 0) == 0);
    rdy_sys_set_lookup(&fake_lookup);
}

/* Waits for what is still under way, then sees that every list came back. */
static void fake_end(struct rdy_pool *pool)
{
    rdy_pool_close(pool);
    rdy_sys_set_lookup(NULL);
    assert_int_equal(rdy_a32_load_acquire(&fake.lists), 0);
}

/* --- tasks --- */

struct asking {
    struct rdy_pool *pool;
    char host[16];
    struct rdy_resolve resolve;
    struct rdy_timer timer;
    struct rdy_address_list list;
    uint64_t deadline_ns; /* 0: none */
    int rc;
};

static void asking_drop(void *self)
{
    struct asking *asking = ((struct test_task *)self)->test;

    (void)rdy_timer_cancel(&asking->timer);
    rdy_resolve_cancel(&asking->resolve);
}

static int asking_poll_answer(struct asking *asking, struct rdy_task *task)
{
    if (asking->deadline_ns == 0)
        return rdy_resolve_poll(&asking->resolve, task, &asking->list);
    return RDY_TIMEOUT(&asking->timer, task, asking->deadline_ns,
                       rdy_resolve_poll(&asking->resolve, task, &asking->list));
}

static int poll_asks(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct asking *asking = s->test;

    RDY_BEGIN(&s->co);
    assert_int_equal(rdy_resolve_start(&asking->resolve, asking->pool, asking->host, "80", NULL),
                     0);
    RDY_AWAIT(&s->co, asking->rc = asking_poll_answer(asking, task));
    RDY_END(&s->co);
    return 0;
}

static struct rdy_task_id asking_spawn(struct rdy_runtime *runtime, struct asking *asking,
                                       struct rdy_pool *pool, const char *host)
{
    *asking = (struct asking){.pool = pool, .rc = 1};
    (void)snprintf(asking->host, sizeof(asking->host), "%s", host);
    return spawn_test(runtime, poll_asks, asking_drop, asking);
}

static int ask(struct rdy_runtime *runtime, struct rdy_pool *pool, const char *host,
               struct rdy_address_list *list)
{
    struct asking asking;

    (void)asking_spawn(runtime, &asking, pool, host);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    *list = asking.list;
    return asking.rc;
}

static uint32_t number_of(const struct rdy_address *address)
{
    struct sockaddr_in v4;

    assert_int_equal(address->addr_len, sizeof(v4));
    memcpy(&v4, &address->addr, sizeof(v4));
    assert_int_equal(v4.sin_family, AF_INET);
    assert_int_equal(ntohs(v4.sin_port), 80);
    return ntohl(v4.sin_addr.s_addr) - 0x0a000000u;
}

static void every_answer_of_the_c_library_has_its_number(void **state)
{
    static const struct {
        int answer;
        int rc;
    } rows[] = {
        {EAI_NONAME, -ENOENT},       {EAI_NODATA, -ENODATA},
        {EAI_ADDRFAMILY, -ENODATA},  {EAI_AGAIN, -EHOSTDOWN},
        {EAI_FAIL, -EREMOTEIO},      {EAI_SERVICE, -EPROTONOSUPPORT},
        {EAI_FAMILY, -EAFNOSUPPORT}, {EAI_SOCKTYPE, -ESOCKTNOSUPPORT},
        {EAI_MEMORY, -ENOMEM},       {EAI_BADFLAGS, -EINVAL},
        {EAI_SYSTEM, -EIO},          {EAI_OVERFLOW, -EIO},
    };
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_address_list list = {0};
    char host[16];

    fake_begin();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)snprintf(host, sizeof(host), "fail%d", -rows[i].answer);
        assert_int_equal(ask(runtime_of(state), pool, host, &list), rows[i].rc);
        assert_null(list.items);
        assert_int_equal(rdy_resolve_wait(host, "80", NULL, &list), rows[i].rc);
        assert_null(list.items);
    }
    fake_end(pool);
}

static void a_huge_answer_comes_whole_and_in_its_order(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_address_list list = {0};

    fake_begin();
    assert_int_equal(ask(runtime_of(state), pool, "huge", &list), 0);
    assert_int_equal(list.count, HUGE_COUNT);
    for (uint32_t i = 0; i < HUGE_COUNT; i++)
        assert_int_equal(number_of(&list.items[i]), i);
    rdy_address_list_free(&list);
    fake_end(pool);
}

static void what_no_socket_could_use_is_left_out(void **state)
{
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_address_list list = {0};

    fake_begin();
    assert_int_equal(ask(runtime_of(state), pool, "odd-but-one", &list), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(number_of(&list.items[0]), 2);
    rdy_address_list_free(&list);
    assert_int_equal(ask(runtime_of(state), pool, "odd", &list), -ENODATA);
    assert_int_equal(ask(runtime_of(state), pool, "none", &list), -ENODATA);
    fake_end(pool);
}

static void a_thousand_lookups_share_two_threads_and_get_their_own_answers(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(2, 0);
    struct asking *askings = calloc(CROWD_COUNT, sizeof(*askings));
    char host[16];

    assert_non_null(askings);
    fake_begin();
    for (uint32_t i = 0; i < CROWD_COUNT; i++) {
        (void)snprintf(host, sizeof(host), "%s%u", i < 2 ? "slow" : "host", i);
        (void)asking_spawn(runtime, &askings[i], pool, host);
    }
    check(sem_post(&fake.gate) == 0);
    check(sem_post(&fake.gate) == 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    for (uint32_t i = 0; i < CROWD_COUNT; i++) {
        assert_int_equal(askings[i].rc, 0);
        assert_int_equal(askings[i].list.count, 1);
        assert_int_equal(number_of(&askings[i].list.items[0]), i);
        rdy_address_list_free(&askings[i].list);
    }
    assert_true(pool_stats(pool).threads_started <= 2);
    assert_int_equal(pool_stats(pool).jobs_run, CROWD_COUNT);
    free(askings);
    fake_end(pool);
}

/* --- given up --- */

static void lookups_are_given_up_queued_running_and_answered(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct asking askings[3];
    struct rdy_task_id ids[3];

    fake_begin();
    ids[0] = asking_spawn(runtime, &askings[0], pool, "slow1");
    ids[1] = asking_spawn(runtime, &askings[1], pool, "host2");
    ids[2] = asking_spawn(runtime, &askings[2], pool, "host3");
    take_turns(runtime, 1);
    sem_take(&fake.begun);

    /* Queued: it is never asked. */
    assert_int_equal(rdy_task_abort(runtime, ids[1]), 0);
    assert_null(askings[1].resolve.job.job);
    assert_int_equal(pool_stats(pool).jobs_cancelled, 1);
    /* Running: it is asked, and its answer is nobody's. */
    assert_int_equal(rdy_task_abort(runtime, ids[0]), 0);
    assert_int_equal(pool_stats(pool).jobs_detached, 1);
    /* Answered, and not looked at. */
    check(sem_post(&fake.gate) == 0);
    await_that(pool_stats(pool).jobs_run == 2);
    assert_int_equal(rdy_task_abort(runtime, ids[2]), 0);

    assert_int_equal(rdy_a32_load_acquire(&fake.calls), 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(askings[i].rc, RDY_PENDING);
        assert_null(askings[i].list.items);
    }
    fake_end(pool);
}

static int poll_times_out(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct asking *asking = s->test;

    RDY_BEGIN(&s->co);
    asking->deadline_ns = rdy_runtime_now_ns(rdy_task_runtime(task)) + SECOND_NS;
    assert_int_equal(rdy_resolve_start(&asking->resolve, asking->pool, asking->host, "80", NULL),
                     0);
    RDY_AWAIT(&s->co, asking->rc = asking_poll_answer(asking, task));
    if (asking->rc == -ETIMEDOUT)
        rdy_resolve_cancel(&asking->resolve);
    RDY_END(&s->co);
    return 0;
}

/* The clock of the test jumps to the deadline: nothing else is there to do. */
static void a_lookup_that_takes_too_long_is_left_to_its_thread(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct asking asking = {.pool = pool, .host = "slow1", .rc = 1};

    fake_begin();
    rdy_runtime_pause_clock(runtime);
    (void)spawn_test(runtime, poll_times_out, asking_drop, &asking);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(asking.rc, -ETIMEDOUT);
    assert_true(rdy_timer_has_fired(&asking.timer));
    assert_null(asking.resolve.job.job);
    assert_int_equal(pool_stats(pool).jobs_run, 0);
    check(sem_post(&fake.gate) == 0);
    fake_end(pool);
}

static void a_shutdown_of_the_pool_ends_the_lookups_that_wait(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_resolve late = {0};
    struct asking askings[2];

    fake_begin();
    (void)asking_spawn(runtime, &askings[0], pool, "slow1");
    (void)asking_spawn(runtime, &askings[1], pool, "host2");
    take_turns(runtime, 1);
    sem_take(&fake.begun);
    assert_int_equal(rdy_pool_shutdown(pool, 0), -ETIMEDOUT);
    assert_int_equal(rdy_resolve_start(&late, pool, "host3", "80", NULL), -ESHUTDOWN);
    assert_int_equal(rdy_resolve_start(&late, pool, "::1", "80", NULL), 0); /* needs no pool */
    rdy_resolve_cancel(&late);
    check(sem_post(&fake.gate) == 0);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(askings[1].rc, -ECANCELED);
    assert_int_equal(askings[0].rc, 0);
    assert_int_equal(number_of(&askings[0].list.items[0]), 1);
    rdy_address_list_free(&askings[0].list);
    fake_end(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(every_answer_of_the_c_library_has_its_number),
        ON_BOTH(a_huge_answer_comes_whole_and_in_its_order),
        ON_BOTH(what_no_socket_could_use_is_left_out),
        ON_BOTH(a_thousand_lookups_share_two_threads_and_get_their_own_answers),
        ON_BOTH(lookups_are_given_up_queued_running_and_answered),
        ON_BOTH(a_lookup_that_takes_too_long_is_left_to_its_thread),
        ON_BOTH(a_shutdown_of_the_pool_ends_the_lookups_that_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
