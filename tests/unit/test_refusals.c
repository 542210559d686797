/* SPDX-License-Identifier: MIT */
/*
 * Calls that have no answer to give: on what was closed, in a poll whose budget is used up, for a
 * runtime that is full, and on a file that says that it is ready and refuses. On both backends.
 */
#include "tests/support/calls.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <rdy/rdy.h>

#include "engine/sys.h"

#define TRIES        8u /* of one poll on a file that lies */
#define ACCEPT_TRIES 16u

/* One of each, closed until a test opens it. */
struct all {
    struct rdy_runtime *runtime;
    struct rdy_async_fd afd;
    struct rdy_readiness wait;
    struct rdy_ready_guard guard;
    struct rdy_pipe_sender sender;
    struct rdy_pipe_receiver receiver;
    struct rdy_eventfd event;
    struct rdy_signals signals;
    struct rdy_child child;
    struct rdy_listener listener;
    struct rdy_stream stream;
    struct rdy_stream other;
    struct rdy_datagram datagram;
    struct rdy_datagram peer;
    struct rdy_connector connector;
    struct rdy_resolve resolve;
    struct rdy_address_list list;
    struct rdy_reader reader;
    struct rdy_notify notify;
    struct rdy_waiter waiter;
    struct sockaddr_in addr;
    unsigned char bytes[64];
    int fd;
};

