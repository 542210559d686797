/* SPDX-License-Identifier: MIT */
/*
 * Options of datagram sockets, multicast, and many datagrams in one call; on both backends.
 */
#include <net/if.h>
#include <stdio.h>

#include "tests/support/datagrams.h"

static const int families[] = {AF_INET, AF_INET6};

#define FAMILIES_COUNT 2

static struct ends ends;

static const struct {
    enum rdy_datagram_option option;
    int value; /* another than the default */
    int bad_low;
    int bad_high;
} rows[] = {
    {RDY_DATAGRAM_TTL, 17, 0, 256},          {RDY_DATAGRAM_TOS, 0xb9, -1, 256},
    {RDY_DATAGRAM_RECV_TOS, 1, -1, 2},       {RDY_DATAGRAM_MULTICAST_TTL, 9, -1, 256},
    {RDY_DATAGRAM_MULTICAST_LOOP, 0, -1, 2},
};

#define ROWS_COUNT (sizeof(rows) / sizeof(rows[0]))

static void options_read_back_and_refuse_what_is_out_of_range(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        ends_open(&ends, state);
        assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, families[i], NULL), 0);
        for (size_t row = 0; row < ROWS_COUNT; row++) {
            enum rdy_datagram_option option = rows[row].option;
            int value = -1;

            assert_int_equal(rdy_datagram_get(&ends.one, option, &value), 0);
            assert_int_not_equal(value, rows[row].value);
            assert_int_equal(rdy_datagram_set(&ends.one, option, rows[row].value), 0);
            assert_int_equal(rdy_datagram_set(&ends.one, option, rows[row].bad_low), -EINVAL);
            assert_int_equal(rdy_datagram_set(&ends.one, option, rows[row].bad_high), -EINVAL);
            assert_int_equal(rdy_datagram_get(&ends.one, option, &value), 0);
            assert_int_equal(value, rows[row].value);
        }
        ends_close(&ends);
    }
}

static void buffers_have_the_size_that_was_asked_for(void **state)
{
    static const enum rdy_datagram_option sizes[] = {RDY_DATAGRAM_SEND_BUF, RDY_DATAGRAM_RECV_BUF};
    int value = 0;

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rdy_datagram_set(&ends.one, sizes[i], 32768), 0);
        assert_int_equal(rdy_datagram_get(&ends.one, sizes[i], &value), 0);
        assert_int_equal(value, 65536);
        assert_int_equal(rdy_datagram_set(&ends.one, sizes[i], -1), -EINVAL);
    }
    ends_close(&ends);
}

static void options_of_other_families_are_refused(void **state)
{
    struct address group = loopback_address(AF_INET, 0);
    enum rdy_datagram_option beyond = RDY_DATAGRAM_GRO;
    struct rdy_datagram closed = {.fd = -1};
    int value = 42;

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    for (size_t row = 0; row < ROWS_COUNT; row++)
        assert_int_equal(rdy_datagram_set(&ends.one, rows[row].option, rows[row].value),
                         -EOPNOTSUPP);
    assert_int_equal(rdy_datagram_get(&ends.one, RDY_DATAGRAM_TTL, &value), -EOPNOTSUPP);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), group.len, 0), -EOPNOTSUPP);
    assert_int_equal(rdy_datagram_set_multicast_interface(&ends.one, 0), -EOPNOTSUPP);
    ends_close(&ends);

    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET6, NULL), 0);
    assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_BROADCAST, 1), -EOPNOTSUPP);
    memset(&beyond, 0x7f, sizeof(beyond));
    assert_int_equal(rdy_datagram_set(&ends.one, beyond, 1), -EINVAL);
    assert_int_equal(rdy_datagram_get(&ends.one, beyond, &value), -EINVAL);
    ends_close(&ends);

    assert_int_equal(rdy_datagram_set(&closed, RDY_DATAGRAM_TTL, 1), -EBADF);
    assert_int_equal(rdy_datagram_get(&closed, RDY_DATAGRAM_TTL, &value), -EBADF);
    assert_int_equal(rdy_datagram_join(&closed, sockaddr_of(&group), group.len, 0), -EBADF);
    assert_int_equal(rdy_datagram_set_multicast_interface(&closed, 0), -EBADF);
    assert_int_equal(value, 42);
}

