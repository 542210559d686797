/* SPDX-License-Identifier: MIT */
/*
 * Lanes: what the engine receives and sends by itself for one entry.
 *
 * A lane stands beside its entry, found by the slot number, one cache line. Received buffers
 * wait in it until they are asked for; what was handed over for sending waits in it until the
 * kernel has it. A completed operation also stamps the entry's readiness word and wakes whoever
 * waits there, so waiters know one mechanism.
 *
 * Two ways to run one: native, where the backend runs the operations, and plain, where the entry
 * is watched and the engine makes the calls (lane_plain.c): all of a driver without a ring, and
 * streams that bring much (lane_bulk.c). Whatever a ring is asked to do is the lane's until the
 * fact that ends it: the slot is not given back, the file not closed, no buffer freed before.
 *
 *   recv, accept   IDLE -> ACTIVE -> IDLE (starved, paused, broken off) or ENDED (end, error)
 *   send           IDLE -> QUEUED -> TRYING -> IDLE, or TRYING -> UNFINISHED -> WAITING -> IDLE
 *   send, plain    IDLE -> GATHERED -> IDLE, or GATHERED -> STALLED -> IDLE (want of memory)
 *   connect        QUEUED -> CONNECTING -> IDLE: connected, failed, or left to connect(2)
 *
 * A try is made in the turn after the hand-over, for all that came by then, and says nothing if all
 * went out; a full socket makes it a WAITING one, from copies, so that a peer that does not read
 * never holds a buffer of the pool. All of it belongs to the driver's thread.
 */
#ifndef RDY_ENGINE_LANE_H
#define RDY_ENGINE_LANE_H

#include <rdy/completion.h>

#include "engine/buffer_pool.h"
#include "engine/driver.h"
#include "engine/letter.h"

enum rdy_recv_state {
    RDY_RECV_IDLE = 0,
    RDY_RECV_ACTIVE,     /* with the backend */
    RDY_RECV_CANCELLING, /* the same, asked to stop */
    RDY_RECV_ENDED,      /* the stream is over, or recv_error says why */
};

enum rdy_send_state {
    RDY_SEND_IDLE = 0,
    RDY_SEND_QUEUED,     /* on the completion's list `dirty` */
    RDY_SEND_TRYING,     /* with the backend, and on the list `trying`: silent success */
    RDY_SEND_UNFINISHED, /* still on that list, though its fact has come */
    RDY_SEND_WAITING,    /* with the backend: a fact will come */
    RDY_SEND_CONNECTING, /* the same, and nothing can be sent before */
    RDY_SEND_GATHERED,   /* sent by a call when the task's poll is over */
    RDY_SEND_STALLED,    /* the kernel had no memory for the call: in the next turn again */
};

#define RDY_LANE_WRITER   0x1u /* somebody waits for room, or for the queue's end */
#define RDY_LANE_UNARMED  0x2u /* on the list `unarmed`: wants to receive */
#define RDY_LANE_LISTENER 0x4u
#define RDY_LANE_LEAVING  0x8u  /* nobody asks any more */
#define RDY_LANE_PATIENT  0x10u /* a receive may wait for an event before it tries */
#define RDY_LANE_SHUTTING 0x20u /* for writing, when all that is unsent has gone out */
#define RDY_LANE_SLOW     0x40u /* met a full socket; what is unsent since then is copies only */
#define RDY_LANE_CONNECTS 0x80u /* has a target, and no connection yet */

struct rdy_accepted;
struct rdy_target;

struct rdy_lane {
    struct rdy_scheduled_io *io; /* NULL: the slot has no lane */
    struct rdy_lane *next;       /* of the list `dirty`, `trying`, `gathered` or `stalled` */
    union {
        struct rdy_piece_queue received;
        struct rdy_accepted *accepted; /* of a listener */
        struct rdy_target *target;     /* with RDY_LANE_CONNECTS: where to */
    };
    union { /* the first `sending` of them are with the backend */
        struct rdy_piece_queue unsent;
        struct rdy_letter_queue letters; /* of a datagram socket */
    };
    uint32_t unsent_bytes;
    int16_t recv_error; /* -errno */
    int16_t send_error;
    uint16_t received_count;
    uint8_t sending;
    uint8_t recv; /* enum rdy_recv_state */
    uint8_t send; /* enum rdy_send_state */
    uint8_t flags;
    uint8_t message;      /* RDY_MESSAGE_* */
    bool is_stopping : 1; /* a send or connect was asked to end: nothing begins after that */
    bool is_shut : 1;     /* for writing, now or when what is unsent has gone out */
    bool is_cut : 1;      /* a send that waited ended early: why, the kernel told nobody */
    bool is_bulk : 1;     /* on a ring, but sent and received by calls: see lane_bulk.c */
    bool is_fresh : 1;    /* it was watched anew, and no call has received since */
    uint8_t fullness : 3; /* how many receives more filled a buffer of the pool than did not */
};

