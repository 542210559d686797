/* SPDX-License-Identifier: MIT */
/*
 * A ring that is taken away while it receives and sends datagrams: the sockets go on over epoll.
 * What was received stays in its place, what was handed over goes out, and nobody sleeps for an
 * answer of the ring's. (A socket that is full when the ring dies is the fake's to be: see
 * unit/test_completion_datagram_dead.c.)
 */
#include "tests/support/mail.h"

#define MANY 100u /* more than are tried at once */

/* --- receiving --- */

static int poll_begins(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    child_check(rdy_datagram_poll_recv_buf(&mail->socket, task, &mail->owed, NULL) == RDY_PENDING);
    return 0;
}

/* Takes what comes, until there are @goal of them; errors are counted. */
static int poll_receives(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    while (mail->count < mail->goal) {
        struct rdy_buf buf = {0};
        ssize_t rc = rdy_datagram_poll_recv_buf(&mail->socket, task, &buf, NULL);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        if (rc < 0) {
            mail->error = (int)rc;
            child_check(++mail->errors < 10);
            continue;
        }
        child_check(rc == sizeof(uint32_t) && mail->count < MAIL_MAX);
        memcpy(&mail->number[mail->count++], buf.data, sizeof(uint32_t));
        rdy_buf_release(&buf);
    }
    return 0;
}

/* Some wait in the socket's queue, some in the kernel, and some come when epoll watches. */
static void datagrams_on_both_sides_of_the_loss(int error)
{
    struct mail mail;

    mail_open(&mail);
    run(&mail, poll_begins);
    mail_turn(&mail);
    for (uint32_t i = 0; i < 3; i++)
        say(&mail, i);
    mail_turn(&mail);
    for (uint32_t i = 3; i < 6; i++)
        say(&mail, i);
    mail_lose(&mail, error);
    for (uint32_t i = 6; i < 9; i++)
        say(&mail, i);
    mail.goal = 9;
    run(&mail, poll_receives);
    check_received(&mail);
    child_check(mail.errors == 0);
    mail_close(&mail);
}

static void received_datagrams_keep_their_place_when_the_ring_is_lost(void **state)
{
    (void)state;
    in_a_child(datagrams_on_both_sides_of_the_loss, EPERM);
    in_a_child(datagrams_on_both_sides_of_the_loss, ENOSYS);
}

/* Lets others begin to wait, takes the ring away, and does what they wait for. */
static int poll_breaks_and_says(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    if (mail->step == 4)
        forbid(mail->refusal, false);
    if (mail->step++ < 8) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    child_check(driver_stats(mail).backend_moves == 1);
    say(mail, 0);
    return 0;
}

static void receiver_that_waits(int error)
{
    struct mail mail;

    mail_open(&mail);
    mail.refusal = error;
    mail.goal = 1;
    spawn(&mail, poll_receives);
    run(&mail, poll_breaks_and_says);
    check_received(&mail);
    mail_close(&mail);
}

static void task_that_waits_for_a_datagram_hears_of_it_over_epoll(void **state)
{
    (void)state;
    in_a_child(receiver_that_waits, EPERM);
    in_a_child(receiver_that_waits, ENOSYS);
}

static int poll_holds_two(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    while (mail->step < 2) {
        ssize_t rc = rdy_datagram_poll_recv_buf(&mail->socket, task, &mail->held[mail->step], NULL);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        child_check(rc == sizeof(uint32_t));
        mail->step++;
    }
    mail->step = 0;
    return 0;
}

