/* SPDX-License-Identifier: MIT */
/*
 * Datagrams in the ring: multishot recvmsg, which fills a provided buffer with a head, the sender's
 * name, control messages and the bytes, and goes on until something odd happens. An empty datagram
 * and an error are odd: they end it.
 *
 * Whether this kernel can do it is found out by doing it, on a ring of its own. Multishot recv is
 * no proof: emulations have the one without the other.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/message_head.h"
#include "engine/sys.h"
#include "uring/uring.h"

#define PAGE_BYTES    65536 /* at least a page on every architecture */
#define TRIAL_WAIT_NS (100 * RDY_NS_PER_MS)
#define TRIAL_SIZE    512u

static_assert(sizeof(struct io_uring_recvmsg_out) == sizeof(struct rdy_message_head),
              "the head is the kernel's");
static_assert(offsetof(struct io_uring_recvmsg_out, payloadlen) ==
                  offsetof(struct rdy_message_head, payload_len),
              "the head is the kernel's");
static_assert(offsetof(struct io_uring_recvmsg_out, flags) ==
                  offsetof(struct rdy_message_head, flags),
              "the head is the kernel's");

/* What there shall be room for in each buffer. The kernel reads it when it takes the request. */
static const struct msghdr shape = {
    .msg_namelen = RDY_MESSAGE_NAME_ROOM,
    .msg_controllen = RDY_MESSAGE_CONTROL_ROOM,
};

static void prepare(struct io_uring_sqe *sqe, int fd, bool is_data_there)
{
    /* The kernel does not write to it; that it is not const is the interface's fault. */
    io_uring_prep_recvmsg_multishot(sqe, fd, (struct msghdr *)(uintptr_t)&shape,
                                    MSG_TRUNC | MSG_CMSG_CLOEXEC);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = RDY_URING_GROUP;
    if (!is_data_there)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

int rdy_uring_recv_message(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    struct io_uring_sqe *sqe = rdy_ring_sqe(&uring_of(backend)->ring);

    rdy_assert(rdy_token_about(token) == RDY_ABOUT_RECV);
    if (!sqe)
        return -EBUSY;
    prepare(sqe, fd, is_data_there);
    sqe->user_data = token;
    return 0;
}

/* Process id in the upper half, errno below, and a bit that says so; 0: not asked yet. */
static struct rdy_a64 remembered;

#define VERDICT_IS_KNOWN UINT64_C(0x10000)

/* Says nothing of the kernel: the next who asks tries again. */
static bool is_shortage(int error)
{
    switch (error) {
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -EAGAIN:
    case -EINTR:
    case -ETIME: /* a machine that was busy for longer than the trial waits */
        return true;
    default:
        return false;
    }
}

/* What one datagram, which waits at @fd, comes to. @memory: a page for the ring, a page to fill. */
static int trial_run(struct io_uring *ring, int fd, unsigned char *memory)
{
    struct __kernel_timespec limit = {.tv_nsec = TRIAL_WAIT_NS};
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = 1, .bgid = RDY_URING_GROUP};
    struct io_uring_buf_ring *buffers = (struct io_uring_buf_ring *)(void *)memory;
    unsigned char *buffer = memory + PAGE_BYTES;
    struct rdy_message_head head;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe = NULL;
    int rc = io_uring_register((uint32_t)ring->ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1);

    if (rc < 0)
        return rc;
    if (!sqe)
        return -EPROTO;
    io_uring_buf_ring_add(buffers, buffer, TRIAL_SIZE, 0, 0, 0);
    io_uring_buf_ring_advance(buffers, 1);
    prepare(sqe, fd, true);
    rc = io_uring_submit(ring);
    if (rc >= 0)
        rc = io_uring_wait_cqe_timeout(ring, &cqe, &limit);
    if (rc < 0)
        return rc;
    if (cqe->res < 0)
        return cqe->res;
    memcpy(&head, buffer, sizeof(head));
    if ((uint32_t)cqe->res != RDY_MESSAGE_HEAD_SIZE + 1 || head.payload_len != 1 ||
        buffer[RDY_MESSAGE_HEAD_SIZE] != '?')
        return -EPROTO;
    return (cqe->flags & IORING_CQE_F_MORE) && (cqe->flags & IORING_CQE_F_BUFFER) ? 0 : -EPROTO;
}

static int trial_on(int fd, unsigned char *memory)
{
    struct io_uring ring = {0};
    int rc = io_uring_queue_init(4, &ring, 0);

    if (rc < 0)
        return rc;
    rc = trial_run(&ring, fd, memory);
    io_uring_queue_exit(&ring);
    return rc;
}

/* A Unix socket, by any name, that has sent itself a datagram. */
static int trial_socket(void)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNIX};
    socklen_t addr_len = sizeof(addr);
    ssize_t rc;
    int fd = rdy_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return fd;
    rc = rdy_sys_bind(fd, (struct sockaddr *)&addr, sizeof(addr.ss_family));
    if (rc == 0)
        rc = rdy_sys_getsockname(fd, (struct sockaddr *)&addr, &addr_len);
    if (rc == 0)
        rc = rdy_sys_connect(fd, (struct sockaddr *)&addr, addr_len);
    if (rc == 0)
        rc = rdy_sys_send(fd, "?", 1);
    if (rc >= 0)
        return fd;
    (void)rdy_sys_close(fd);
    return (int)rc;
}

static int trial(void)
{
    /* The ring's exit is asynchronous; but with our descriptor nothing comes any more. */
    unsigned char *memory = aligned_alloc(PAGE_BYTES, (size_t)2 * PAGE_BYTES);
    int fd;
    int rc;

    if (!memory)
        return -ENOMEM;
    memset(memory, 0, (size_t)2 * PAGE_BYTES);
    fd = trial_socket();
    rc = fd;
    if (fd >= 0) {
        rc = trial_on(fd, memory);
        (void)rdy_sys_close(fd);
    }
    free(memory);
    return rc;
}

/* True if the verdict is known, which is then in @rc. */
static bool is_remembered(int *rc)
{
    uint64_t word = rdy_a64_load_relaxed(&remembered);

    *rc = -(int)(word & 0xffff);
    return (word & VERDICT_IS_KNOWN) && word >> 32 == (uint64_t)getpid();
}

static pthread_mutex_t trying = PTHREAD_MUTEX_INITIALIZER;

/* A child has the mutex as it was when it was forked, but not the thread that unlocks it. */
static void forget_who_tries(void)
{
    (void)pthread_mutex_init(&trying, NULL);
}

static void watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, forget_who_tries);
}

/* One trial is enough when the threads of an engine begin at once: the others wait for it. */
int rdy_uring_messages(struct rdy_backend *backend)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int rc;

    (void)backend;
    if (is_remembered(&rc))
        return rc;
    (void)pthread_once(&once, watch_forks);
    pthread_mutex_lock(&trying);
    if (!is_remembered(&rc)) {
        rc = trial();
        if (!is_shortage(rc))
            rdy_a64_store_relaxed(&remembered,
                                  (uint64_t)getpid() << 32 | VERDICT_IS_KNOWN | (uint64_t)-rc);
    }
    pthread_mutex_unlock(&trying);
    return rc;
}

#endif
