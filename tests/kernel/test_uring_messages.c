/* SPDX-License-Identifier: MIT */
/*
 * What completion mode leans on in io_uring for datagrams, one test a promise, through the
 * backend's own operations and on real sockets.
 */
#include "tests/kernel/lending_ring.h"

#include <fcntl.h>
#include <netinet/udp.h>

#include "engine/message_head.h"
#include "engine/scheduled_io.h"

/* A ring, a socket that receives, and one that is connected to it and back. */
struct desk {
    struct rdy_backend *backend;
    unsigned char *memory;
    int fd;
    int peer;
    struct sockaddr_in6 addr; /* of fd */
    struct sockaddr_in6 peer_addr;
};

static int socket_new(struct sockaddr_in6 *addr)
{
    socklen_t addr_len = sizeof(*addr);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    *addr = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    assert_int_equal(bind(fd, (struct sockaddr *)addr, addr_len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &addr_len), 0);
    return fd;
}

static void desk_open(struct desk *desk)
{
    assert_int_equal(rdy_uring_messages(NULL), 0);
    desk->backend = lending_ring_open(&desk->memory);
    desk->fd = socket_new(&desk->addr);
    desk->peer = socket_new(&desk->peer_addr);
    assert_int_equal(connect(desk->peer, (struct sockaddr *)&desk->addr, sizeof(desk->addr)), 0);
}

static void desk_close(struct desk *desk)
{
    lending_ring_close(desk->backend, desk->memory);
    (void)close(desk->fd);
    if (desk->peer >= 0)
        (void)close(desk->peer);
}

static void say(struct desk *desk, const void *data, size_t len)
{
    assert_int_equal(send(desk->peer, data, len, 0), (ssize_t)len);
}

static void begin_recv(struct desk *desk, bool is_data_there)
{
    assert_int_equal(
        desk->backend->ops->recv_message(desk->backend, desk->fd, RECV_TOKEN, is_data_there), 0);
}

/* Exactly @count facts, however many waits they take. */
static void await(struct desk *desk, struct rdy_fact *facts, uint32_t count)
{
    uint32_t have = 0;

    for (int i = 0; i < 50 && have < count; i++) {
        int rc = desk->backend->ops->wait(desk->backend, SOON_NS / 20, facts + have, count - have);

        assert_true(rc >= 0);
        have += (uint32_t)rc;
    }
    assert_int_equal(have, count);
}

static struct rdy_message_head head_of(const struct desk *desk, const struct rdy_fact *fact)
{
    struct rdy_message_head head;

    assert_true(fact->flags & RDY_FACT_BUFFER);
    memcpy(&head, desk->memory + (size_t)fact->buffer * BUFFER_SIZE, sizeof(head));
    return head;
}

static const unsigned char *payload_of(const struct desk *desk, const struct rdy_fact *fact)
{
    return desk->memory + (size_t)fact->buffer * BUFFER_SIZE + RDY_MESSAGE_HEAD_SIZE;
}

static void datagrams_come_each_with_its_head_and_go_on(void **state)
{
    struct rdy_fact facts[2];
    struct desk desk;

    (void)state;
    desk_open(&desk);
    lending_ring_fill(desk.backend);
    say(&desk, "abc", 3);
    say(&desk, "defgh", 5);
    begin_recv(&desk, false);
    await(&desk, facts, 2);

    for (uint32_t i = 0; i < 2; i++) {
        struct rdy_message_head head = head_of(&desk, &facts[i]);

        assert_false(facts[i].flags & RDY_FACT_LAST);
        assert_int_equal(facts[i].result, RDY_MESSAGE_HEAD_SIZE + (i == 0 ? 3 : 5));
        assert_int_equal(head.payload_len, i == 0 ? 3 : 5);
        assert_int_equal(head.name_len, sizeof(desk.peer_addr));
        assert_memory_equal(desk.memory + (size_t)facts[i].buffer * BUFFER_SIZE + sizeof(head),
                            &desk.peer_addr, sizeof(desk.peer_addr));
        assert_memory_equal(payload_of(&desk, &facts[i]), i == 0 ? "abc" : "defgh", i == 0 ? 3 : 5);
    }
    desk_close(&desk);
}

