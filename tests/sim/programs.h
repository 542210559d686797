/* SPDX-License-Identifier: MIT */
/* Programs: what runs on the engine, by its public calls. Every session is an echo, near or far. */
#ifndef RDY_TESTS_SIM_PROGRAMS_H
#define RDY_TESTS_SIM_PROGRAMS_H

#include "tests/sim/scene.h"
#include "tests/sim/world.h"

#define SIM_LONG_NS (30 * 24 * 3600 * SIM_S) /* longer than what counts as quiet */

#define SIM_SLEEPERS_FDS_MIN 100u

enum sim_session_kind {
    SIM_SESSION_READ = 0, /* read and write_all */
    SIM_SESSION_VECTOR,   /* peek, readv, writev, try_read */
    SIM_SESSION_RECV,     /* buffers of the pool, held for a while now and then */
    SIM_SESSION_MIXED,    /* both, on one stream */
    SIM_SESSION_COPY,     /* a copy of the stream to itself */
    SIM_SESSION_PROXY,    /* joined with an upstream that echoes */
    SIM_SESSION_SPLICE,   /* the same, through pipes */
    SIM_SESSION_KINDS,
};

struct sim_session {
    struct rdy_stream stream; /* first */
    struct rdy_link link;
    struct rdy_task_id id;
    enum sim_session_kind kind;
    bool has_begun;
    bool is_over; /* by itself */
    struct rdy_co co;
    struct rdy_shutdown_wait until;
    struct rdy_timer idle;
    struct rdy_timer nap;
    uint64_t idle_ns;
    uint64_t nap_ns;
    ssize_t got;
    size_t done;
    int rc;
    struct rdy_buf buf;
    struct rdy_buf held;
    struct rdy_stream up;
    struct rdy_copy copy;
    struct rdy_copy_both both;
    size_t room;
    unsigned char bytes[2048];
};

/* sessions.c */
extern const struct rdy_task_spec sim_session_spec;

/* bodies.c: the bodies of the kinds. 0 at the end of the stream, RDY_PENDING, or -errno. */
int sim_session_read(struct sim_session *my, struct rdy_task *task);
int sim_session_vector(struct sim_session *my, struct rdy_task *task);
int sim_session_recv(struct sim_session *my, struct rdy_task *task);
int sim_session_mixed(struct sim_session *my, struct rdy_task *task);
int sim_session_copy(struct sim_session *my, struct rdy_task *task);
int sim_session_proxy(struct sim_session *my, struct rdy_task *task);

/* A poll call that ends with -ESHUTDOWN, or -ETIMEDOUT after a time that no peer takes. */
#define SIM_UNTIL(my, task, expr)                                                                  \
    RDY_UNTIL_SHUTDOWN(&(my)->until, task, RDY_TIMEOUT(&(my)->idle, task, (my)->idle_ns, expr))

/* Spawns what acts at random times: sleepers, and who aborts sessions. acts.c */
void sim_acts_begin(struct rdy_runtime *runtime);

/* callers.c: tasks that connect to places of all kinds, see places.h. */
void sim_callers_begin(void);

/* posts.c: an echo of datagrams, and who asks others for one. */
void sim_posts_begin(void);

/* guard.c: a server over registrations, with events held over several turns. */
void sim_guard_begin(const struct sockaddr *addr, socklen_t addr_len);

#endif
