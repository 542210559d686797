/* SPDX-License-Identifier: MIT */
/* Peers of the engine's datagram sockets: see mail_peers.h. */
#include "tests/sim/mail_peers.h"

#define SENDERS_MAX  8u
#define LETTERS_MAX  60u
#define BURST_MAX    8u
#define HELD_MAX     8u
#define SENDER_PAUSE (50 * SIM_US)
#define PRESENCE_MAX (20 * SIM_MS)
#define ABSENCES     3u

struct sender {
    struct sim_sock *sock;
    const struct sockaddr_in *to;
    uint32_t left; /* letters */
};

struct service {
    struct sim_waiter waiter; /* first */
    struct sim_sock *sock;
    bool is_scheduled;
    uint32_t absences;
};

const struct sockaddr_in sim_post_addresses[SIM_POSTS_MAX] = {
    {.sin_family = AF_INET, .sin_port = 20},
    {.sin_family = AF_INET, .sin_port = 21},
};
const struct sockaddr_in sim_service_address = {.sin_family = AF_INET, .sin_port = 30};

static struct sender senders[SENDERS_MAX];
static struct service service;
static uint64_t drawn;

size_t sim_mail_draw(unsigned char bytes[SIM_LETTER_MAX])
{
    uint64_t serial = ++drawn;
    size_t len = sim_below(12) ? (size_t)sim_between(sizeof(serial), sim.weather.letter_max) : 0;

    if (len == 0)
        return 0;
    memcpy(bytes, &serial, sizeof(serial));
    for (size_t i = sizeof(serial); i < len; i++)
        bytes[i] = (unsigned char)(serial * 59 + i * 3);
    return len;
}

static ssize_t send_to(struct sim_sock *sock, const void *data, size_t len,
                       const struct sockaddr_in *to)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_name = (void *)(uintptr_t)to,
                         .msg_namelen = sizeof(*to),
                         .msg_iov = &iov,
                         .msg_iovlen = 1};

    return sim_mail_send(sock, &msg);
}

static ssize_t recv_from(struct sim_sock *sock, void *buf, size_t len, struct sockaddr_in *from)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    struct msghdr msg = {
        .msg_name = from, .msg_namelen = sizeof(*from), .msg_iov = &iov, .msg_iovlen = 1};

    return sim_mail_recv(sock, &msg, false);
}

/* --- senders --- */

/* A burst, now and then; who has sent all may be gone before the answers. */
static void sender_due(void *arg, uint64_t unused)
{
    struct sender *sender = arg;
    unsigned char bytes[SIM_LETTER_MAX];
    struct sockaddr_in from;
    uint64_t burst = sim_between(1, BURST_MAX);

    (void)unused;
    while (recv_from(sender->sock, bytes, sizeof(bytes), &from) >= 0)
        sim_check(from.sin_port == sender->to->sin_port);
    for (; burst > 0 && sender->left > 0; burst--) {
        if (send_to(sender->sock, bytes, sim_mail_draw(bytes), sender->to) == -EAGAIN)
            break;
        sender->left--;
    }
    if (sender->left > 0)
        sim_after(sim_between(SENDER_PAUSE, SENDER_PAUSE + sim.weather.pause_ns), sender_due,
                  sender, 0);
    else if (sim_below(2))
        sim_sock_close(sender->sock, false);
}

/* --- the service --- */

static void service_answer(void *arg, uint64_t unused)
{
    unsigned char bytes[SIM_LETTER_MAX];
    struct sockaddr_in from;
    ssize_t count;

    (void)arg;
    (void)unused;
    service.is_scheduled = false;
    for (uint32_t i = 0; service.sock && i < HELD_MAX; i++) {
        count = recv_from(service.sock, bytes, sizeof(bytes), &from);
        if (count < 0)
            return;
        (void)send_to(service.sock, bytes, (size_t)count, &from);
    }
    service.is_scheduled = true;
    sim_after(sim_between(1, sim.weather.pause_ns), service_answer, NULL, 0);
}

static void service_woken(struct sim_waiter *waiter, uint32_t key)
{
    (void)waiter;
    if ((key & RDY_EV_IN) == 0 || service.is_scheduled)
        return;
    service.is_scheduled = true;
    sim_after(sim_between(1, sim.weather.pause_ns), service_answer, NULL, 0);
}

static void service_open(void)
{
    service.sock = sim_mail_make(false);
    service.waiter = (struct sim_waiter){.woken = service_woken};
    sim_check(sim_mail_bind(service.sock, (const struct sockaddr *)&sim_service_address,
                            sizeof(sim_service_address)) == 0);
    sim_sock_watch(service.sock, &service.waiter);
}

/* Goes, or comes back. */
static void service_turn(void *arg, uint64_t unused)
{
    (void)arg;
    (void)unused;
    if (service.sock) {
        sim_sock_close(service.sock, false);
        service.sock = NULL;
    } else {
        service_open();
        service.absences++;
    }
    if (!service.sock || service.absences < ABSENCES)
        sim_after(sim_below(PRESENCE_MAX), service_turn, NULL, 0);
}

void sim_mail_peers_begin(void)
{
    drawn = 0;
    service = (struct service){.sock = NULL};
    if (sim.weather.askers_count > 0) {
        service_open();
        sim_after(sim_below(PRESENCE_MAX), service_turn, NULL, 0);
    }
    if (sim.weather.posts_count == 0)
        return;
    rdy_assert(sim.weather.mail_peers <= SENDERS_MAX);
    for (uint32_t i = 0; i < sim.weather.mail_peers; i++) {
        senders[i] = (struct sender){
            .sock = sim_mail_make(false),
            .to = &sim_post_addresses[sim_below(sim.weather.posts_count)],
            .left = (uint32_t)sim_below(LETTERS_MAX),
        };
        sim_after(sim_below(5 * SIM_MS), sender_due, &senders[i], 0);
    }
}
