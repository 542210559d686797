/* SPDX-License-Identifier: MIT */
/*
 * Programs over datagrams: posts, which send back what they receive, to many; and askers, connected
 * to a service that comes and goes, which wait for an answer for a while. In completion mode or
 * not, by every call there is for it, with buffers that are held for a while. A socket is closed
 * in the midst of it, and its address taken anew.
 */
#include "engine/completion.h"
#include "engine/message_head.h"
#include "tests/sim/kernel.h"
#include "tests/sim/mail_peers.h"
#include "tests/sim/programs.h"

#define COMPLETION_SIZE_MIN 512u
#define LETTERS             15u
#define LETTERS_OF_BURST    50u /* more than the engine tries in a turn */
#define TRIES               4u
#define PATIENCE_MAX        (3 * SIM_MS)
#define BURST_AFTER_MAX     (200 * SIM_MS) /* when most of what there is has come to rest */
#define ROOM_MIN            8u             /* what makes a letter like no other */

enum way {
    WAY_BUF = 0, /* a buffer of the engine's */
    WAY_COPY,
    WAY_PEEK,
};

struct post {
    struct rdy_co co;
    struct rdy_co inner;
    struct rdy_datagram socket;
    struct sim_sock *sock;
    const struct sockaddr_in *own;
    const struct sockaddr_in *peer; /* of an asker */
    struct rdy_shutdown_wait until;
    struct rdy_timer nap;
    struct rdy_timer patience;
    struct rdy_datagram_info info;
    struct rdy_buf buf;
    struct rdy_buf held;
    bool is_completing;
    bool is_errand;   /* counted as one */
    bool is_deaf;     /* receives nothing: then its sends are told of the network's news */
    bool is_bursting; /* the same, and says all at once */
    enum way way;
    uint32_t left;
    uint32_t tries;
    uint64_t give_up_ns;
    size_t room;
    size_t len;
    ssize_t got;
    int rc;
    unsigned char bytes[SIM_LETTER_MAX];
};

/* --- opening --- */

static int socket_open(struct post *my)
{
    int rc = rdy_datagram_open(&my->socket, sim_scene.runtime, AF_INET, NULL);

    if (rc < 0)
        return rc;
    my->sock = sim_sock_of(my->socket.fd);
    if (my->peer)
        rc =
            rdy_datagram_connect(&my->socket, (const struct sockaddr *)my->peer, sizeof(*my->peer));
    else
        rc = rdy_datagram_bind(&my->socket, (const struct sockaddr *)my->own, sizeof(*my->own));
    if (rc == 0 && my->is_completing && sim_below(2))
        rc = rdy_datagram_start_completion(&my->socket);
    if (rc < 0)
        rdy_datagram_close(&my->socket);
    return rc;
}

/* The ring may have the last socket of that address still; or there is a shortage. */
static int open_poll(struct post *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->inner);
    while ((my->rc = socket_open(my)) < 0) {
        if (sim.is_overdue)
            return -ESHUTDOWN;
        if (my->rc != -EADDRINUSE && my->rc != -EMFILE && my->rc != -ENOMEM)
            return my->rc;
        RDY_SLEEP(&my->inner, &my->nap, task, SIM_MS);
    }
    RDY_END(&my->inner);
    return 0;
}

/* --- receiving and sending --- */

static size_t buffer_room(void)
{
    return sim_scene.runtime->driver->completion->pool.size - RDY_MESSAGE_HEAD_SIZE;
}

static void draw_way(struct post *my)
{
    my->way = my->is_completing ? (enum way)sim_below(WAY_PEEK + 1)
                                : (enum way)sim_between(WAY_COPY, WAY_PEEK);
    my->room = sim_below(4) ? sizeof(my->bytes) : (size_t)sim_between(ROOM_MIN, sizeof(my->bytes));
}

static ssize_t receive(struct post *my, struct rdy_task *task)
{
    ssize_t got = 0;

    switch (my->way) {
    case WAY_BUF:
        got = rdy_datagram_poll_recv_buf(&my->socket, task, &my->buf, &my->info);
        sim_mail_received(my->sock, my->buf.data, buffer_room(), got, &my->info, false);
        break;
    case WAY_COPY:
        got = rdy_datagram_poll_recv_from(&my->socket, task, my->bytes, my->room, &my->info);
        sim_mail_received(my->sock, my->bytes, my->room, got, &my->info, false);
        break;
    case WAY_PEEK:
        got = rdy_datagram_poll_peek_from(&my->socket, task, my->bytes, my->room, &my->info);
        sim_mail_received(my->sock, my->bytes, my->room, got, &my->info, true);
        break;
    }
    return got;
}

