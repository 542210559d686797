/* SPDX-License-Identifier: MIT */
/*
 * What completion mode leans on in io_uring, one test a promise, through the backend's own
 * operations and on real sockets: when a new kernel breaks one, this program says which.
 */
#include "tests/kernel/lending_ring.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/un.h>

#define ACCEPT_TOKEN ((uint64_t)RDY_ABOUT_ACCEPT << 62 | 1)

struct desk {
    struct rdy_backend *backend;
    unsigned char *memory;
    int fds[2];
};

static void desk_open(struct desk *desk, int family)
{
    desk->backend = lending_ring_open(&desk->memory);
    if (family == AF_UNIX)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, desk->fds), 0);
    else
        tcp_pair(desk->fds);
}

static void desk_close(struct desk *desk)
{
    lending_ring_close(desk->backend, desk->memory);
    for (int i = 0; i < 2; i++)
        (void)close(desk->fds[i]);
}

/* Facts as they come, up to @facts_max, for as long as none is the last; how many. */
static uint32_t await_last(struct desk *desk, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t count = 0;

    for (int i = 0; i < 50 && count < facts_max; i++) {
        int rc =
            desk->backend->ops->wait(desk->backend, SOON_NS / 20, facts + count, facts_max - count);

        assert_true(rc >= 0);
        count += (uint32_t)rc;
        if (count > 0 && (facts[count - 1].flags & RDY_FACT_LAST))
            return count;
    }
    fail_msg("no last fact after %u", count);
    return 0;
}

static void begin_recv(struct desk *desk, bool is_data_there)
{
    assert_int_equal(
        desk->backend->ops->recv(desk->backend, desk->fds[0], RECV_TOKEN, is_data_there), 0);
}

/* The end was there before the receive began; with POLL_FIRST Linux 6.18 never tells of it. */
static void receive_tells_of_an_end_that_came_before_it(void **state)
{
    static const int families[] = {AF_UNIX, AF_INET};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rdy_fact facts[8];
        struct desk desk;
        uint32_t count;

        desk_open(&desk, families[i]);
        lending_ring_fill(desk.backend);
        assert_int_equal(send(desk.fds[1], "abc", 3, 0), 3);
        assert_int_equal(shutdown(desk.fds[1], SHUT_WR), 0);
        begin_recv(&desk, families[i] == AF_UNIX);
        count = await_last(&desk, facts, 8);

        assert_int_equal(count, 2);
        assert_int_equal(facts[0].result, 3);
        assert_true(facts[0].flags & RDY_FACT_BUFFER);
        assert_int_equal(facts[1].result, 0);
        assert_false(facts[1].flags & RDY_FACT_BUFFER);
        desk_close(&desk);
    }
}

static void receive_without_buffers_ends_with_enobufs_and_takes_nothing(void **state)
{
    struct rdy_fact facts[8];
    struct desk desk;
    char back[4];

    (void)state;
    desk_open(&desk, AF_INET);
    begin_recv(&desk, false);
    assert_int_equal(send(desk.fds[1], "abc", 3, 0), 3);

    assert_int_equal(await_last(&desk, facts, 8), 1);
    assert_int_equal(facts[0].result, -ENOBUFS);
    assert_int_equal(recv(desk.fds[0], back, sizeof(back), MSG_DONTWAIT), 3);
    desk_close(&desk);
}

static int send_now(struct desk *desk, void *data, size_t len, bool may_wait)
{
    struct iovec piece = {.iov_base = data, .iov_len = len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    struct rdy_backend_send send = {
        .fd = desk->fds[0], .token = SEND_TOKEN, .message = &message, .may_wait = may_wait};

    return desk->backend->ops->send(desk->backend, &send);
}

/* What the engine concludes from silence: the bytes are there when wait() returns. */
static void send_that_fits_is_silent_and_done_with_the_wait_that_submits_it(void **state)
{
    struct rdy_fact facts[8];
    char hello[] = "hello";
    struct desk desk;
    char back[8];

    (void)state;
    desk_open(&desk, AF_INET);
    assert_int_equal(send_now(&desk, hello, 5, false), 0);

    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 0);
    assert_true(desk.backend->is_settled);
    assert_int_equal(recv(desk.fds[1], back, sizeof(back), MSG_DONTWAIT), 5);
    desk_close(&desk);
}

