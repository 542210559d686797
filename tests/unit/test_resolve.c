/* SPDX-License-Identifier: MIT */
/*
 * The resolver with the C library behind it, as far as that needs no network: numbers, names of
 * /etc/hosts, names that cannot be; and what is refused before anybody is asked.
 */
#include "tests/support/jobs.h"
#include "tests/support/runtime.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include <rdy/resolve.h>

#include "engine/sys.h"

/* A task that asks one question. */
struct asking {
    struct rdy_pool *pool;
    const char *host;
    const char *service;
    const struct rdy_resolve_hints *hints;
    struct rdy_resolve resolve;
    struct rdy_address_list list;
    int start_rc;
    int rc;
    int polls;
};

static int poll_asks(struct rdy_task *task, void *self)
{
    struct test_task *s = self;
    struct asking *asking = s->test;

    asking->polls++;
    RDY_BEGIN(&s->co);
    asking->start_rc = rdy_resolve_start(&asking->resolve, asking->pool, asking->host,
                                         asking->service, asking->hints);
    if (asking->start_rc < 0)
        return 0;
    RDY_AWAIT(&s->co, asking->rc = rdy_resolve_poll(&asking->resolve, task, &asking->list));
    RDY_END(&s->co);
    return 0;
}

/* The answer to one question; the list is the caller's to free. */
static struct asking ask(struct rdy_runtime *runtime, struct rdy_pool *pool, const char *host,
                         const char *service, const struct rdy_resolve_hints *hints)
{
    struct asking asking = {
        .pool = pool, .host = host, .service = service, .hints = hints, .start_rc = 1, .rc = 1};

    (void)spawn_test(runtime, poll_asks, NULL, &asking);
    assert_int_equal(rdy_runtime_run(runtime), 0);
    assert_int_equal(asking.start_rc, 0);
    assert_false(asking.resolve.has_result);
    assert_null(asking.resolve.job.job);
    return asking;
}

/* The answer as text: the first address, or what went wrong. */
static void expect(struct asking asking, const char *text)
{
    char found[RDY_ADDRESS_TEXT_MAX];

    assert_int_equal(asking.rc, 0);
    assert_true(asking.list.count >= 1);
    assert_string_equal(rdy_address_format(&asking.list.items[0], found), text);
    rdy_address_list_free(&asking.list);
    assert_null(asking.list.items);
    assert_int_equal(asking.list.count, 0);
    rdy_address_list_free(&asking.list);
}

static void numbers_are_answered_at_once_and_without_a_pool(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_resolve_hints datagram = {.size = sizeof(datagram), .socktype = SOCK_DGRAM};
    struct asking asking = ask(runtime, NULL, "127.0.0.1", "80", NULL);

    assert_int_equal(asking.polls, 1);
    assert_int_equal(asking.list.count, 1);
    expect(asking, "127.0.0.1:80");
    expect(ask(runtime, NULL, "::1", "65535", NULL), "[::1]:65535");
    expect(ask(runtime, NULL, "::ffff:1.2.3.4", NULL, NULL), "[::ffff:1.2.3.4]:0");
    expect(ask(runtime, NULL, "255.255.255.255", "53", &datagram), "255.255.255.255:53");
}

static void a_scope_is_a_name_or_a_number_of_an_interface(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    uint32_t index = if_nametoindex("lo");
    char expected[RDY_ADDRESS_TEXT_MAX];
    struct asking asking;

    assert_int_not_equal(index, 0);
    (void)snprintf(expected, sizeof(expected), "[fe80::1%%%u]:80", index);
    expect(ask(runtime, NULL, "fe80::1%lo", "80", NULL), expected);
    expect(ask(runtime, NULL, "fe80::1%77", "80", NULL), "[fe80::1%77]:80");

    /* A scope that does not exist is no numeric address, and no name that anybody could know. */
    struct rdy_resolve_hints numeric = {.size = sizeof(numeric), .flags = AI_NUMERICHOST};
    asking = ask(runtime, NULL, "fe80::1%no-such-if", "80", &numeric);
    assert_int_equal(asking.rc, -ENOENT);
}

static void no_host_is_this_machine_or_all_of_its_addresses(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_resolve_hints passive = {
        .size = sizeof(passive), .family = AF_INET, .flags = AI_PASSIVE};
    struct rdy_resolve_hints v6 = {.size = sizeof(v6), .family = AF_INET6};

    expect(ask(runtime, NULL, NULL, "80", &passive), "0.0.0.0:80");
    expect(ask(runtime, NULL, NULL, "80", &v6), "[::1]:80");
}