static ssize_t send_poll(struct post *my, struct rdy_task *task)
{
    const struct sockaddr *to = my->peer ? NULL : (const struct sockaddr *)&my->info.addr;
    const unsigned char *data = my->buf.block ? my->buf.data : my->bytes;
    struct sim_offer *offer = sim_mail_offer(my->sock, data, my->len, to);
    ssize_t rc;

    if (my->buf.block)
        rc = rdy_datagram_poll_send_buf(&my->socket, task, &my->buf, to, my->info.addr_len);
    else if (to)
        rc = rdy_datagram_poll_send_to(&my->socket, task, data, my->len, to, my->info.addr_len);
    else
        rc = rdy_datagram_poll_send(&my->socket, task, data, my->len);
    sim_mail_answered(my->sock, offer, rc);
    return rc;
}

static int flush(struct post *my, struct rdy_task *task)
{
    int rc = rdy_datagram_poll_flush(&my->socket, task);

    sim_mail_flushed(my->sock, rc);
    return rc;
}

/* Keeps a second reference for a while: the pool is smaller meanwhile. */
static void hold(struct post *my)
{
    rdy_buf_release(&my->held);
    if (my->buf.block && sim_one_of(6))
        my->held = rdy_buf_keep(&my->buf);
}

static bool is_passing(ssize_t rc)
{
    return rc >= 0 || sim_mail_is_passing((int)rc);
}

/* --- posts --- */

/* Until the socket is to be closed: 0, or -errno. */
static int echo_poll(struct post *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->inner);
    for (;;) {
        draw_way(my);
        RDY_AWAIT(&my->inner, my->got = RDY_UNTIL_SHUTDOWN(&my->until, task, receive(my, task)));
        if (!is_passing(my->got))
            return (int)my->got;
        if (my->got < 0 || my->way == WAY_PEEK)
            continue;
        my->len = (size_t)my->got;
        hold(my);
        if (sim_one_of(8)) {
            RDY_SLEEP(&my->inner, &my->nap, task, sim_below(2 * SIM_MS));
        }
        for (my->tries = 0; my->tries < TRIES; my->tries++) {
            RDY_AWAIT(&my->inner,
                      my->rc = (int)RDY_UNTIL_SHUTDOWN(&my->until, task, send_poll(my, task)));
            if (my->rc >= 0 || !is_passing(my->rc))
                break;
        }
        rdy_buf_release(&my->buf);
        rdy_buf_release(&my->held);
        if (!is_passing(my->rc))
            return my->rc;
        if (sim_one_of(40))
            break;
    }
    RDY_END(&my->inner);
    return 0;
}

/* --- askers --- */

static void draw_letter(struct post *my)
{
    my->len = sim_mail_draw(my->bytes);
    if (!my->is_completing || my->len == 0 || sim_below(2))
        return;
    sim_check(rdy_buf_take(sim_scene.runtime, my->len, &my->buf) == 0);
    memcpy(my->buf.data, my->bytes, my->len);
}

/* Unless the ring's death would not be heard of. */
static bool may_burst(void)
{
    return sim.weather.death_at == 0 && !sim.weather.is_dropping && sim_below(2);
}

static void ask_begin(struct post *my)
{
    my->is_deaf = sim_below(2);
    my->is_bursting = my->is_deaf && may_burst();
    my->sock->mail->is_deaf = my->is_deaf;
    my->left = my->is_bursting ? LETTERS_OF_BURST : (uint32_t)sim_between(1, LETTERS);
}

/* From here on nothing is asked of the socket, and no time is waited for. */
static void ask_sleep(struct post *my)
{
    sim_scene.errands--;
    my->is_errand = false;
    my->give_up_ns = sim.now_ns + SIM_LONG_NS;
}