static void what_is_cut_off_is_told_by_the_length_as_sent(void **state)
{
    static char big[BUFFER_SIZE * 3];
    struct rdy_fact fact;
    struct desk desk;

    (void)state;
    desk_open(&desk);
    lending_ring_fill(desk.backend);
    say(&desk, big, sizeof(big));
    begin_recv(&desk, false);
    await(&desk, &fact, 1);

    assert_int_equal(fact.result, BUFFER_SIZE);
    assert_int_equal(head_of(&desk, &fact).payload_len, sizeof(big));
    desk_close(&desk);
}

/* The only datagram that ends a receive: it must not be taken for an end of the socket. */
static void empty_datagram_comes_with_a_buffer_and_ends_the_receive(void **state)
{
    struct rdy_fact fact;
    struct desk desk;

    (void)state;
    desk_open(&desk);
    lending_ring_fill(desk.backend);
    begin_recv(&desk, false);
    say(&desk, "", 0);
    await(&desk, &fact, 1);

    assert_true(fact.flags & RDY_FACT_LAST);
    assert_int_equal(fact.result, RDY_MESSAGE_HEAD_SIZE);
    assert_int_equal(head_of(&desk, &fact).payload_len, 0);
    desk_close(&desk);
}

static void control_messages_lie_behind_the_name(void **state)
{
    int on = 1;
    int tclass = 0x2e;
    struct msghdr msg = {0};
    struct rdy_message_head head;
    struct rdy_fact fact;
    struct cmsghdr *item;
    struct desk desk;
    int told = 0;

    (void)state;
    desk_open(&desk);
    lending_ring_fill(desk.backend);
    assert_int_equal(setsockopt(desk.fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on)), 0);
    assert_int_equal(setsockopt(desk.peer, IPPROTO_IPV6, IPV6_TCLASS, &tclass, sizeof(tclass)), 0);
    say(&desk, "abc", 3);
    begin_recv(&desk, false);
    await(&desk, &fact, 1);

    head = head_of(&desk, &fact);
    msg.msg_control =
        desk.memory + (size_t)fact.buffer * BUFFER_SIZE + sizeof(head) + RDY_MESSAGE_NAME_ROOM;
    msg.msg_controllen = head.control_len;
    item = CMSG_FIRSTHDR(&msg);
    assert_non_null(item);
    assert_int_equal(item->cmsg_type, IPV6_TCLASS);
    memcpy(&told, CMSG_DATA(item), sizeof(told));
    assert_int_equal(told, tclass);
    desk_close(&desk);
}

static void receive_without_buffers_ends_with_enobufs_and_takes_nothing(void **state)
{
    struct rdy_fact fact;
    struct desk desk;
    char back[4];

    (void)state;
    desk_open(&desk);
    begin_recv(&desk, false);
    say(&desk, "abc", 3);
    await(&desk, &fact, 1);

    assert_true(fact.flags & RDY_FACT_LAST);
    assert_int_equal(fact.result, -ENOBUFS);
    assert_int_equal(recv(desk.fd, back, sizeof(back), 0), 3);
    desk_close(&desk);
}

/* Nobody is there any more; then somebody is again, at another port. */
static void be_refused(struct desk *desk)
{
    assert_int_equal(close(desk->peer), 0);
    assert_int_equal(
        connect(desk->fd, (struct sockaddr *)&desk->peer_addr, sizeof(desk->peer_addr)), 0);
    assert_int_equal(send(desk->fd, "?", 1, 0), 1);
    desk->peer = -1;
}

/* Whether it waits for an event first or not, and whichever came first, the news or the receive. */
static void news_of_a_refusal_ends_the_receive_once(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct rdy_fact fact;
        struct desk desk;
        int again;

        desk_open(&desk);
        lending_ring_fill(desk.backend);
        if (way & 1)
            be_refused(&desk);
        begin_recv(&desk, (way & 2) != 0);
        if ((way & 1) == 0) {
            assert_int_equal(desk.backend->ops->wait(desk.backend, 0, &fact, 1), 0);
            be_refused(&desk);
        }
        await(&desk, &fact, 1);
        assert_int_equal(fact.flags, RDY_FACT_LAST);
        assert_int_equal(fact.result, -ECONNREFUSED);

        begin_recv(&desk, true);
        assert_int_equal(desk.backend->ops->wait(desk.backend, 0, &fact, 1), 0);
        again = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(again, (struct sockaddr *)&desk.peer_addr, sizeof(desk.peer_addr)),
                         0);
        assert_int_equal(sendto(again, "!", 1, 0, (struct sockaddr *)&desk.addr, sizeof(desk.addr)),
                         1);
        await(&desk, &fact, 1);
        assert_int_equal(fact.result, RDY_MESSAGE_HEAD_SIZE + 1);
        assert_int_equal(close(again), 0);
        desk_close(&desk);
    }
}

