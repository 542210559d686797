/* SPDX-License-Identifier: MIT */
/*
 * The world of one simulation: a seed, a clock, what is going to happen, and the weather.
 *
 * Everything that a real run leaves to chance is drawn here, from one generator: how long a segment
 * travels, in which order completions come, which call the kernel refuses. So a seed is a run, and
 * the same seed is the same run, to the last system call; the digest proves it.
 *
 * Time is virtual. It moves when the engine waits, to the next thing that happens, and a little
 * with each system call, so that things also happen between two of them.
 *
 * The weather is drawn once for a seed: which of the kernel's bad habits show in it, and how often.
 * A run with a few of them finds more than one with all, because one bad habit hides another.
 */
#ifndef RDY_TESTS_SIM_WORLD_H
#define RDY_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_US UINT64_C(1000)
#define SIM_MS UINT64_C(1000000)
#define SIM_S  UINT64_C(1000000000)

#define SIM_NEVER UINT64_MAX

/* "one_of" is a chance of 1 in so many; 0: never. */
struct sim_weather {
    bool is_ring;           /* else epoll */
    bool is_forced;         /* a lost ring is the end, not a move to epoll */
    bool is_lend_refused;   /* a ring that only watches */
    bool is_keeping_order;  /* completions come in the order of their causes */
    bool is_completing;     /* listeners accept in completion mode */
    bool is_dropping;       /* what does not fit into the completion queue may be lost: -EBADR */
    bool is_mail_refused;   /* a ring that does not receive datagrams */
    bool is_reset_clearing; /* a reset throws away what was received before it */
    bool can_batch;         /* waits go on for more than one completion */
    bool is_batch_learnt;
    uint32_t cq_entries;
    uint32_t events_max;
    uint32_t buffers_count;
    uint32_t buffer_size;
    uint32_t recv_queue_max;
    uint32_t send_queue_max;
    uint32_t batch_count;
    uint32_t batch_wait_us;
    uint32_t task_budget;
    uint32_t event_interval;
    uint32_t fds_max;
    uint32_t flow_min; /* bytes that a direction of a connection holds */
    uint32_t flow_max;
    uint64_t travel_ns; /* the longest way of a segment */
    uint64_t pause_ns;  /* the longest time that a peer thinks */
    uint64_t late_ns;   /* the longest time that a ring's work is put off */
    uint32_t late_one_of;
    uint32_t busy_one_of;     /* no room for a request */
    uint32_t ended_one_of;    /* a multishot request ends although nothing is wrong */
    uint32_t spoilt_one_of;   /* the same, with an error that passes */
    uint32_t already_one_of;  /* a cancel finds its target being completed: it ends later still */
    uint32_t stalled_one_of;  /* the kernel takes a part of what is submitted */
    uint32_t signal_one_of;   /* a wait is interrupted */
    uint32_t short_one_of;    /* a call moves less than it could */
    uint32_t ghost_one_of;    /* a fact of an arming that has ended comes late, or once more */
    uint32_t relook_one_of;   /* a single wake-up is answered with the state instead of its key */
    uint32_t early_one_of;    /* who waits for a connection is woken before there is one */
    uint32_t shortage_one_of; /* descriptors, memory: a call fails that will work later */
    uint64_t death_at;        /* the wait in which the ring dies; 0: never */
    int death_error;
    uint64_t shutdown_ns; /* when the runtime is asked to shut down; SIM_NEVER: when all is said */
    uint64_t grace_ns;
    uint32_t peers_count;
    uint32_t aborts_count;
    uint32_t sleepers_count;
    uint32_t callers_count;
    uint32_t posts_count;   /* programs that receive and answer datagrams */
    uint32_t askers_count;  /* those that send and wait for the answer */
    uint32_t mail_peers;    /* who sends to the former */
    uint32_t mail_room;     /* bytes of a socket's letters that are leaving */
    uint32_t mail_queue;    /* and of those that have arrived */
    uint32_t letter_max;    /* bytes of the longest letter */
    uint32_t loss_one_of;   /* a letter is lost on its way */
    uint32_t refuse_one_of; /* the kernel refuses to send one */
    uint32_t sessions;      /* a bit for each kind, see programs.h */
    uint32_t peers;         /* the same of peers.h */
    bool has_unix;
    bool has_guard;
};

typedef void sim_event_fn(void *arg, uint64_t data);

struct sim_world {
    uint64_t seed;
    uint64_t random;
    uint64_t now_ns;
    uint64_t step; /* waits of the engine so far */
    uint64_t digest;
    uint64_t happened;        /* events carried out so far */
    uint64_t happened_before; /* the same at the last wait that asked for no pause */
    uint64_t idle_turns;      /* such waits in a row in which nothing at all happened */
    bool is_tracing;
    bool is_overdue;    /* the runtime was told to shut down, */
    uint64_t cut_at_ns; /* and may end whatever there is from here on */
    bool was_lost;      /* the ring has died */
    bool has_batched;   /* a wait went on for more than one event */
    bool has_refused;   /* a listener is not watched, for want of memory: it may close */
    bool was_quiet;     /* everything that was to be said had been said */
    struct sim_weather weather;
};

extern struct sim_world sim;

/* Begins the world of a seed: draws its weather. */
void sim_begin(uint64_t seed, bool is_tracing);

/* Drops what was still to happen. */
void sim_end(void);

/* Draws the weather. weather.c */
void sim_draw_weather(struct sim_weather *weather);

uint64_t sim_random(void);
uint64_t sim_below(uint64_t bound);                  /* 0 to bound - 1 */
uint64_t sim_between(uint64_t least, uint64_t most); /* both may come */
bool sim_one_of(uint32_t one_of); /* a chance of 1 in @one_of; never if it is 0 */

/* Has @fn called @delay_ns from now, behind all that is to happen at the same time. */
void sim_after(uint64_t delay_ns, sim_event_fn *fn, void *arg, uint64_t data);

/* When the next event is due, or SIM_NEVER. */
uint64_t sim_next_ns(void);

/* Carries out what is due. True if there was something. */
bool sim_run_due(void);

/* A system call takes its time, in which things happen. */
void sim_spend(void);

/* A line of the trace, and a part of the digest. */
void sim_note(const char *what, int64_t a, int64_t b, int64_t c);

/* The seed has failed: says why and how to see it again, and ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

/* A claim about the engine. */
#define sim_check(x)                                                                               \
    do {                                                                                           \
        if (!(x))                                                                                  \
            sim_fail("%s:%d: %s does not hold", __FILE__, __LINE__, #x);                           \
    } while (0)

/* How this program was called, for the line that replays a seed. */
extern const char *sim_command;

#endif
