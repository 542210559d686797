/* SPDX-License-Identifier: MIT */
/* A UDP echo server that takes up to 16 datagrams in a call and sends them back in another. */
#include <arpa/inet.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include <rdy/rdy.h>

#define BATCH 16

static struct server {
    struct rdy_co co;
    struct rdy_datagram socket;
    struct rdy_datagram_message messages[BATCH];
    char bufs[BATCH][2048];
    ssize_t got;
    ssize_t done; /* of those, sent back, or refused by the kernel */
    ssize_t n;
} server = {.socket = {.fd = -1}};

static int server_poll(struct rdy_task *task, void *self)
{
    struct server *s = &server;

    (void)self;
    RDY_BEGIN(&s->co);
    for (;;) {
        RDY_AWAIT(&s->co,
                  s->got = rdy_datagram_poll_recv_many(&s->socket, task, s->messages, BATCH));
        if (s->got < 0)
            return (int)s->got;
        /* Each message has its length and its sender: so they can go back as they are. */
        for (s->done = 0; s->done<s->got; s->done += s->n> 0 ? s->n : 1) {
            RDY_AWAIT(&s->co,
                      s->n = rdy_datagram_poll_send_many(&s->socket, task, s->messages + s->done,
                                                         (size_t)(s->got - s->done)));
        }
    }
    RDY_END(&s->co);
    return 0;
}

static int serve(struct rdy_runtime *runtime, uint16_t port)
{
    const struct rdy_task_spec spec = {.poll = server_poll};
    /* Not on the network, where it can be sent to answer another echo for ever. */
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int rc = rdy_datagram_open(&server.socket, runtime, AF_INET, NULL);

    for (int i = 0; i < BATCH; i++) {
        server.messages[i].buf = server.bufs[i];
        server.messages[i].buf_len = sizeof(server.bufs[i]);
    }
    if (rc == 0)
        rc = rdy_datagram_bind(&server.socket, (struct sockaddr *)&addr, sizeof(addr));
    if (rc == 0)
        rc = rdy_spawn(runtime, &spec, NULL, NULL);
    return rc == 0 ? rdy_runtime_run(runtime) : rc;
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long port = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
    struct rdy_runtime *runtime;
    int rc;

    if (port == 0 || port > UINT16_MAX || *end != '\0')
        errx(2, "usage: udp_echo PORT");
    rc = rdy_runtime_open(&runtime, NULL);
    if (rc == 0)
        rc = serve(runtime, (uint16_t)port);
    errx(2, "port %lu: %s", port, strerror(-rc));
}
