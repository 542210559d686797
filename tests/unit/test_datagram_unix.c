/* SPDX-License-Identifier: MIT */
/*
 * Unix datagrams: names, full queues and peers that go, each test on io_uring and on epoll.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/datagrams.h"

static struct ends ends;

static struct address unix_address(const char *name, size_t name_len)
{
    struct address address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;

    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, name, name_len);
    address.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_len);
    return address;
}

/* An abstract name of this process. */
static struct address abstract_address(const char *what)
{
    char name[64] = {0};
    int len = snprintf(name + 1, sizeof(name) - 1, "rdy-%d-%s", (int)getpid(), what);

    return unix_address(name, (size_t)len + 1);
}

static struct address bind_unix(struct rdy_datagram *datagram, struct address address)
{
    assert_int_equal(rdy_datagram_open(datagram, ends.runtime, AF_UNIX, NULL), 0);
    assert_int_equal(rdy_datagram_bind(datagram, sockaddr_of(&address), address.len), 0);
    return local_address(datagram);
}

static void talks_with_name(struct address one, struct address other)
{
    struct address got;

    one = bind_unix(&ends.one, one);
    ends.to = bind_unix(&ends.other, other);
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, other_receives_from), 5);
    got = (struct address){.storage = ends.info.addr, .len = ends.info.addr_len};
    assert_same_address(&got, &one);
    assert_memory_equal(ends.buf, "hello", 5);
    ends_close(&ends);
}

static void abstract_names_work(void **state)
{
    ends_open(&ends, state);
    talks_with_name(abstract_address("one"), abstract_address("other"));
    ends_open(&ends, state);
    talks_with_name(unix_address("", 0), unix_address("", 0));
}