static int poll_breaks_and_releases(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    if (mail->step == 4)
        forbid(mail->refusal, false);
    if (mail->step++ < 8) {
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    child_check(driver_stats(mail).backend_moves == 1);
    child_check(mail->count == 0);
    rdy_buf_release(&mail->held[0]);
    return 0;
}

/* It waits for a buffer, and not for an event: none would come. */
static void receiver_without_a_buffer(int error)
{
    struct rdy_driver_opts opts = {.buffers_count = 2, .buffer_size = 512};
    struct mail mail;

    mail_open_with(&mail, &opts);
    mail.refusal = error;
    say(&mail, 7);
    say(&mail, 8);
    run(&mail, poll_holds_two);
    say(&mail, 0);
    mail.goal = 1;
    spawn(&mail, poll_receives);
    run(&mail, poll_breaks_and_releases);
    check_received(&mail);
    mail_close(&mail);
}

static void task_that_waits_for_a_buffer_gets_it_without_the_ring(void **state)
{
    (void)state;
    in_a_child(receiver_without_a_buffer, EPERM);
}

/* The kernel tells of a refusal once, and has told the ring. */
static void refusal_before_the_loss(int error)
{
    struct mail mail;

    mail_open(&mail);
    mail_connect(&mail);
    run(&mail, poll_begins);
    mail_turn(&mail);
    say(&mail, 0);
    mail_turn(&mail);
    child_check(close(mail.peer) == 0);
    child_check(send(mail.socket.fd, "?", 1, MSG_DONTWAIT) == 1);
    mail_turn(&mail);
    mail.peer = plain_socket(&mail.peer_addr);
    child_check(connect(mail.peer, (struct sockaddr *)&mail.addr, sizeof(mail.addr)) == 0);
    mail_lose(&mail, error);
    say(&mail, 1);
    mail.goal = 2;
    run(&mail, poll_receives);
    check_received(&mail);
    child_check(mail.errors == 1 && mail.error == -ECONNREFUSED);
    mail_close(&mail);
}

static void refusal_that_the_ring_was_told_of_is_told_once(void **state)
{
    (void)state;
    in_a_child(refusal_before_the_loss, EPERM);
}

/* --- sending --- */

static int poll_sends(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    for (; mail->sent < mail->goal; mail->sent++) {
        int rc;

        if (!mail->owed.block) {
            child_check(rdy_buf_take(mail->runtime, sizeof(uint32_t), &mail->owed) == 0);
            memcpy(mail->owed.data, &mail->sent, sizeof(uint32_t));
        }
        rc = rdy_datagram_poll_send_buf(&mail->socket, task, &mail->owed,
                                        (struct sockaddr *)&mail->peer_addr,
                                        sizeof(mail->peer_addr));
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        child_check(rc == 0);
    }
    return 0;
}

static int poll_flushes(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    mail->error = rdy_datagram_poll_flush(&mail->socket, task);
    return mail->error == RDY_PENDING ? RDY_PENDING : 0;
}

/* Handed over, and the very call that would have submitted the first of them is refused. */
static void handed_over_at_the_loss(int error)
{
    struct mail mail;

    mail_open(&mail);
    mail_turn(&mail);
    mail.goal = MANY;
    spawn(&mail, poll_sends);
    forbid(error, false);
    child_check(rdy_runtime_run(mail.runtime) == 0);
    mail_turn(&mail);
    child_check(driver_stats(&mail).backend_moves == 1);
    run(&mail, poll_flushes);
    child_check(mail.error == 0);
    child_check(rdy_datagram_unsent(&mail.socket) == 0);
    check_heard(&mail, MANY);
    mail_close(&mail);
}

static void datagrams_that_were_handed_over_go_out_once_and_in_order(void **state)
{
    (void)state;
    in_a_child(handed_over_at_the_loss, EPERM);
    in_a_child(handed_over_at_the_loss, ENOSYS);
}

/* The first of them are out; of the rest the ring was not told. */
static void some_were_sent_before_the_loss(int error)
{
    struct mail mail;

    mail_open(&mail);
    mail_turn(&mail);
    mail.goal = MANY;
    run(&mail, poll_sends);
    mail_turn(&mail);
    child_check(rdy_datagram_unsent(&mail.socket) > 0);
    child_check(rdy_datagram_unsent(&mail.socket) < MANY);
    mail_lose(&mail, error);
    run(&mail, poll_flushes);
    child_check(mail.error == 0);
    check_heard(&mail, MANY);
    mail_close(&mail);
}

static void datagrams_that_had_gone_out_do_not_go_out_again(void **state)
{
    (void)state;
    in_a_child(some_were_sent_before_the_loss, EPERM);
}

/* --- both, and the end --- */

static int poll_echoes(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);

    while (mail->sent < mail->goal) {
        ssize_t rc;

        if (!mail->owed.block) {
            rc = rdy_datagram_poll_recv_buf(&mail->socket, task, &mail->owed, NULL);
            if (rc == RDY_PENDING)
                return RDY_PENDING;
            child_check(rc == sizeof(uint32_t));
        }
        rc = rdy_datagram_poll_send_buf(&mail->socket, task, &mail->owed,
                                        (struct sockaddr *)&mail->peer_addr,
                                        sizeof(mail->peer_addr));
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        child_check(rc == 0);
        mail->sent++;
    }
    return rdy_datagram_poll_flush(&mail->socket, task) == RDY_PENDING ? RDY_PENDING : 0;
}

static void echo_over_the_loss(int error)
{
    struct mail mail;

    mail_open(&mail);
    for (uint32_t i = 0; i < 60; i++) {
        say(&mail, i);
        if (i == 20)
            forbid(error, false);
        mail.goal = i + 1;
        run(&mail, poll_echoes);
        child_check(hear(&mail) == i);
    }
    child_check(driver_stats(&mail).backend_moves == 1);
    mail_close(&mail);
}

