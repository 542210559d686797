/* SPDX-License-Identifier: MIT */
/* An open file over a Unix socket: "pass_fd @x FILE" hands it out, "pass_fd @x" prints it. */
#define _GNU_SOURCE 1 /* O_CLOEXEC */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <rdy/rdy.h>

static int file;
static struct rdy_stream giver = {.fd = -1};

/* A session is nothing but its connection. */
static int giver_poll(struct rdy_task *task, void *stream)
{
    ssize_t n = rdy_stream_poll_send_fds(stream, task, "f", 1, &file, 1);

    return n < 0 ? (int)n : 0;
}

static int give(const char *address, const char *path)
{
    const struct rdy_task_spec spec = {.poll = giver_poll, .self_size = sizeof(struct rdy_stream)};

    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        err(2, "%s", path);
    return rdy_serve_forever(address, &spec);
}

static int taker_poll(struct rdy_task *task, void *self)
{
    struct rdy_received received = {0};
    ssize_t n = rdy_stream_poll_connect(&giver, task);

    (void)self;
    if (n == 0)
        n = rdy_stream_poll_recv_fds(&giver, task, &(char){0}, 1, &file, 1, &received);
    if (n == RDY_PENDING)
        return RDY_PENDING;
    if (received.fds_count != 1)
        errx(2, "nothing was handed over: %s", strerror(n < 0 ? (int)-n : 0));
    return 0;
}

/* The file's offset is shared with all who were handed it, so it is read from its beginning. */
static int take(const char *address)
{
    const struct rdy_task_spec spec = {.poll = taker_poll};
    struct rdy_runtime *runtime = NULL;
    struct rdy_endpoint to = {0};
    struct sockaddr *addr = (struct sockaddr *)&to.address.addr;
    char buf[4096];
    int rc = rdy_endpoint_parse(address, &to);

    rc = rc < 0 ? rc : rdy_runtime_open(&runtime, NULL);
    rc = rc < 0 ? rc : rdy_stream_start_connect(&giver, runtime, addr, to.address.addr_len);
    rc = rc < 0 ? rc : rdy_spawn(runtime, &spec, NULL, NULL);
    rc = rc < 0 ? rc : rdy_runtime_run(runtime);
    rdy_stream_close(&giver);
    rdy_runtime_close(runtime);
    for (off_t at = 0, n = 1; rc == 0 && n > 0; at += n)
        if ((n = pread(file, buf, sizeof(buf), at)) < 0 || write(1, buf, (size_t)n) != n)
            err(1, "cannot copy the file");
    return rc;
}

int main(int argc, char **argv)
{
    int rc = argc == 3 ? give(argv[1], argv[2]) : argc == 2 ? take(argv[1]) : -EINVAL;

    if (argc != 2 && argc != 3)
        errx(2, "usage: pass_fd ADDRESS [FILE]");
    if (rc < 0)
        errx(2, "%s: %s", argv[1], strerror(-rc));
    return 0;
}
