/* SPDX-License-Identifier: MIT */
/*
 * The system calls that the engine itself makes, one wrapper each: -errno instead of errno, EINTR
 * dealt with, descriptors close-on-exec. Tests make any of them fail: rdy_sys_fail_nth().
 */
#ifndef RDY_ENGINE_SYS_H
#define RDY_ENGINE_SYS_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/base.h"

/* What kind of file a descriptor is, as far as its poll bits depend on it. */
enum rdy_file_kind {
    RDY_FILE_AUTO = 0, /* not known: ask rdy_sys_file_kind() */
    RDY_FILE_STREAM,   /* stream or seqpacket socket: hang-up with RDHUP is final */
    RDY_FILE_DATAGRAM, /* errors are transient */
    RDY_FILE_FIFO,     /* an anonymous pipe: errors and hang-ups are final */
    RDY_FILE_DEVICE,   /* character or block device: it may turn out that it cannot be polled */
    RDY_FILE_OTHER,    /* eventfd, timerfd, pidfd, named FIFO, ...: nothing is final */
};

/* 0 and @kind, -EBADF, or -EPERM for regular files and directories, which are always ready. */
int rdy_sys_file_kind(int fd, enum rdy_file_kind *kind);

int rdy_sys_eventfd(void); /* nonblocking; the descriptor or -errno */
int rdy_sys_eventfd_write(int fd);
int rdy_sys_eventfd_drain(int fd);
int rdy_sys_close(int fd);

/* Which of @events (poll bits) hold now; 0 if none, or if it cannot be asked. */
uint32_t rdy_sys_poll_now(int fd, uint32_t events);

uint64_t rdy_sys_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t rdy_sys_thread_id(void);

/* Differs between a process and its forked child. In sys_thread.c. */
uint64_t rdy_sys_process_stamp(void);

void rdy_sys_cpu_relax(void);
void rdy_sys_futex_wait(uint32_t *word, uint32_t seen);
void rdy_sys_futex_wake(uint32_t *word, int waiters);

int rdy_sys_socket(int family, int type, int protocol);
int rdy_sys_bind(int fd, const struct sockaddr *addr, socklen_t addr_len);
int rdy_sys_listen(int fd, int backlog);
int rdy_sys_accept(int fd); /* nonblocking, close-on-exec */
int rdy_sys_connect(int fd, const struct sockaddr *addr, socklen_t addr_len);
int rdy_sys_getsockname(int fd, struct sockaddr *addr, socklen_t *addr_len);
int rdy_sys_setsockopt_int(int fd, int level, int name, int value);
int rdy_sys_getsockopt_int(int fd, int level, int name, int *value);
int rdy_sys_shutdown(int fd, int how);
ssize_t rdy_sys_recv(int fd, void *buf, size_t len);
ssize_t rdy_sys_send(int fd, const void *data, size_t len);

/*
 * Fault injection, compiled in with RDY_FAULTS: from now on this thread's @nth wrapper call (1 is
 * the next) fails with @err instead of reaching the kernel; 0 turns it off. Returns how many
 * wrapper calls were made since the last call of this function.
 */
uint64_t rdy_sys_fail_nth(uint64_t nth, int err);

/* The same for every call from now on; 0 turns it off. */
uint64_t rdy_sys_fail_all(int err);

#endif