static void broadcast_has_to_be_allowed(void **state)
{
    struct sockaddr_in *inet = (struct sockaddr_in *)&ends.to.storage;
    struct address any = loopback_address(AF_INET, 0);
    int value = -1;

    ends_open(&ends, state);
    ((struct sockaddr_in *)&any.storage)->sin_addr.s_addr = htonl(INADDR_ANY);
    assert_int_equal(rdy_datagram_open(&ends.other, ends.runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&any), any.len), 0);
    ends.to = local_address(&ends.other);
    inet->sin_addr.s_addr = htonl(0x7fffffff);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, NULL), 0);

    assert_int_equal(run_call(&ends, one_sends_to), -EACCES);
    assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_BROADCAST, 1), 0);
    assert_int_equal(rdy_datagram_get(&ends.one, RDY_DATAGRAM_BROADCAST, &value), 0);
    assert_int_equal(value, 1);
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, other_receives), 5);
    ends_close(&ends);
}

static void received_tos_carries_what_was_sent(void **state)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        (void)bind_loopback(&ends, &ends.one, families[i]);
        assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_TOS, 0xb9), 0);
        assert_int_equal(run_call(&ends, one_sends_to), 5);
        assert_int_equal(run_call(&ends, other_receives_from), 5);
        assert_int_equal(ends.info.tos, -1);

        assert_int_equal(rdy_datagram_set(&ends.other, RDY_DATAGRAM_RECV_TOS, 1), 0);
        assert_int_equal(run_call(&ends, one_sends_to), 5);
        assert_int_equal(run_call(&ends, other_peeks), 5);
        assert_int_equal(ends.info.tos, 0xb9);
        assert_int_equal(run_call(&ends, other_receives_from), 5);
        assert_int_equal(ends.info.tos, 0xb9);
        assert_int_equal(rdy_datagram_ecn(&ends.info), 1);
        ends_close(&ends);
    }
}

/* An IPv6 socket hears IPv4 too; both ways of marking reach it, and its own mark goes out. */
static void ipv6_socket_marks_and_hears_ipv4(void **state)
{
    struct address any = loopback_address(AF_INET6, 0);
    struct address mapped;

    ends_open(&ends, state);
    ((struct sockaddr_in6 *)&any.storage)->sin6_addr = in6addr_any;
    assert_int_equal(rdy_datagram_open(&ends.other, ends.runtime, AF_INET6, NULL), 0);
    assert_int_equal(rdy_datagram_bind(&ends.other, sockaddr_of(&any), any.len), 0);
    assert_int_equal(rdy_datagram_set(&ends.other, RDY_DATAGRAM_RECV_TOS, 1), 0);
    mapped = local_address(&ends.other);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1",
                               &((struct sockaddr_in6 *)&mapped.storage)->sin6_addr),
                     1);
    ends.to = mapped;
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET6, NULL), 0);
    assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_TOS, 0x2a), 0);

    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, other_receives_from), 5);

    assert_int_equal(ends.info.tos, 0x2a);
    ends_close(&ends);
}

static struct address group_address(int family, uint16_t port)
{
    struct address address = loopback_address(family, port);
    const char *name = family == AF_INET ? "239.255.77.1" : "ff01::7701";
    void *into = family == AF_INET ? (void *)&((struct sockaddr_in *)&address.storage)->sin_addr
                                   : (void *)&((struct sockaddr_in6 *)&address.storage)->sin6_addr;

    assert_int_equal(inet_pton(family, name, into), 1);
    return address;
}

/* Opens @datagram, bound to a port of any address, and returns the group's address there. */
static struct address bind_any(struct rdy_datagram *datagram, int family)
{
    struct address any = {.storage.ss_family = (sa_family_t)family};
    struct address local;