static int ask_poll(struct post *my, struct rdy_task *task)
{
    RDY_BEGIN(&my->inner);
    ask_begin(my);
    RDY_SLEEP(&my->inner, &my->nap, task, my->is_bursting ? sim_below(BURST_AFTER_MAX) : 0);
    for (; my->left > 0; my->left--) {
        draw_letter(my);
        RDY_AWAIT(&my->inner,
                  my->rc = (int)RDY_UNTIL_SHUTDOWN(&my->until, task, send_poll(my, task)));
        rdy_buf_release(&my->buf);
        if (!is_passing(my->rc))
            return my->rc;
        if (my->is_deaf && !my->is_bursting) {
            RDY_SLEEP(&my->inner, &my->nap, task, sim_below(SIM_MS));
        }
        if (my->is_deaf || sim_one_of(3))
            continue;
        draw_way(my);
        my->give_up_ns = sim.now_ns + sim_below(PATIENCE_MAX);
        RDY_AWAIT(&my->inner,
                  my->got = RDY_UNTIL_SHUTDOWN(
                      &my->until, task,
                      RDY_TIMEOUT(&my->patience, task, my->give_up_ns, receive(my, task))));
        rdy_buf_release(&my->buf);
        if (!is_passing(my->got) && my->got != -ETIMEDOUT)
            return (int)my->got;
    }
    if (my->is_bursting) {
        ask_sleep(my);
        RDY_AWAIT(&my->inner,
                  my->rc = RDY_UNTIL_SHUTDOWN(
                      &my->until, task, rdy_timer_poll_until(&my->nap, task, my->give_up_ns)));
    }
    RDY_END(&my->inner);
    return 0;
}

/* --- both --- */

/* A socket ends with the runtime, or when epoll has no room for it. */
static void check_end(const struct post *my)
{
    bool is_short = sim.weather.spoilt_one_of != 0 && !sim_kernel_is_ring();

    sim_note("a socket of letters ends: result", my->rc, 0, 0);
    if (my->rc == 0 || sim.is_overdue || (sim.was_lost && sim.weather.is_forced) ||
        (my->rc == -ENOMEM && is_short))
        return;
    sim_fail("a socket of letters ends with %s, for no reason", strerror(-my->rc));
}

static int post_poll(struct rdy_task *task, void *self)
{
    struct post *my = self;

    RDY_BEGIN(&my->co);
    for (;;) {
        my->inner = (struct rdy_co){0};
        RDY_AWAIT(&my->co, my->rc = open_poll(my, task));
        if (my->rc < 0)
            break;
        my->inner = (struct rdy_co){0};
        RDY_AWAIT(&my->co, my->rc = my->peer ? ask_poll(my, task) : echo_poll(my, task));
        check_end(my);
        rdy_buf_release(&my->buf);
        if (my->is_completing && sim_below(4)) {
            do {
                RDY_AWAIT(&my->co, my->rc = flush(my, task));
            } while (my->rc < 0 && is_passing(my->rc));
        }
        rdy_datagram_close(&my->socket);
        if (my->peer || sim.is_overdue)
            break;
    }
    RDY_END(&my->co);
    return 0;
}

static void post_drop(void *self)
{
    struct post *my = self;

    if (my->is_errand)
        sim_scene.errands--;
    (void)rdy_timer_cancel(&my->nap);
    (void)rdy_timer_cancel(&my->patience);
    rdy_shutdown_wait_cancel(&my->until);
    rdy_buf_release(&my->buf);
    rdy_buf_release(&my->held);
    rdy_datagram_close(&my->socket);
}

static void post_spawn(const struct sockaddr_in *own, const struct sockaddr_in *peer)
{
    struct rdy_task_spec spec = {
        .poll = post_poll, .drop = post_drop, .self_size = sizeof(struct post)};
    bool may_complete = sim.weather.buffer_size >= COMPLETION_SIZE_MIN;
    void *self = NULL;
    struct post *post;

    sim_check(rdy_spawn(sim_scene.runtime, &spec, &self, NULL) == 0);
    post = self;
    post->socket.fd = -1;
    post->own = own;
    post->peer = peer;
    post->is_completing = sim.weather.is_completing && may_complete && sim_below(4);
    post->is_errand = peer != NULL;
    sim_scene.errands += peer ? 1 : 0;
}

void sim_posts_begin(void)
{
    for (uint32_t i = 0; i < sim.weather.posts_count; i++)
        post_spawn(&sim_post_addresses[i], NULL);
    for (uint32_t i = 0; i < sim.weather.askers_count; i++)
        post_spawn(NULL, &sim_service_address);
}