static_assert(sizeof(struct rdy_lane) <= 64, "a cache line");

#define RDY_LANES_A_PAGE    64u
#define RDY_SEND_PIECES_MAX 16u
#define RDY_SEND_MESSAGES   64u

/* Of a send of several pieces, until the enter that submits it. */
struct rdy_send_message {
    struct msghdr header;
    struct iovec pieces[RDY_SEND_PIECES_MAX];
};

struct rdy_lane_list {
    struct rdy_lane *first;
    struct rdy_lane *last;
};

struct rdy_completion {
    struct rdy_driver *driver;
    struct rdy_buffer_pool pool;
    bool is_native;
    bool has_messages;       /* and receives datagrams */
    bool is_impatient;       /* somebody waits for a silent success */
    bool is_doubtful;        /* some of `trying` were submitted in an earlier turn */
    bool is_holed;           /* the ring was lost, and received data with it that nobody saw */
    struct rdy_lane **pages; /* of RDY_LANES_A_PAGE, by slot */
    uint32_t pages_count;
    uint32_t lanes_count; /* in use */
    struct rdy_lane_list dirty;
    struct rdy_lane_list trying;
    struct rdy_lane_list gathered;
    struct rdy_lane_list stalled;
    uint64_t *unarmed; /* a ring of slab tokens: entries that want to receive, first come first */
    uint32_t unarmed_first;
    uint32_t unarmed_count;
    uint32_t unarmed_size; /* a power of two */
    uint32_t recv_queue_max;
    uint32_t message_queue_max; /* the same of a datagram socket */
    uint32_t send_queue_max;
    uint32_t messages_used;
    struct rdy_send_message *messages;
    struct rdy_letter_queue spare_letters;
    uint32_t spare_letters_count;
    struct rdy_completion_stats count;
};

static inline void rdy_lane_list_push(struct rdy_lane_list *list, struct rdy_lane *lane)
{
    lane->next = NULL;
    if (list->last)
        list->last->next = lane;
    else
        list->first = lane;
    list->last = lane;
}

static inline struct rdy_lane *rdy_lane_list_pop(struct rdy_lane_list *list)
{
    struct rdy_lane *lane = list->first;

    if (!lane)
        return NULL;
    list->first = lane->next;
    if (!list->first)
        list->last = NULL;
    return lane;
}

/* --- lane.c: the table, and the driver's side --- */

/* The driver's completion mode, begun by the first who asks. 0 or -ENOMEM. */
int rdy_completion_open(struct rdy_driver *driver);

/* With the driver, after its backend was closed. NULL is fine. */
void rdy_completion_close(struct rdy_completion *completion);

/* The lane beside an entry, made if there is none; NULL without memory. */
struct rdy_lane *rdy_lane_make(struct rdy_completion *completion, struct rdy_scheduled_io *io);

/* The lane of a slot; undefined if it never had one. */
static inline struct rdy_lane *rdy_lane_at(const struct rdy_completion *completion, uint32_t slot)
{
    return &completion->pages[slot / RDY_LANES_A_PAGE][slot % RDY_LANES_A_PAGE];
}

static inline struct rdy_lane *rdy_lane_of(const struct rdy_scheduled_io *io)
{
    rdy_debug(io->flags & RDY_IO_LANE);
    return rdy_lane_at(io->driver->completion, io->head.slot);
}

/* Before a wait: begins what is to be begun. The timeout to use. */
int64_t rdy_completion_begin(struct rdy_completion *completion, int64_t timeout_ns);

/* True if a turn would begin or settle something: who embeds the driver is told. */
bool rdy_completion_has_work(const struct rdy_completion *completion);

/* True if the ring may have more to tell of what has happened: completions nobody has looked at. */
bool rdy_completion_has_news(const struct rdy_driver *driver);

/* A wait of this turn has submitted what there was, and another one of it may follow. */
static inline void rdy_completion_submitted(struct rdy_completion *completion)
{
    completion->is_doubtful = completion->is_doubtful || completion->trying.first;
}

/* The backend was asked for something: the kernel hears of it in the next turn. */
void rdy_lane_asked(const struct rdy_lane *lane);