static void paths_work_up_to_the_longest(void **state)
{
    char folder[] = "/tmp/rdy-datagram-XXXXXX";
    char other[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
    char one[sizeof(folder) + 8];
    int len;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(one, sizeof(one), "%s/one", folder);
    len = snprintf(other, sizeof(other), "%s/", folder);
    memset(other + len, 'o', sizeof(other) - 1 - (size_t)len);
    other[sizeof(other) - 1] = 0;

    ends_open(&ends, state);
    talks_with_name(unix_address(one, strlen(one) + 1), unix_address(other, strlen(other)));
    assert_int_equal(unlink(one), 0);
    assert_int_equal(unlink(other), 0);
    ends_open(&ends, state);
    talks_with_name(unix_address(other, strlen(other)), unix_address(one, strlen(one) + 1));
    assert_int_equal(unlink(one), 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void sender_without_a_name_has_no_address(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);

    assert_int_equal(run_call(&ends, one_sends_to), 5);
    assert_int_equal(run_call(&ends, other_receives_from), 5);

    assert_int_equal(ends.info.addr_len, 0);
    ends_close(&ends);
}

static void pair_talks_and_reports_a_cut_off_end(void **state)
{
    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    assert_int_equal(run_call(&ends, one_sends), 5);
    assert_int_equal(run_call(&ends, one_sends), 5);
    ends.buf_len = 4;
    assert_int_equal(run_call(&ends, other_receives), 4);
    assert_int_equal(ends.datagram_len, 5);
    ends.buf_len = 5;
    assert_int_equal(run_call(&ends, other_peeks), 5);
    assert_int_equal(run_call(&ends, other_receives), 5);
    ends_close(&ends);
}

/* Fills the queue that @fd sends to; at most 100000 datagrams fit anywhere here. */
static int fill(int fd, struct address *to)
{
    int count = 0;

    while (count < 100000 &&
           sendto(fd, "x", 1, MSG_DONTWAIT, to ? sockaddr_of(to) : NULL, to ? to->len : 0) == 1)
        count++;
    assert_int_equal(errno, EAGAIN);
    assert_true(count > 0);
    return count;
}

static void drain(int fd, int count)
{
    char byte;

    for (int i = 0; i < count; i++)
        assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
}

/* The sender waits without being polled, until all but nothing was read. */
static void assert_waits_until_drained(call_fn *send, int count)
{
    (void)start_call(&ends, send);
    let_turn(&ends);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_true(ends.polls <= 2);

    drain(ends.other.fd, count);
    assert_int_equal(finish_call(&ends), 5);
    assert_int_equal(run_call(&ends, other_receives), 5);
}

static void send_to_a_full_pair_waits_until_it_drains(void **state)
{
    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    assert_waits_until_drained(one_sends, fill(ends.one.fd, NULL));
    ends_close(&ends);
}

static void send_to_a_full_peer_waits_until_it_drains(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    connect_to(&ends.one, ends.to);
    assert_waits_until_drained(one_sends, fill(ends.one.fd, NULL));
    assert_waits_until_drained(one_sends_to, fill(ends.one.fd, NULL));
    ends_close(&ends);
}

static int plain_unix(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return fd;
}

/* Not connected, and no queued datagram is its own: the kernel never tells this socket. */
static void send_to_a_queue_full_of_others_waits_until_it_drains(void **state)
{
    int before;

    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    ends.plain = plain_unix();
    let_turn(&ends);
    before = descriptors_count();

    assert_waits_until_drained(one_sends_to, fill(ends.plain, &ends.to));

    let_turn(&ends);
    assert_int_equal(descriptors_count(), before);
    ends_close(&ends);
    let_turn(&ends);
    assert_int_equal(driver_stats(ends.runtime).entries_live, 0);
}

/* One place after the other, each taken by another sender at once: it goes on waiting. */
static void sender_that_loses_the_race_waits_again(void **state)
{
    int count;

    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    ends.plain = plain_unix();
    count = fill(ends.plain, &ends.to);
    (void)start_call(&ends, one_sends_to);
    let_turn(&ends);
    for (int i = 0; i < 10; i++) {
        drain(ends.other.fd, 1);
        assert_int_equal(fill(ends.plain, &ends.to), 1);
        let_turn(&ends);
        assert_int_equal(ends.result, RDY_PENDING);
    }
    drain(ends.other.fd, count);
    assert_int_equal(finish_call(&ends), 5);
    ends_close(&ends);
}

static void peer_that_goes_ends_the_wait_of_a_sender(void **state)
{
    call_fn *const calls[] = {one_sends, one_sends_to};

    for (int i = 0; i < 2; i++) {
        ends_open(&ends, state);
        ends.to = bind_unix(&ends.other, abstract_address("other"));
        assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
        ends.plain = plain_unix();
        if (calls[i] == one_sends)
            connect_to(&ends.one, ends.to);
        (void)fill(ends.plain, &ends.to);
        (void)start_call(&ends, calls[i]);
        let_turn(&ends);
        assert_int_equal(ends.result, RDY_PENDING);

        rdy_datagram_close(&ends.other);

        assert_int_equal(finish_call(&ends), -ECONNREFUSED);
        ends_close(&ends);
    }
}

static void peer_that_has_gone_refuses(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    connect_to(&ends.one, ends.to);
    rdy_datagram_close(&ends.other);
    let_turn(&ends);

    assert_int_equal(run_call(&ends, one_sends), -ECONNREFUSED);
    assert_int_equal(run_call(&ends, one_sends), -ENOTCONN);
    assert_int_equal(run_call(&ends, one_sends_to), -ECONNREFUSED);
    assert_int_equal(rdy_datagram_connect(&ends.one, sockaddr_of(&ends.to), ends.to.len),
                     -ECONNREFUSED);
    ends.to = unix_address("/tmp/rdy-no-such-file/x", sizeof("/tmp/rdy-no-such-file/x"));
    assert_int_equal(run_call(&ends, one_sends_to), -ENOENT);
    ends_close(&ends);
}

static void peer_that_is_connected_to_another_refuses(void **state)
{
    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    connect_to(&ends.other, bind_unix(&ends.one, abstract_address("one")));
    assert_int_equal(run_call(&ends, one_sends_to), 5);
    rdy_datagram_close(&ends.one);
    let_turn(&ends);
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    assert_int_equal(run_call(&ends, one_sends_to), -EPERM);
    ends_close(&ends);
}

/* Its own datagrams, all of them unread, fill the sender's buffer before the peer's queue. */
static void sender_with_a_full_buffer_of_its_own_waits(void **state)
{
    static char block[8192];
    int count = 0;

    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    assert_int_equal(rdy_datagram_set(&ends.one, RDY_DATAGRAM_SEND_BUF, 8192), 0);
    while (count < 100 && sendto(ends.one.fd, block, sizeof(block), MSG_DONTWAIT,
                                 sockaddr_of(&ends.to), ends.to.len) == sizeof(block))
        count++;
    assert_int_equal(errno, EAGAIN);
    assert_in_range(count, 1, 9);
    ends.polls = 0;

    assert_waits_until_drained(one_sends_to, count);

    ends_close(&ends);
}

static void sender_given_up_has_sent_nothing(void **state)
{
    struct rdy_task_id id;
    int before;
    int count;

    ends_open(&ends, state);
    ends.to = bind_unix(&ends.other, abstract_address("other"));
    ends.plain = plain_unix();
    let_turn(&ends);
    before = descriptors_count();
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    count = fill(ends.plain, &ends.to);
    id = start_call(&ends, one_sends_to);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);

    assert_int_equal(rdy_task_abort(ends.runtime, id), 0);
    drain(ends.other.fd, count);
    let_turn(&ends);

    assert_int_equal(recv(ends.other.fd, ends.buf, 1, MSG_DONTWAIT), -1);
    rdy_datagram_close(&ends.one);
    let_turn(&ends);
    assert_int_equal(descriptors_count(), before);
    ends_close(&ends);
}

static void new_peer_is_tried_at_once_by_a_waiting_sender(void **state)
{
    struct rdy_datagram full = {.fd = -1};
    struct address other;

    ends_open(&ends, state);
    ends.to = bind_unix(&full, abstract_address("full"));
    ends.plain = plain_unix();
    (void)fill(ends.plain, &ends.to);
    other = bind_unix(&ends.other, abstract_address("other"));
    assert_int_equal(rdy_datagram_open(&ends.one, ends.runtime, AF_UNIX, NULL), 0);
    connect_to(&ends.one, ends.to);
    (void)start_call(&ends, one_sends);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);

    connect_to(&ends.one, other);

    assert_int_equal(finish_call(&ends), 5);
    assert_int_equal(run_call(&ends, other_receives), 5);
    rdy_datagram_close(&full);
    ends_close(&ends);
}