static void all_init(struct all *all, void **state)
{
    memset(all, 0, sizeof(*all));
    all->runtime = runtime_of(state);
    all->afd.fd = all->sender.fd = all->receiver.fd = all->event.fd = all->signals.fd = -1;
    all->child.fd = all->listener.fd = all->stream.fd = all->other.fd = -1;
    all->datagram.fd = all->peer.fd = all->fd = -1;
    all->addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void all_close(struct all *all)
{
    rdy_async_fd_close(&all->afd);
    rdy_pipe_sender_close(&all->sender);
    rdy_pipe_receiver_close(&all->receiver);
    rdy_eventfd_close(&all->event);
    rdy_signals_close(&all->signals);
    rdy_child_close(&all->child);
    rdy_listener_close(&all->listener);
    rdy_stream_close(&all->stream);
    rdy_stream_close(&all->other);
    rdy_datagram_close(&all->datagram);
    rdy_datagram_close(&all->peer);
    rdy_connector_cancel(&all->connector);
    rdy_address_list_free(&all->list);
    if (all->fd >= 0)
        assert_int_equal(close(all->fd), 0);
    let_close(all->runtime);
    assert_int_equal(driver_stats(all->runtime).entries_live, 0);
}

static ssize_t accept_one(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_listener_poll_accept(&all->listener, task, &all->other);
}

static ssize_t connect_on(void *test, struct rdy_task *task)
{
    return rdy_stream_poll_connect(&((struct all *)test)->stream, task);
}

static ssize_t await_readable(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_async_fd_poll_readable(&all->afd, task, &all->guard);
}

static ssize_t take_event(void *test, struct rdy_task *task)
{
    return rdy_eventfd_poll_take(&((struct all *)test)->event, task, NULL);
}

static ssize_t await_exit(void *test, struct rdy_task *task)
{
    return rdy_child_poll_exit(&((struct all *)test)->child, task, NULL);
}

static ssize_t read_pipe(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_pipe_receiver_poll_read(&all->receiver, task, all->bytes, sizeof(all->bytes));
}

static ssize_t write_pipe(void *test, struct rdy_task *task)
{
    return rdy_pipe_sender_poll_write(&((struct all *)test)->sender, task, "x", 1);
}

static ssize_t read_stream(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_stream_poll_read(&all->stream, task, all->bytes, sizeof(all->bytes));
}

static ssize_t write_stream(void *test, struct rdy_task *task)
{
    return rdy_stream_poll_write(&((struct all *)test)->stream, task, "x", 1);
}

/* --- closed --- */

static void what_is_closed_says_ebadf(void **state)
{
    static call_fn *const calls[] = {accept_one, connect_on,  await_readable,
                                     take_event, await_exit,  read_pipe,
                                     write_pipe, read_stream, write_stream};
    static struct all all;

    all_init(&all, state);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        assert_int_equal(call_run(all.runtime, calls[i], &all), -EBADF);
    assert_int_equal(rdy_async_fd_try_io(&all.afd, RDY_INTEREST_READ, NULL, NULL), -EBADF);
    assert_int_equal(rdy_pipe_sender_into_blocking_fd(&all.sender), -EBADF);
    assert_int_equal(rdy_pipe_receiver_into_blocking_fd(&all.receiver), -EBADF);
    assert_int_equal(rdy_eventfd_try_take(&all.event, NULL), -EBADF);
    assert_int_equal(rdy_eventfd_add(&all.event, 1), -EBADF);
    all_close(&all);
}

/* --- no budget left --- */

static ssize_t await_ready(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_async_fd_poll_ready(&all->afd, &all->wait, task, &all->guard);
}

static ssize_t answer_with_three(int fd, void *arg)
{
    (void)fd;
    (void)arg;
    return 3;
}

static ssize_t do_async_io(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_async_fd_async_io(&all->wait, task, answer_with_three, NULL);
}

static ssize_t await_pipe(void *test, struct rdy_task *task)
{
    return rdy_pipe_receiver_poll_readable(&((struct all *)test)->receiver, task);
}

static ssize_t connect_any(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_connector_poll(&all->connector, task, &all->stream);
}

static ssize_t resolve_name(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_resolve_poll(&all->resolve, task, &all->list);
}

static ssize_t read_buffered(void *test, struct rdy_task *task)
{
    struct all *all = test;
    unsigned char byte;

    return rdy_reader_poll_read(&all->reader, &all->stream, task, &byte, 1);
}

static ssize_t await_notice(void *test, struct rdy_task *task)
{
    struct all *all = test;

    return rdy_notify_poll(&all->notify, task, &all->waiter);
}

/* First with no budget left, then in a poll of its own. */
struct spent {
    struct all *all;
    call_fn *fn;
    ssize_t result;
    uint32_t polls;
};

static int poll_spent(struct rdy_task *task, void *self)
{
    struct spent *spent = ((struct test_task *)self)->test;

    if (++spent->polls == 1) {
        while (rdy_task_charge(task) == 0)
            ;
        spent->result = spent->fn(spent->all, task);
        return RDY_PENDING; /* whoever has no budget left is polled again without being woken */
    }
    if (spent->result != RDY_PENDING)
        return 0;
    spent->result = spent->fn(spent->all, task);
    return spent->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void answer_waits_for_budget(struct all *all, call_fn *fn, ssize_t expected)
{
    struct spent spent = {.all = all, .fn = fn};

    (void)spawn_test(all->runtime, poll_spent, NULL, &spent);
    assert_int_equal(rdy_runtime_run(all->runtime), 0);
    assert_int_equal(spent.result, expected);
    assert_true(spent.polls >= 2);
}

/* Opens what the calls are on, each with something to say. */
static void all_open_ready(struct all *all)
{
    struct rdy_address address = {.addr_len = sizeof(all->addr)};
    struct sockaddr_storage bound;
    socklen_t bound_len;

    all->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(rdy_async_fd_open(&all->afd, all->runtime, all->fd, RDY_INTEREST_READ), 0);
    assert_int_equal(rdy_pipe_open(&all->sender, &all->receiver, all->runtime, NULL), 0);
    assert_int_equal(write(all->sender.fd, "x", 1), 1);
    assert_int_equal(rdy_listener_open(&all->listener, all->runtime, (struct sockaddr *)&all->addr,
                                       sizeof(all->addr), NULL),
                     0);
    assert_int_equal(rdy_listener_address(&all->listener, &bound, &bound_len), 0);
    memcpy(&address.addr, &bound, sizeof(all->addr));
    assert_int_equal(rdy_connector_start(&all->connector, all->runtime, &address, 1, NULL), 0);
    assert_int_equal(rdy_resolve_start(&all->resolve, NULL, "127.0.0.1", "80", NULL), 0);
    rdy_reader_init(&all->reader, all->bytes, sizeof(all->bytes));
    all->bytes[0] = 'x';
    all->reader.end = 1;
    rdy_notify_one(&all->notify);
}

static void call_without_budget_takes_nothing_and_answers_later(void **state)
{
    static struct all all;
    pid_t pid;

    all_init(&all, state);
    all_open_ready(&all);
    answer_waits_for_budget(&all, await_readable, 0);
    rdy_async_fd_init_wait(&all.afd, &all.wait, RDY_INTEREST_READ);
    answer_waits_for_budget(&all, await_ready, 0);
    rdy_async_fd_init_wait(&all.afd, &all.wait, RDY_INTEREST_READ);
    answer_waits_for_budget(&all, do_async_io, 3);
    answer_waits_for_budget(&all, await_pipe, 0);
    answer_waits_for_budget(&all, write_pipe, 1);
    answer_waits_for_budget(&all, connect_any, 0);
    answer_waits_for_budget(&all, resolve_name, 0);
    assert_int_equal(all.list.count, 1);
    answer_waits_for_budget(&all, read_buffered, 1);
    answer_waits_for_budget(&all, await_notice, 0);
    pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(rdy_child_open(&all.child, all.runtime, pid), 0);
    answer_waits_for_budget(&all, await_exit, 0);
    all_close(&all);
}

/* --- a runtime that is full --- */

static void runtime_with_room_for(struct all *all, void **state, uint32_t entries)
{
    struct runtime_fixture *fixture = *state;
    struct rdy_runtime_opts opts = runtime_opts(fixture->backend);

    opts.driver.entries_max = entries;
    rdy_runtime_close(fixture->runtime);
    assert_int_equal(rdy_runtime_open(&fixture->runtime, &opts), 0);
    all->runtime = fixture->runtime;
    all->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(rdy_async_fd_open(&all->afd, all->runtime, all->fd, RDY_INTEREST_READ), 0);
}

static bool is_signal_blocked(int signo)
{
    sigset_t mask;

    assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    return sigismember(&mask, signo) == 1;
}

static void full_runtime_opens_nothing_and_leaves_nothing(void **state)
{
    static const int list[] = {SIGUSR1};
    static struct all all;
    int before;
    pid_t pid;

    all_init(&all, state);
    runtime_with_room_for(&all, state, 1);
    before = descriptors_count();
    assert_int_equal(rdy_eventfd_open(&all.event, all.runtime, NULL), -ENFILE);
    assert_int_equal(rdy_signals_open_list(&all.signals, all.runtime, list, 1), -ENFILE);
    assert_false(is_signal_blocked(SIGUSR1));
    assert_int_equal(rdy_pipe_open(&all.sender, &all.receiver, all.runtime, NULL), -ENFILE);
    assert_int_equal(rdy_stream_pair(&all.stream, &all.other, all.runtime), -ENFILE);
    assert_int_equal(rdy_datagram_pair(&all.datagram, &all.peer, all.runtime), -ENFILE);
    assert_int_equal(rdy_datagram_open(&all.datagram, all.runtime, AF_INET, NULL), -ENFILE);
    assert_int_equal(rdy_listener_open(&all.listener, all.runtime, (struct sockaddr *)&all.addr,
                                       sizeof(all.addr), NULL),
                     -ENFILE);
    pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(rdy_child_open(&all.child, all.runtime, pid), -ENFILE);
    assert_int_equal(waitpid(pid, NULL, 0), pid); /* it is the caller's still */
    let_turn(all.runtime);
    assert_int_equal(descriptors_count(), before);
    assert_true(all.event.fd < 0 && all.signals.fd < 0 && all.sender.fd < 0 && all.stream.fd < 0 &&
                all.datagram.fd < 0 && all.listener.fd < 0 && all.child.fd < 0);
    all_close(&all);
}

static void pair_is_opened_whole_or_not_at_all(void **state)
{
    static struct all all;
    int before;

    all_init(&all, state);
    runtime_with_room_for(&all, state, 2);
    before = descriptors_count();
    assert_int_equal(rdy_datagram_pair(&all.datagram, &all.peer, all.runtime), -ENFILE);
    let_turn(all.runtime);
    assert_int_equal(rdy_stream_pair(&all.stream, &all.other, all.runtime), -ENFILE);
    let_turn(all.runtime);
    assert_int_equal(driver_stats(all.runtime).entries_live, 1);
    assert_int_equal(descriptors_count(), before);
    (void)rdy_sys_fail_nth(1, EMFILE);
    assert_int_equal(rdy_datagram_pair(&all.datagram, &all.peer, all.runtime), -EMFILE);
    (void)rdy_sys_fail_nth(0, 0);
    all_close(&all);
}

struct again {
    struct all *all;
    struct rdy_registration reg;
    int result;
};

static void *thread_registers_again(void *arg)
{
    struct again *again = arg;

    again->result = rdy_register(rdy_runtime_driver(again->all->runtime), again->all->fd,
                                 RDY_INTEREST_READ, &again->reg);
    return NULL;
}

/* Epoll has a file once, and says so at once to any thread; a ring may have it twice. */
static void registration_refused_to_another_thread_leaves_no_entry(void **state)
{
    bool is_epoll = ((struct runtime_fixture *)*state)->backend == RDY_BACKEND_EPOLL;
    static struct all all;
    struct again again = {.all = &all};
    pthread_t thread;

    all_init(&all, state);
    all.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(rdy_async_fd_open(&all.afd, all.runtime, all.fd, RDY_INTEREST_READ), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_registers_again, &again), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(again.result, is_epoll ? -EEXIST : 0);
    if (again.result == 0)
        assert_int_equal(rdy_deregister(&again.reg), 0);
    let_turn(all.runtime);
    assert_int_equal(driver_stats(all.runtime).entries_live, 1);
    all_close(&all);
}

/* --- nothing to do --- */

static ssize_t read_nothing(void *test, struct rdy_task *task)
{
    return rdy_stream_poll_read(&((struct all *)test)->stream, task, NULL, 0);
}

/* No bytes are asked for, an address has no family, an event is taken without a task. */
static void small_questions_have_answers_at_once(void **state)
{
    static struct all all;
    uint64_t taken = 0;

    all_init(&all, state);
    assert_int_equal(rdy_stream_pair(&all.stream, &all.other, all.runtime), 0);
    assert_int_equal(call_run(all.runtime, read_nothing, &all), 0);
    assert_int_equal(
        rdy_listener_open(&all.listener, all.runtime, (struct sockaddr *)&all.addr, 1, NULL),
        -EINVAL);
    assert_true(all.listener.fd < 0);
    assert_int_equal(rdy_eventfd_open(&all.event, all.runtime, NULL), 0);
    assert_int_equal(rdy_eventfd_try_take(&all.event, &taken), -EAGAIN);
    assert_int_equal(rdy_eventfd_add(&all.event, 7), 0);
    assert_int_equal(rdy_eventfd_try_take(&all.event, &taken), 0);
    assert_int_equal(taken, 7);
    all_close(&all);
}

/* --- a file that lies --- */

/* A poll gives way after some tries, without waiting to be woken: nobody would wake it. */
struct lie {
    struct all *all;
    call_fn *fn;
    int error;
    uint64_t calls; /* of the poll that was lied to */
    ssize_t first;
    ssize_t result;
    uint32_t polls;
};

static int poll_lied_to(struct rdy_task *task, void *self)
{
    struct lie *lie = ((struct test_task *)self)->test;

    if (++lie->polls == 1) {
        (void)rdy_sys_fail_all(lie->error);
        lie->first = lie->fn(lie->all, task);
        lie->calls = rdy_sys_fail_all(0);
        return lie->first == RDY_PENDING ? RDY_PENDING : 0;
    }
    lie->result = lie->fn(lie->all, task);
    return lie->result == RDY_PENDING ? RDY_PENDING : 0;
}

static void gives_way(struct all *all, call_fn *fn, int error, uint64_t tries, ssize_t expected)
{
    struct lie lie = {.all = all, .fn = fn, .error = error};

    (void)spawn_test(all->runtime, poll_lied_to, NULL, &lie);
    assert_int_equal(rdy_runtime_run(all->runtime), 0);
    assert_int_equal(lie.first, RDY_PENDING);
    assert_int_equal(lie.calls, tries);
    assert_int_equal(lie.polls, 2);
    assert_int_equal(lie.result, expected);
}

static ssize_t receive_files(void *test, struct rdy_task *task)
{
    struct all *all = test;
    struct rdy_received received;
    int fds[1];

    return rdy_stream_poll_recv_fds(&all->stream, task, all->bytes, sizeof(all->bytes), fds, 1,
                                    &received);
}

/* What is over stays ready for good: there nothing but the tries ends a poll. */
static void file_that_is_over_and_refuses_lets_the_others_go_first(void **state)
{
    static struct all all;

    all_init(&all, state);
    assert_int_equal(rdy_pipe_open(&all.sender, &all.receiver, all.runtime, NULL), 0);
    rdy_pipe_sender_close(&all.sender);
    let_turn(all.runtime);
    gives_way(&all, read_pipe, EAGAIN, TRIES, 0);
    rdy_pipe_receiver_close(&all.receiver);
    assert_int_equal(rdy_pipe_open(&all.sender, &all.receiver, all.runtime, NULL), 0);
    rdy_pipe_receiver_close(&all.receiver);
    let_turn(all.runtime);
    gives_way(&all, write_pipe, EAGAIN, TRIES, -EPIPE);

    assert_int_equal(rdy_stream_pair(&all.stream, &all.other, all.runtime), 0);
    rdy_stream_close(&all.other);
    let_turn(all.runtime);
    gives_way(&all, read_stream, EAGAIN, TRIES, 0);
    gives_way(&all, receive_files, EAGAIN, TRIES, 0);
    gives_way(&all, write_stream, EAGAIN, TRIES, -EPIPE);
    all_close(&all);
}

static void connections_that_died_without_end_let_the_others_go_first(void **state)
{
    static struct all all;
    struct sockaddr_storage bound;
    socklen_t bound_len;

    all_init(&all, state);
    assert_int_equal(rdy_listener_open(&all.listener, all.runtime, (struct sockaddr *)&all.addr,
                                       sizeof(all.addr), NULL),
                     0);
    assert_int_equal(rdy_listener_address(&all.listener, &bound, &bound_len), 0);
    all.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(all.fd, (struct sockaddr *)&bound, bound_len), 0);
    let_turn(all.runtime);
    gives_way(&all, accept_one, ECONNABORTED, ACCEPT_TRIES, 0);
    all_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(what_is_closed_says_ebadf),
        ON_BOTH(call_without_budget_takes_nothing_and_answers_later),
        ON_BOTH(full_runtime_opens_nothing_and_leaves_nothing),
        ON_BOTH(pair_is_opened_whole_or_not_at_all),
        ON_BOTH(registration_refused_to_another_thread_leaves_no_entry),
        ON_BOTH(small_questions_have_answers_at_once),
        ON_BOTH(file_that_is_over_and_refuses_lets_the_others_go_first),
        ON_BOTH(connections_that_died_without_end_let_the_others_go_first),
    };

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