/* Putting two addresses in order, and asking for this machine's families, are system calls. */
static void what_the_system_must_be_asked_for_is_asked_on_the_pool(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_resolve_hints config = {.size = sizeof(config), .flags = AI_ADDRCONFIG};
    struct rdy_resolve resolve = {0};
    struct asking asking = ask(runtime, pool, NULL, "80", NULL);

    assert_int_equal(asking.rc, 0);
    assert_int_equal(asking.list.count, 2);
    rdy_address_list_free(&asking.list);
    assert_int_equal(pool_stats(pool).jobs_run, 1);
    asking = ask(runtime, pool, "127.0.0.1", "80", &config);
    rdy_address_list_free(&asking.list); /* none where there is no interface but the loopback */
    assert_int_equal(pool_stats(pool).jobs_run, 2);
    assert_int_equal(rdy_resolve_start(&resolve, NULL, NULL, "80", NULL), -EINVAL);
    rdy_pool_close(pool);
}

/* localhost stands in /etc/hosts, or the C library knows it by itself. */
static void a_name_of_this_machine_is_looked_up_on_the_pool(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_resolve_hints v4 = {.size = sizeof(v4), .family = AF_INET};

    expect(ask(runtime, pool, "localhost", "7000", &v4), "127.0.0.1:7000");
    assert_int_equal(pool_stats(pool).jobs_run, 1);
    expect(ask(runtime, pool, "127.0.0.1", "1", &v4), "127.0.0.1:1");
    assert_int_equal(pool_stats(pool).jobs_run, 1);
    rdy_pool_close(pool);
}

/* An empty label: the C library knows without asking that there is no such name. */
static void a_name_that_cannot_be_is_no_host(void **state)
{
    struct rdy_runtime *runtime = runtime_of(state);
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_resolve_hints numeric = {.size = sizeof(numeric), .flags = AI_NUMERICHOST};
    struct asking asking = ask(runtime, pool, "no..such..host", "80", NULL);

    assert_int_equal(asking.rc, -ENOENT);
    assert_null(asking.list.items);
    assert_int_equal(pool_stats(pool).jobs_run, 1);
    /* With AI_NUMERICHOST a name is none at once. */
    asking = ask(runtime, pool, "localhost", "80", &numeric);
    assert_int_equal(asking.rc, -ENOENT);
    assert_int_equal(asking.polls, 1);
    assert_int_equal(pool_stats(pool).jobs_run, 1);
    rdy_pool_close(pool);
}

static void a_number_of_the_other_family_is_no_address_of_that_family(void **state)
{
    struct rdy_resolve_hints v6 = {.size = sizeof(v6), .family = AF_INET6};
    struct rdy_resolve_hints v4 = {.size = sizeof(v4), .family = AF_INET};

    assert_int_equal(ask(runtime_of(state), NULL, "127.0.0.1", "80", &v6).rc, -ENODATA);
    assert_int_equal(ask(runtime_of(state), NULL, "::1", "80", &v4).rc, -ENODATA);
}