static void peer_that_drops_datagrams_for_another_is_told_once(void **state)
{
    struct rdy_task_id reader;
    struct address elsewhere;

    ends_open(&ends, state);
    elsewhere = abstract_address("elsewhere");
    ends.plain = plain_unix();
    assert_int_equal(bind(ends.plain, sockaddr_of(&elsewhere), elsewhere.len), 0);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    assert_int_equal(run_call(&ends, one_sends), 5);
    (void)start_call(&ends, one_receives);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);

    connect_to(&ends.other, elsewhere);

    assert_int_equal(finish_call(&ends), -ECONNRESET);
    reader = start_call(&ends, one_receives);
    rdy_datagram_close(&ends.other);
    let_turn(&ends);
    assert_int_equal(ends.result, RDY_PENDING);
    assert_int_equal(rdy_task_abort(ends.runtime, reader), 0);
    ends_close(&ends);
}

/* A descriptor that nobody asked for must not stay open here. */
static void descriptors_that_come_along_are_closed_unseen(void **state)
{
    call_fn *const calls[] = {other_receives, other_receives_from};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (char[1]){0}, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    int before;

    ends_open(&ends, state);
    assert_int_equal(rdy_datagram_pair(&ends.one, &ends.other, ends.runtime), 0);
    let_turn(&ends);
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &(int){STDERR_FILENO}, sizeof(int));
    before = descriptors_count();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sendmsg(ends.one.fd, &msg, 0), 1);
        assert_int_equal(run_call(&ends, calls[i]), 1);
        assert_int_equal(descriptors_count(), before);
    }
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(abstract_names_work),
        ON_BOTH(paths_work_up_to_the_longest),
        ON_BOTH(sender_without_a_name_has_no_address),
        ON_BOTH(pair_talks_and_reports_a_cut_off_end),
        ON_BOTH(send_to_a_full_pair_waits_until_it_drains),
        ON_BOTH(send_to_a_full_peer_waits_until_it_drains),
        ON_BOTH(send_to_a_queue_full_of_others_waits_until_it_drains),
        ON_BOTH(sender_that_loses_the_race_waits_again),
        ON_BOTH(peer_that_goes_ends_the_wait_of_a_sender),
        ON_BOTH(peer_that_has_gone_refuses),
        ON_BOTH(peer_that_is_connected_to_another_refuses),
        ON_BOTH(sender_with_a_full_buffer_of_its_own_waits),
        ON_BOTH(sender_given_up_has_sent_nothing),
        ON_BOTH(new_peer_is_tried_at_once_by_a_waiting_sender),
        ON_BOTH(peer_that_drops_datagrams_for_another_is_told_once),
        ON_BOTH(descriptors_that_come_along_are_closed_unseen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
