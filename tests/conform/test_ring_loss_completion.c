/* SPDX-License-Identifier: MIT */
/*
 * A ring that is taken away while it receives and sends: the streams go on over epoll, and no byte
 * is lost, doubled or out of place. What was waiting in the kernel then cannot be known: such a
 * stream ends with an error instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <rdy/rdy.h>

#include "tests/support/child.h"

struct talk {
    struct rdy_runtime *runtime;
    struct rdy_stream stream;
    int peer;
    struct rdy_buf owed;
    unsigned char heard[4096];
    size_t heard_len;
    size_t echoed;
    size_t goal;
    int error;
};

static struct talk *talk_of(void *self)
{
    return *(struct talk **)self;
}

/* Sends back what it receives, until @goal bytes are on their way. */
static int poll_echoes(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    while (talk->echoed < talk->goal) {
        ssize_t rc;

        if (!talk->owed.block) {
            rc = rdy_stream_poll_recv(&talk->stream, task, &talk->owed);
            if (rc == RDY_PENDING)
                return RDY_PENDING;
            if (rc <= 0) {
                talk->error = rc < 0 ? (int)rc : -ENODATA;
                return 0;
            }
            talk->echoed += (size_t)rc;
        }
        rc = rdy_stream_poll_send(&talk->stream, task, &talk->owed);
        if (rc != 0) {
            talk->error = rc == RDY_PENDING ? 0 : (int)rc;
            return rc == RDY_PENDING ? RDY_PENDING : 0;
        }
    }
    return rdy_stream_poll_flush(&talk->stream, task) == RDY_PENDING ? RDY_PENDING : 0;
}

static void talk_open(struct talk *talk)
{
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .driver.size = sizeof(opts.driver)};
    int fds[2];

    memset(talk, 0, sizeof(*talk));
    child_check(rdy_runtime_open(&talk->runtime, &opts) == 0);
    child_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    child_check(rdy_stream_from_fd(&talk->stream, talk->runtime, fds[0]) == 0);
    child_check(rdy_stream_start_completion(&talk->stream) == 0);
    child_check(rdy_completion_is_native(talk->runtime));
    talk->peer = fds[1];
}

static void talk_spawn(struct talk *talk)
{
    struct rdy_task_spec spec = {.poll = poll_echoes, .self_size = sizeof(struct talk *)};
    void *self;

    child_check(rdy_spawn(talk->runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = talk;
}

static void talk_run(struct talk *talk, size_t goal)
{
    talk->goal = goal;
    talk_spawn(talk);
    child_check(rdy_runtime_run(talk->runtime) == 0);
}

static void say(struct talk *talk, const char *text)
{
    child_check(send(talk->peer, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void hear(struct talk *talk)
{
    ssize_t count = recv(talk->peer, talk->heard + talk->heard_len,
                         sizeof(talk->heard) - talk->heard_len, MSG_DONTWAIT);

    if (count > 0)
        talk->heard_len += (size_t)count;
}

static void talk_close(struct talk *talk)
{
    rdy_buf_release(&talk->owed);
    rdy_stream_close(&talk->stream);
    rdy_runtime_close(talk->runtime);
    child_check(close(talk->peer) == 0);
}

static void streams_go_on(int error)
{
    struct talk talk;

    talk_open(&talk);
    say(&talk, "one ");
    talk_run(&talk, 4);

    forbid(error, false);
    say(&talk, "two ");
    talk_run(&talk, 8);
    child_check(!rdy_completion_is_native(talk.runtime));
    say(&talk, "three");
    talk_run(&talk, 13);

    hear(&talk);
    child_check(talk.error == 0);
    child_check(talk.heard_len == 13 && memcmp(talk.heard, "one two three", 13) == 0);
    talk_close(&talk);
}

static void echo_goes_on_over_epoll(void **state)
{
    (void)state;
    in_a_child(streams_go_on, EPERM);
    in_a_child(streams_go_on, ENOSYS);
}

static int poll_sends(struct rdy_task *task, void *self)
{
    struct talk *talk = talk_of(self);

    return rdy_stream_poll_send(&talk->stream, task, &talk->owed) == RDY_PENDING ? RDY_PENDING : 0;
}

/* Handed over, and the very call that would have submitted it is refused. */
static void handed_over_at_the_end(int error)
{
    struct rdy_task_spec spec = {.poll = poll_sends, .self_size = sizeof(struct talk *)};
    struct talk talk;
    void *self;

    talk_open(&talk);
    child_check(rdy_buf_take(talk.runtime, 6, &talk.owed) == 0);
    memcpy(talk.owed.data, "unsent", 6);
    child_check(rdy_spawn(talk.runtime, &spec, &self, NULL) == 0);
    *(struct talk **)self = &talk;
    forbid(error, false);
    child_check(rdy_runtime_run(talk.runtime) == 0);
    talk_run(&talk, 0); /* flushes */

    hear(&talk);
    child_check(talk.heard_len == 6 && memcmp(talk.heard, "unsent", 6) == 0);
    talk_close(&talk);
}

static void what_was_handed_over_last_is_sent_by_epoll(void **state)
{
    (void)state;
    in_a_child(handed_over_at_the_end, EPERM);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_goes_on_over_epoll),
        cmocka_unit_test(what_was_handed_over_last_is_sent_by_epoll),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