    any.len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    assert_int_equal(rdy_datagram_open(datagram, ends.runtime, family, NULL), 0);
    assert_int_equal(rdy_datagram_bind(datagram, sockaddr_of(&any), any.len), 0);
    local = local_address(datagram);
    /* The port stands at the same place in both kinds of address. */
    return group_address(family, ntohs(((struct sockaddr_in *)&local.storage)->sin_port));
}

static void members_of_a_group_hear_it_until_they_leave(void **state)
{
    uint32_t loopback = if_nametoindex("lo");
    struct rdy_task_id reader;
    struct address group;

    assert_true(loopback > 0);
    ends_open(&ends, state);
    group = bind_any(&ends.other, AF_INET);
    ends.to = group;
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_set_multicast_interface(&ends.one, loopback), 0);
    assert_int_equal(rdy_datagram_join(&ends.other, sockaddr_of(&group), group.len, loopback), 0);
    assert_int_equal(rdy_datagram_join(&ends.other, sockaddr_of(&group), group.len, loopback),
                     -EADDRINUSE);

    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, other_receives), 5);

    assert_int_equal(rdy_datagram_leave(&ends.other, sockaddr_of(&group), group.len, loopback), 0);
    assert_int_equal(rdy_datagram_leave(&ends.other, sockaddr_of(&group), group.len, loopback),
                     -EADDRNOTAVAIL);
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    reader = start_call(&ends, other_receives);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(ends.runtime, reader), 0);
    ends_close(&ends);
}

/* True if the kernel's list of IPv6 memberships has the test's group on the loopback interface. */
static bool is_ipv6_member(void)
{
    FILE *file = fopen("/proc/net/igmp6", "re");
    char line[256];
    bool is_found = false;

    assert_non_null(file);
    while (!is_found && fgets(line, sizeof(line), file))
        is_found = strstr(line, " lo ") && strstr(line, "ff010000000000000000000000007701");
    assert_int_equal(fclose(file), 0);
    return is_found;
}

/* The loopback interface has no IPv6 multicast route to send by; the kernel's list tells. */
static void ipv6_group_is_joined_and_left(void **state)
{
    uint32_t loopback = if_nametoindex("lo");
    struct address group = group_address(AF_INET6, 0);

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET6, NULL), 0);
    assert_int_equal(rdy_datagram_set_multicast_interface(&ends.one, loopback), 0);
    assert_int_equal(rdy_datagram_set_multicast_interface(&ends.one, 0x7ffffff0), -ENODEV);
    assert_false(is_ipv6_member());
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), group.len, loopback), 0);
    assert_true(is_ipv6_member());
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), group.len, loopback),
                     -EADDRINUSE);
    assert_int_equal(rdy_datagram_leave(&ends.one, sockaddr_of(&group), group.len, loopback), 0);
    assert_false(is_ipv6_member());
    assert_int_equal(rdy_datagram_leave(&ends.one, sockaddr_of(&group), group.len, loopback),
                     -EADDRNOTAVAIL);
    ends_close(&ends);
}

static void what_is_no_group_is_refused(void **state)
{
    struct address group = group_address(AF_INET, 1);
    struct address host = loopback_address(AF_INET, 1);
    struct address strange = {.storage.ss_family = AF_UNIX, .len = sizeof(strange.storage)};

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_INET, NULL), 0);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&host), host.len, 0), -EINVAL);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&strange), strange.len, 0), -EINVAL);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), 4, 0), -EINVAL);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), 0, 0), -EINVAL);
    assert_int_equal(rdy_datagram_join(&ends.one, sockaddr_of(&group), group.len, 0x7ffffff0),
                     -ENODEV);
    assert_int_equal(rdy_datagram_set_multicast_interface(&ends.one, UINT32_MAX), -ENODEV);
    ends_close(&ends);
}

static size_t segment_len;
static size_t segments_bytes;

static ssize_t one_sends_segments(struct ends *self, struct rdy_task *task)
{
    static const char data[4000] = {0};
    struct rdy_datagram_segments segments = {
        .data = data, .data_len = segments_bytes, .segment_len = segment_len};
    bool is_connected = self->to.len == 0;

    return rdy_datagram_poll_send_segments(
        &self->one, task, &segments, is_connected ? NULL : sockaddr_of(&self->to), self->to.len);
}