/* After its facts were dispatched: tries of which nothing was heard went out. */
void rdy_completion_settle(struct rdy_completion *completion);

/* The fact of an operation. 1 if it reached a live registration. */
int rdy_completion_take(struct rdy_completion *completion, struct rdy_scheduled_io *io,
                        const struct rdy_fact *fact);

/* The backend that ran operations is gone: from now on the engine makes the calls. */
void rdy_completion_survive(struct rdy_completion *completion);

/* The entry is leaving: lets go of what it can, asks for the rest. */
void rdy_lane_release(struct rdy_scheduled_io *io);

/* Asks the backend to stop. False: it had no room for the question, ask again. */
bool rdy_lane_stop(struct rdy_scheduled_io *io);

/* Nothing of it is with the backend, or on the way there. */
bool rdy_lane_is_idle(const struct rdy_scheduled_io *io);

/* Ends the lane of an entry whose slot is given back. */
void rdy_lane_end(struct rdy_scheduled_io *io);

/* The backend that ran it died of @error, and all operations with it: what was with it is resent,
 * or its stream ends. */
void rdy_lane_survive(struct rdy_scheduled_io *io, int error);

/* It is leaving, or its entry was ended: nothing begins any more, and what is unsent stays so. */
bool rdy_lane_is_unwanted(const struct rdy_lane *lane);

/* Sets readiness and wakes. */
void rdy_lane_stamp(struct rdy_lane *lane, uint32_t ready);

/* A leaving lane may have become idle: then the slot goes back. @lane is not used after. */
void rdy_lane_check_leaving(struct rdy_lane *lane);

/* --- lane_recv.c --- */

/* Wants to receive: when buffers are there. */
void rdy_recv_want(struct rdy_completion *completion, struct rdy_lane *lane);

/* Begins receives for those who want to. */
void rdy_recv_arm_all(struct rdy_completion *completion);

int rdy_recv_take(struct rdy_completion *completion, struct rdy_lane *lane,
                  const struct rdy_fact *fact);

/* Asks the backend to stop receiving or accepting. */
void rdy_recv_stop(struct rdy_lane *lane, enum rdy_token_about about);

/* Frees what nobody took. */
void rdy_recv_drop(struct rdy_completion *completion, struct rdy_lane *lane);

/* The receive is not with the backend any more, if it is the last fact of one. */
void rdy_recv_let_go(struct rdy_completion *completion, struct rdy_lane *lane);

/* Without the task's budget: as rdy_stream_poll_recv(). RDY_PENDING: wait for READ. */
ssize_t rdy_recv_next(struct rdy_lane *lane, struct rdy_buf *buf);

/* What the socket's end is told as: 0, or what broke the connection, if a send took that. */
int rdy_recv_end_error(const struct rdy_lane *lane);

/* The rest of what rdy_recv_next() gave is the next again. */
void rdy_recv_put_back(struct rdy_lane *lane, struct rdy_buf *buf);

/* --- lane_send.c --- */

/* Takes the buffer over. 0, or -errno with nothing taken. */
int rdy_send_add(struct rdy_lane *lane, struct rdy_buf *buf);

/* Before a wait: tries all dirty lanes. */
void rdy_send_try_all(struct rdy_completion *completion);

void rdy_send_settle(struct rdy_completion *completion);
int rdy_send_take(struct rdy_completion *completion, struct rdy_lane *lane,
                  const struct rdy_fact *fact);

/* There is something to try in the next turn, and no operation under way. */
void rdy_send_make_dirty(struct rdy_completion *completion, struct rdy_lane *lane);

/* Wakes who waits for room, or for the queue's end. */
void rdy_send_tell_writer(struct rdy_lane *lane);

/* All went out: shuts the stream down for writing, if that was put off until now. */
void rdy_send_finish(struct rdy_lane *lane);

/* The socket is full: copies what is unsent out of the pool, and until all of it is gone whatever
 * is added. So each piece is looked at once, however little the peer takes at a time. */
void rdy_send_keep_copies(struct rdy_completion *completion, struct rdy_lane *lane);

/* Drops what is not with the backend. */
void rdy_send_drop(struct rdy_completion *completion, struct rdy_lane *lane);

/* Sending has failed for good. */
void rdy_send_fail(struct rdy_completion *completion, struct rdy_lane *lane, int error);

/* Drops what went out: the first @sent bytes. */
void rdy_send_advance(struct rdy_completion *completion, struct rdy_lane *lane, size_t sent);

#endif