/* A part went out: told in the same wait, with the number of bytes. */
static void send_that_does_not_fit_tells_in_the_same_wait_how_much_went(void **state)
{
    static char big[8 << 20];
    struct rdy_fact facts[8];
    struct desk desk;
    size_t heard = 0;
    ssize_t count;

    (void)state;
    desk_open(&desk, AF_INET);
    assert_int_equal(send_now(&desk, big, sizeof(big), false), 0);

    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 1);
    assert_true(facts[0].flags & RDY_FACT_LAST);
    assert_true(facts[0].result > 0 && facts[0].result < (int)sizeof(big));
    assert_int_equal(fcntl(desk.fds[1], F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 10000 && heard < (size_t)facts[0].result; i++) {
        count = recv(desk.fds[1], big, sizeof(big), 0);
        heard += count > 0 ? (size_t)count : 0;
    }
    assert_int_equal(heard, facts[0].result);
    desk_close(&desk);
}

static void send_to_a_full_socket_says_eagain_in_the_same_wait(void **state)
{
    static char big[8 << 20];
    struct rdy_fact facts[8];
    struct desk desk;

    (void)state;
    desk_open(&desk, AF_INET);
    while (send(desk.fds[0], big, sizeof(big), MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(send_now(&desk, big, 1000, false), 0);

    assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 1);
    assert_int_equal(facts[0].result, -EAGAIN);
    desk_close(&desk);
}

static int dial(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void accept_gives_nonblocking_descriptors_again_and_again(void **state)
{
    uint16_t port = 0;
    struct rdy_fact facts[8];
    struct desk desk;
    int listener = listener_new(&port);
    int caller;

    (void)state;
    assert_true(listener >= 0);
    desk_open(&desk, AF_INET);
    assert_int_equal(desk.backend->ops->accept(desk.backend, listener, ACCEPT_TOKEN), 0);
    caller = dial(port);
    assert_int_equal(desk.backend->ops->wait(desk.backend, SOON_NS, facts, 8), 1);
    assert_true(facts[0].result >= 0);
    assert_int_equal(facts[0].flags, 0);
    assert_int_equal(fcntl(facts[0].result, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(facts[0].result, F_GETFL) & O_NONBLOCK);
    (void)close(facts[0].result);
    (void)close(caller);
    (void)close(listener);
    desk_close(&desk);
}

/* Accepted in the enter that cancels: nobody is there to be told, and the peer must see an end. */
static void connection_that_comes_as_the_ring_closes_is_closed(void **state)
{
    struct desk desk;
    struct pollfd look = {.events = POLLIN};
    uint16_t port = 0;
    int listener = listener_new(&port);

    (void)state;
    assert_true(listener >= 0);
    desk_open(&desk, AF_INET);
    assert_int_equal(desk.backend->ops->accept(desk.backend, listener, ACCEPT_TOKEN), 0);
    look.fd = dial(port);
    desk_close(&desk);
    (void)close(listener);
    assert_int_equal(poll(&look, 1, 2000), 1);
    (void)close(look.fd);
}

/* --- connecting --- */

static int connect_by(struct desk *desk, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
    return desk->backend->ops->connect(desk->backend, fd, SEND_TOKEN, addr, addr_len);
}

static int inet_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return fd;
}

/* The address is the caller's again once the kernel was told. */
static void connect_tells_once_that_it_is_made_or_refused(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port = 0;
    int listener = listener_new(&port);
    struct rdy_fact facts[8];
    struct desk desk;

    (void)state;
    desk_open(&desk, AF_INET);
    for (int i = 0; i < 2; i++) {
        int fd = inet_socket();

        if (i == 1)
            assert_int_equal(close(listener), 0);
        addr.sin_port = htons(port);
        assert_int_equal(connect_by(&desk, fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        assert_int_equal(await_last(&desk, facts, 8), 1);
        assert_int_equal(facts[0].token, SEND_TOKEN);
        assert_int_equal(facts[0].result, i == 0 ? 0 : -ECONNREFUSED);
        assert_int_equal(close(fd), 0);
    }
    desk_close(&desk);
}

/* A listener whose queue is full: it answers nobody. */
struct silent {
    struct sockaddr_in addr;
    int listener;
    int filler;
};

static struct silent silent_new(void)
{
    struct silent silent = {
        .addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    uint16_t port = 0;

    silent.listener = listener_new(&port);
    assert_int_equal(listen(silent.listener, 0), 0);
    silent.filler = dial(port);
    silent.addr.sin_port = htons(port);
    return silent;
}

static void silent_close(const struct silent *silent)
{
    (void)close(silent->filler);
    (void)close(silent->listener);
}

/* A socket that the ring was told to connect, and has not. */
static int connect_in_vain(struct desk *desk, const struct silent *silent)
{
    struct rdy_fact facts[8];
    int fd = inet_socket();

    assert_int_equal(
        connect_by(desk, fd, (const struct sockaddr *)&silent->addr, sizeof(silent->addr)), 0);
    assert_int_equal(desk->backend->ops->wait(desk->backend, 0, facts, 8), 0);
    return fd;
}

/* Why the engine calls connect(2) after an answer that is none. */
static void connect_ends_too_early_at_a_wake_up_with_another_reason(void **state)
{
    struct silent silent = silent_new();
    struct rdy_fact facts[8];
    struct desk desk;
    int bytes = 65536;
    int fd;

    (void)state;
    desk_open(&desk, AF_INET);
    fd = connect_in_vain(&desk, &silent);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(await_last(&desk, facts, 8), 1);
    assert_int_equal(facts[0].result, -EALREADY);
    assert_int_equal(connect(fd, (struct sockaddr *)&silent.addr, sizeof(silent.addr)), -1);
    assert_int_equal(errno, EALREADY);
    (void)close(fd);
    silent_close(&silent);
    desk_close(&desk);
}

/* Asked to stop, it says so, and the socket can be closed. */
static void connect_that_is_not_answered_can_be_cancelled(void **state)
{
    struct silent silent = silent_new();
    struct rdy_fact facts[8];
    struct desk desk;
    int fd;

    (void)state;
    desk_open(&desk, AF_INET);
    fd = connect_in_vain(&desk, &silent);
    assert_int_equal(desk.backend->ops->disarm(desk.backend, fd, SEND_TOKEN), 0);
    assert_int_equal(await_last(&desk, facts, 8), 1);
    assert_int_equal(facts[0].result, -ECANCELED);
    (void)close(fd);
    silent_close(&silent);
    desk_close(&desk);
}

/* --- closing --- */

/* Done with the wait that submits it, the end that the peer sees included, and silent. */
static void close_is_silent_and_done_with_the_wait_that_submits_it(void **state)
{
    static const int families[] = {AF_UNIX, AF_INET};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rdy_fact facts[8];
        struct desk desk;
        char byte;

        desk_open(&desk, families[i]);
        assert_int_equal(desk.backend->ops->close_file(desk.backend, desk.fds[0]), 0);
        assert_true(fcntl(desk.fds[0], F_GETFD) >= 0);
        assert_int_equal(desk.backend->ops->wait(desk.backend, 0, facts, 8), 0);
        assert_int_equal(fcntl(desk.fds[0], F_GETFD), -1);
        assert_int_equal(recv(desk.fds[1], &byte, 1, MSG_DONTWAIT), 0);
        desk.fds[0] = -1;
        desk_close(&desk);
    }
}

static void *open_and_begin_to_close(void *arg)
{
    struct desk *desk = arg;

    desk_open(desk, AF_UNIX);
    assert_int_equal(desk->backend->ops->close_file(desk->backend, desk->fds[0]), 0);
    return NULL;
}

/* Nobody will tell the ring any more: only the thread that has ended could. */
static void backend_closes_what_was_not_submitted(void **state)
{
    struct desk desk;
    pthread_t thread;
    char byte;
    int fd;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, open_and_begin_to_close, &desk), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fd = desk.fds[0];
    assert_true(fcntl(fd, F_GETFD) >= 0);
    desk.fds[0] = -1;
    desk.backend->ops->close(desk.backend);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(recv(desk.fds[1], &byte, 1, MSG_DONTWAIT), 0);
    free(desk.memory);
    (void)close(desk.fds[1]);
}

/* --- what the engine leaves to system calls --- */

/* A ring without the backend's restrictions. */
static void bare_ring(struct io_uring *ring)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};

    assert_int_equal(io_uring_queue_init_params(8, ring, &params), 0);
}

static int result_of(struct io_uring *ring)
{
    struct io_uring_cqe *cqe = NULL;
    int result;

    assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

/*
 * A shutdown is given to a worker thread whatever the file: where an operation that is carried out
 * in place (a NOP) has completed when the submitting call returns, it has not.
 */
static void shutdown_is_punted_and_not_carried_out_in_place(void **state)
{
    struct io_uring ring = {0};
    int fds[2];
    char byte;

    (void)state;
    bare_ring(&ring);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    assert_int_equal(io_uring_submit(&ring), 1);
    assert_int_equal(io_uring_cq_ready(&ring), 1);
    assert_int_equal(result_of(&ring), 0);

    io_uring_prep_shutdown(io_uring_get_sqe(&ring), fds[0], SHUT_WR);
    assert_int_equal(io_uring_submit(&ring), 1);
    assert_int_equal(io_uring_cq_ready(&ring), 0);
    assert_int_equal(result_of(&ring), 0);
    assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0);
    io_uring_queue_exit(&ring);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Where connect(2) says EAGAIN at once, most kernels' rings try for a while (6.12's does not). */
static void full_unix_listener_is_told_in_the_end(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct io_uring ring = {0};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fds[2];

    (void)state;
    bare_ring(&ring);
    (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "rdy-kernel-%d", (int)getpid());
    assert_int_equal(bind(listener, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(listener, 0), 0);
    for (int i = 0; i < 2; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
    }
    assert_int_equal(connect(fds[0], (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&name, sizeof(name)), -1);
    assert_int_equal(errno, EAGAIN);

    io_uring_prep_connect(io_uring_get_sqe(&ring), fds[1], (struct sockaddr *)&name, sizeof(name));
    assert_int_equal(io_uring_submit(&ring), 1);
    assert_int_equal(result_of(&ring), -EAGAIN);
    io_uring_queue_exit(&ring);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(listener);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(receive_tells_of_an_end_that_came_before_it),
        cmocka_unit_test(receive_without_buffers_ends_with_enobufs_and_takes_nothing),
        cmocka_unit_test(send_that_fits_is_silent_and_done_with_the_wait_that_submits_it),
        cmocka_unit_test(send_that_does_not_fit_tells_in_the_same_wait_how_much_went),
        cmocka_unit_test(send_to_a_full_socket_says_eagain_in_the_same_wait),
        cmocka_unit_test(accept_gives_nonblocking_descriptors_again_and_again),
        cmocka_unit_test(connection_that_comes_as_the_ring_closes_is_closed),
        cmocka_unit_test(connect_tells_once_that_it_is_made_or_refused),
        cmocka_unit_test(connect_ends_too_early_at_a_wake_up_with_another_reason),
        cmocka_unit_test(connect_that_is_not_answered_can_be_cancelled),
        cmocka_unit_test(close_is_silent_and_done_with_the_wait_that_submits_it),
        cmocka_unit_test(backend_closes_what_was_not_submitted),
        cmocka_unit_test(shutdown_is_punted_and_not_carried_out_in_place),
        cmocka_unit_test(full_unix_listener_is_told_in_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