static void what_can_be_no_host_or_service_is_refused_before_it_is_asked_for(void **state)
{
    static const char *const hosts[] = {"", " ", "a b", "a\n", "[::1]", "h\xc3\xb6st", "\x7f"};
    static const char *const services[] = {"",
                                           "65536",
                                           "99999999999",
                                           "4294967376",
                                           "a b",
                                           "80\n",
                                           "a-name-of-thirty-two-bytes-is-on"};
    static const struct rdy_resolve_hints hints[] = {
        {.size = 1},
        {.size = sizeof(hints[0]), .family = AF_UNIX},
        {.size = sizeof(hints[0]), .socktype = SOCK_RAW},
        {.size = sizeof(hints[0]), .flags = AI_CANONNAME},
    };
    struct rdy_pool *pool = pool_open(1, 0);
    struct rdy_resolve resolve = {0};
    struct rdy_address_list list = {0};
    char host[256];

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        assert_int_equal(rdy_resolve_start(&resolve, pool, hosts[i], "80", NULL), -EINVAL);
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
        assert_int_equal(rdy_resolve_start(&resolve, pool, "::1", services[i], NULL), -EINVAL);
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        assert_int_equal(rdy_resolve_start(&resolve, pool, "::1", "80", &hints[i]), -EINVAL);
    memset(host, 'a', sizeof(host));
    host[254] = '\0';
    assert_int_equal(rdy_resolve_start(&resolve, pool, host, "80", NULL), -EINVAL);
    assert_int_equal(rdy_resolve_wait(host, "80", NULL, &list), -EINVAL);
    assert_int_equal(rdy_resolve_start(&resolve, pool, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(rdy_resolve_start(&resolve, NULL, "localhost", "80", NULL), -EINVAL);
    assert_int_equal(rdy_resolve_start(&resolve, NULL, "::1", "http", NULL), -EINVAL);
    assert_null(resolve.job.job);
    assert_false(resolve.has_result);
    assert_int_equal(pool_stats(pool).threads_started, 0);
    rdy_pool_close(pool);
}

static int poll_asks_a_closed_one(struct rdy_task *task, void *self)
{
    struct asking *asking = ((struct test_task *)self)->test;

    asking->rc = rdy_resolve_poll(&asking->resolve, task, &asking->list);
    return 0;
}

static void a_lookup_that_has_answered_is_closed(void **state)
{
    struct asking asking = {0};

    (void)spawn_test(runtime_of(state), poll_asks_a_closed_one, NULL, &asking);
    assert_int_equal(rdy_runtime_run(runtime_of(state)), 0);
    assert_int_equal(asking.rc, -EINVAL);
    rdy_resolve_cancel(&asking.resolve);
    rdy_resolve_cancel(&asking.resolve);

    /* An answer that was there at once, and that nobody took. */
    assert_int_equal(rdy_resolve_start(&asking.resolve, NULL, "::1", "80", NULL), 0);
    rdy_resolve_cancel(&asking.resolve);
    assert_int_equal(rdy_resolve_start(&asking.resolve, NULL, "::1", "80", NULL), 0);
    rdy_resolve_cancel(&asking.resolve);
}

static void a_lookup_may_be_waited_for_on_the_thread_itself(void **state)
{
    struct rdy_resolve_hints v4 = {.size = sizeof(v4), .family = AF_INET};
    struct rdy_address_list list = {0};
    char text[RDY_ADDRESS_TEXT_MAX];

    (void)state;
    assert_int_equal(rdy_resolve_wait("localhost", "80", &v4, &list), 0);
    assert_string_equal(rdy_address_format(&list.items[0], text), "127.0.0.1:80");
    rdy_address_list_free(&list);
    assert_int_equal(rdy_resolve_wait("no..such..host", "80", NULL, &list), -ENOENT);
    assert_null(list.items);
}

static void a_shortage_of_the_system_is_told_as_it_is(void **state)
{
    struct rdy_resolve resolve = {0};
    struct rdy_address_list list = {0};

    (void)state;
    (void)rdy_sys_fail_nth(1, EMFILE);
    assert_int_equal(rdy_resolve_wait("127.0.0.1", "80", NULL, &list), -EMFILE);
    (void)rdy_sys_fail_nth(1, EXDEV);
    assert_int_equal(rdy_resolve_wait("127.0.0.1", "80", NULL, &list), -EIO);
    /* Of the thread that could not be made: the question before it is the first call. */
    struct rdy_pool *pool = pool_open(1, 0);
    (void)rdy_sys_fail_nth(2, EAGAIN);
    assert_int_equal(rdy_resolve_start(&resolve, pool, "localhost", "80", NULL), -EAGAIN);
    (void)rdy_sys_fail_nth(0, 0);
    assert_null(resolve.job.job);
    assert_null(list.items);
    rdy_pool_close(pool);
}

static void every_error_has_words_of_its_own(void **state)
{
    static const int codes[] = {-ENOENT,
                                -ENODATA,
                                -EHOSTDOWN,
                                -EREMOTEIO,
                                -EPROTONOSUPPORT,
                                -EAFNOSUPPORT,
                                -ESOCKTNOSUPPORT,
                                -EINVAL,
                                -ENOMEM,
                                -ENFILE,
                                -EMFILE,
                                -EAGAIN,
                                -ETIMEDOUT,
                                -ECANCELED,
                                -ESHUTDOWN,
                                -EOWNERDEAD,
                                -EIO,
                                0,
                                RDY_PENDING};
    const size_t count = sizeof(codes) / sizeof(codes[0]);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        const char *text = rdy_resolve_error_text(codes[i]);

        assert_true(strlen(text) > 5);
        assert_null(strchr(text, '\n'));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(text, rdy_resolve_error_text(codes[k]));
    }
    assert_string_equal(rdy_resolve_error_text(-12345), rdy_resolve_error_text(-EIO));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(numbers_are_answered_at_once_and_without_a_pool),
        ON_BOTH(a_scope_is_a_name_or_a_number_of_an_interface),
        ON_BOTH(no_host_is_this_machine_or_all_of_its_addresses),
        ON_BOTH(what_the_system_must_be_asked_for_is_asked_on_the_pool),
        ON_BOTH(a_name_of_this_machine_is_looked_up_on_the_pool),
        ON_BOTH(a_name_that_cannot_be_is_no_host),
        ON_BOTH(a_number_of_the_other_family_is_no_address_of_that_family),
        cmocka_unit_test(what_can_be_no_host_or_service_is_refused_before_it_is_asked_for),
        ON_BOTH(a_lookup_that_has_answered_is_closed),
        cmocka_unit_test(a_lookup_may_be_waited_for_on_the_thread_itself),
        cmocka_unit_test(a_shortage_of_the_system_is_told_as_it_is),
        cmocka_unit_test(every_error_has_words_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