static uint32_t abilities(void)
{
    uint32_t found = 0x80000000u;

    assert_int_equal(rdy_datagram_probe(&found), 0);
    assert_int_equal(found & ~(RDY_DATAGRAM_CAN_SEGMENT | RDY_DATAGRAM_CAN_GRO), 0);
    return found;
}

/* What the probe says is what the call does, on kernels that can and on those that cannot. */
static void segments_arrive_as_single_datagrams(void **state)
{
    bool can = (abilities() & RDY_DATAGRAM_CAN_SEGMENT) != 0;

    for (int i = 0; i < FAMILIES_COUNT * 2; i++) {
        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i % 2]);
        (void)bind_loopback(&ends, &ends.one, families[i % 2]);
        if (i >= FAMILIES_COUNT) {
            connect_to(&ends.one, ends.to);
            ends.to.len = 0;
        }
        segments_bytes = 2500;
        segment_len = 1000;
        assert_int_equal(run_call(&ends, one_sends_segments), can ? 2500 : -EINVAL);
        for (int part = 0; can && part < 3; part++)
            assert_int_equal(run_call(&ends, other_receives), part < 2 ? 1000 : 500);

        segment_len = 0;
        assert_int_equal(run_call(&ends, one_sends_segments), -EINVAL);
        segment_len = 65536;
        assert_int_equal(run_call(&ends, one_sends_segments), -EINVAL);
        segment_len = 1;
        assert_int_equal(run_call(&ends, one_sends_segments), -EINVAL);
        ends_close(&ends);
    }
    segment_len = 10;
    assert_int_equal(run_call(&ends, one_sends_segments), -EBADF);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    assert_int_equal(run_call(&ends, one_sends_segments), -EOPNOTSUPP);
    ends_close(&ends);
}

static void joined_datagrams_tell_where_they_part(void **state)
{
    const uint32_t both = RDY_DATAGRAM_CAN_SEGMENT | RDY_DATAGRAM_CAN_GRO;
    bool can = (abilities() & both) == both;

    for (int i = 0; i < FAMILIES_COUNT; i++) {
        ends_open(&ends, state);
        ends.to = bind_loopback(&ends, &ends.other, families[i]);
        (void)bind_loopback(&ends, &ends.one, families[i]);
        assert_int_equal(rdy_datagram_set(&ends.other, RDY_DATAGRAM_GRO, 1),
                         can ? 0 : -ENOPROTOOPT);
        if (!can) {
            ends_close(&ends);
            continue;
        }
        segments_bytes = 2500;
        segment_len = 1000;
        assert_int_equal(run_call(&ends, one_sends_segments), 2500);
        assert_int_equal(run_call(&ends, other_receives_from), 2500);
        assert_int_equal(ends.info.segment_len, 1000);
        assert_int_equal(ends.info.datagram_len, 2500);

        /* One that came alone is not in parts, or one part. */
        assert_int_equal(run_call(&ends, one_sends_to), 5);
        assert_int_equal(run_call(&ends, other_receives_from), 5);
        assert_true(ends.info.segment_len == 0 || ends.info.segment_len == 5);
        ends_close(&ends);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(options_read_back_and_refuse_what_is_out_of_range),
        ON_BOTH(buffers_have_the_size_that_was_asked_for),
        ON_BOTH(options_of_other_families_are_refused),
        ON_BOTH(broadcast_has_to_be_allowed),
        ON_BOTH(received_tos_carries_what_was_sent),
        ON_BOTH(ipv6_socket_marks_and_hears_ipv4),
        ON_BOTH(members_of_a_group_hear_it_until_they_leave),
        ON_BOTH(ipv6_group_is_joined_and_left),
        ON_BOTH(what_is_no_group_is_refused),
        ON_BOTH(segments_arrive_as_single_datagrams),
        ON_BOTH(joined_datagrams_tell_where_they_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