static void cancel_ends_the_receive_and_leaves_the_next_datagram(void **state)
{
    struct rdy_fact fact;
    struct desk desk;
    char back[4];

    (void)state;
    desk_open(&desk);
    lending_ring_fill(desk.backend);
    begin_recv(&desk, false);
    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, &fact, 1), 0);
    assert_int_equal(desk.backend->ops->disarm(desk.backend, desk.fd, RECV_TOKEN), 0);
    await(&desk, &fact, 1);
    assert_int_equal(fact.flags, RDY_FACT_LAST);
    assert_int_equal(fact.result, -ECANCELED);

    say(&desk, "abc", 3);
    assert_int_equal(recv(desk.fd, back, sizeof(back), 0), 3);
    desk_close(&desk);
}

/* What the engine concludes from silence, of several at once, in their order; an empty one too. */
static void sends_that_fit_are_silent_and_done_with_the_wait_that_submits_them(void **state)
{
    static char text[3][8] = {"one", "", "three"};
    struct msghdr message[3];
    struct iovec iov[3];
    struct rdy_fact facts[8];
    struct desk desk;
    char back[8];

    (void)state;
    desk_open(&desk);
    for (uint32_t i = 0; i < 3; i++) {
        struct rdy_backend_send send = {
            .fd = desk.fd,
            .token = SEND_TOKEN | (uint64_t)i << RDY_TOKEN_ARMING_SHIFT,
            .message = &message[i],
        };

        iov[i] = (struct iovec){.iov_base = text[i], .iov_len = strlen(text[i])};
        message[i] = (struct msghdr){.msg_name = &desk.peer_addr,
                                     .msg_namelen = sizeof(desk.peer_addr),
                                     .msg_iov = &iov[i],
                                     .msg_iovlen = 1};
        assert_int_equal(desk.backend->ops->send(desk.backend, &send), 0);
    }
    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 0);
    assert_true(desk.backend->is_settled);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(recv(desk.peer, back, sizeof(back), 0), strlen(text[i]));
        assert_memory_equal(back, text[i], strlen(text[i]));
    }
    desk_close(&desk);
}

static void send_that_is_refused_says_which_in_the_same_wait(void **state)
{
    static char too_long[70000];
    static char bytes[] = "ac";
    struct iovec iov[3] = {{.iov_base = bytes, .iov_len = 1},
                           {.iov_base = too_long, .iov_len = sizeof(too_long)},
                           {.iov_base = bytes + 1, .iov_len = 1}};
    struct msghdr message[3];
    struct rdy_fact facts[8];
    struct desk desk;
    char back[8];

    (void)state;
    desk_open(&desk);
    for (uint32_t i = 0; i < 3; i++) {
        struct rdy_backend_send send = {
            .fd = desk.peer,
            .token = SEND_TOKEN | (uint64_t)i << RDY_TOKEN_ARMING_SHIFT,
            .message = &message[i],
        };

        message[i] = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
        assert_int_equal(desk.backend->ops->send(desk.backend, &send), 0);
    }
    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 1);
    assert_int_equal(facts[0].token >> RDY_TOKEN_ARMING_SHIFT & (RDY_TOKEN_ARMINGS - 1), 1);
    assert_int_equal(facts[0].result, -EMSGSIZE);
    assert_true(desk.backend->is_settled);
    assert_int_equal(recv(desk.fd, back, sizeof(back), 0), 1);
    assert_int_equal(back[0], 'a');
    assert_int_equal(recv(desk.fd, back, sizeof(back), 0), 1);
    assert_int_equal(back[0], 'c');
    desk_close(&desk);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_come_each_with_its_head_and_go_on),
        cmocka_unit_test(what_is_cut_off_is_told_by_the_length_as_sent),
        cmocka_unit_test(empty_datagram_comes_with_a_buffer_and_ends_the_receive),
        cmocka_unit_test(control_messages_lie_behind_the_name),
        cmocka_unit_test(receive_without_buffers_ends_with_enobufs_and_takes_nothing),
        cmocka_unit_test(news_of_a_refusal_ends_the_receive_once),
        cmocka_unit_test(cancel_ends_the_receive_and_leaves_the_next_datagram),
        cmocka_unit_test(sends_that_fit_are_silent_and_done_with_the_wait_that_submits_them),
        cmocka_unit_test(send_that_is_refused_says_which_in_the_same_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