static void echo_of_datagrams_goes_on_over_epoll(void **state)
{
    (void)state;
    in_a_child(echo_over_the_loss, EPERM);
    in_a_child(echo_over_the_loss, ENOSYS);
}

enum {
    RECEIVING,
    UNREAD, /* datagrams that nobody took */
    IDLE,
    UNSENT, /* last, as a turn would send */
    WAYS
};

/* Each in another state, and the very call that would have told the ring of it is refused. */
static void closed_at_the_loss(int error)
{
    struct rdy_datagram sockets[WAYS];
    struct sockaddr_in addrs[WAYS];
    struct mail mail;

    mail_open(&mail);
    for (int way = 0; way < WAYS; way++) {
        if (way > 0)
            socket_open(&mail);
        child_check(connect(mail.peer, (struct sockaddr *)&mail.addr, sizeof(mail.addr)) == 0);
        if (way == RECEIVING || way == UNREAD)
            run(&mail, poll_begins);
        mail_turn(&mail);
        if (way == UNREAD)
            say(&mail, 0);
        mail_turn(&mail);
        mail.goal = MANY;
        if (way == UNSENT)
            run(&mail, poll_sends);
        sockets[way] = mail.socket;
        addrs[way] = mail.addr;
        mail.socket.fd = -1;
    }
    for (int way = 0; way < WAYS; way++)
        rdy_datagram_close(&sockets[way]);
    mail_lose(&mail, error);
    child_check(driver_stats(&mail).entries_live == 0);
    for (int way = 0; way < WAYS; way++) /* nobody holds the ports any more */
        child_check(close(plain_socket(&addrs[way])) == 0);
    mail_close(&mail);
}

static void sockets_that_are_closed_as_the_ring_is_lost_leave_nothing(void **state)
{
    (void)state;
    in_a_child(closed_at_the_loss, EPERM);
    in_a_child(closed_at_the_loss, ENOSYS);
}

static int poll_tries_all(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);
    int error = -mail->refusal;

    child_check(rdy_datagram_poll_recv_buf(&mail->socket, task, &mail->held[0], NULL) == error);
    child_check(rdy_datagram_poll_send_buf(&mail->socket, task, &mail->owed,
                                           (struct sockaddr *)&mail->peer_addr,
                                           sizeof(mail->peer_addr)) == error);
    child_check(mail->owed.block != NULL);
    child_check(rdy_datagram_poll_flush(&mail->socket, task) == error);
    return 0;
}

static int poll_waits_for_the_end(struct rdy_task *task, void *self)
{
    struct mail *mail = mail_of(self);
    ssize_t rc = rdy_datagram_poll_recv_buf(&mail->socket, task, &mail->held[0], NULL);

    if (rc == RDY_PENDING)
        return RDY_PENDING;
    mail->error = (int)rc;
    return 0;
}

/* A program that asked for io_uring gets no other. */
static void nothing_to_move_to(int error)
{
    struct rdy_driver_opts opts = {.backend = RDY_BACKEND_URING};
    struct mail mail;

    mail_open_with(&mail, &opts);
    mail_turn(&mail);
    mail.refusal = error;
    mail.goal = MANY;
    run(&mail, poll_sends);
    child_check(rdy_buf_take(mail.runtime, 4, &mail.owed) == 0);
    spawn(&mail, poll_waits_for_the_end);
    forbid(error, false);
    child_check(rdy_runtime_run(mail.runtime) == -error);
    spawn(&mail, poll_tries_all);
    child_check(rdy_runtime_run(mail.runtime) == 0);
    child_check(mail.error == -error);
    rdy_buf_release(&mail.owed);
    rdy_datagram_close(&mail.socket);
    rdy_runtime_close(mail.runtime);
    child_check(close(plain_socket(&mail.addr)) == 0);
}

static void sockets_that_cannot_move_are_told_of_the_loss(void **state)
{
    (void)state;
    in_a_child(nothing_to_move_to, EPERM);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(received_datagrams_keep_their_place_when_the_ring_is_lost),
        cmocka_unit_test(task_that_waits_for_a_datagram_hears_of_it_over_epoll),
        cmocka_unit_test(task_that_waits_for_a_buffer_gets_it_without_the_ring),
        cmocka_unit_test(refusal_that_the_ring_was_told_of_is_told_once),
        cmocka_unit_test(datagrams_that_were_handed_over_go_out_once_and_in_order),
        cmocka_unit_test(datagrams_that_had_gone_out_do_not_go_out_again),
        cmocka_unit_test(echo_of_datagrams_goes_on_over_epoll),
        cmocka_unit_test(sockets_that_are_closed_as_the_ring_is_lost_leave_nothing),
        cmocka_unit_test(sockets_that_cannot_move_are_told_of_the_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
