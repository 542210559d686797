/* SPDX-License-Identifier: MIT */
/*
 * Datagrams in completion mode, in two threads with a runtime each over a pool of few buffers, and
 * a peer thread that sends them one by one and in lots, goes away and comes back. The servers echo
 * by every mix of the calls, hold buffers for a while, have their tasks aborted and begun anew at
 * any moment, and close sockets to open others.
 *
 * To a faithful socket there are never more datagrams under way than fit: each must come back, once
 * and in order, for a task that is given up at RDY_PENDING has lost nothing. Of the others some are
 * lost; what comes back must be right and in order. A lost wake-up leaves the peer waiting, and the
 * watchdog says so. In the end nothing may be left: no entry, no buffer, no block.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include <rdy/datagram_completion.h>
#include <rdy/datagram_many.h>

#include "tests/support/shortage.h"
#include "tests/support/stress.h"

#define CALLS        STRESS_ROUNDS(600u, 200u)
#define SERVERS      2u
#define PLACES       6u /* sockets of a server */
#define LINES        (2u * SERVERS * PLACES)
#define WINDOW       4u
#define GOAL_MAX     200u
#define LEN_MAX      700u
#define ABORT_ONE_OF 20u
#define MOVE_ONE_OF  60u
#define GO_ONE_OF    60u
#define HOLD_ONE_OF  8u
#define FLUSH_ONE_OF 6u

enum kind {
    FAITHFUL, /* everything comes back */
    MOVING,   /* the server closes it, and opens another elsewhere */
    PAIRED,   /* connected to a peer that goes away and comes back */
    KINDS
};

static enum kind kind_of(uint32_t place)
{
    return (enum kind)(place % KINDS);
}

/* What a datagram begins with. */
struct head {
    uint32_t tag; /* of the line, so that an earlier one's is known */
    uint32_t number;
};

static size_t datagram_fill(unsigned char *bytes, uint32_t tag, uint32_t number)
{
    struct head head = {.tag = tag, .number = number};
    size_t len = sizeof(head) + (tag + number * 37) % (LEN_MAX - sizeof(head));

    memcpy(bytes, &head, sizeof(head));
    for (size_t i = sizeof(head); i < len; i++)
        bytes[i] = (unsigned char)(tag + number + i * 31);
    return len;
}

static bool datagram_is_right(const unsigned char *bytes, size_t len)
{
    unsigned char wanted[LEN_MAX];
    struct head head;

    if (len < sizeof(head))
        return false;
    memcpy(&head, bytes, sizeof(head));
    return len == datagram_fill(wanted, head.tag, head.number) && memcmp(bytes, wanted, len) == 0;
}

/* --- the servers, a thread each --- */

struct place {
    struct server *server;
    uint32_t index;
    struct rdy_datagram socket;
    struct rdy_task_id id;
    struct rdy_buf owed; /* received, and not yet handed over */
    struct rdy_datagram_info info;
    bool is_flushing;
};

struct server {
    const struct shortage *shortage;
    struct rdy_runtime *runtime;
    pthread_t thread;
    pthread_mutex_t lock;            /* of the addresses, which the peer asks for */
    struct sockaddr_in addr[PLACES]; /* of the sockets */
    struct sockaddr_in pair[PLACES]; /* of the peer, where it is PAIRED */
    struct place place[PLACES];
    uint64_t random;
    uint32_t aborts;
    uint32_t moves;
    uint32_t refusals;
    uint32_t full; /* sends that had to wait for room */
    struct rdy_completion_stats stats;
};

static pthread_barrier_t barrier; /* of the servers and the peer */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static void place_open(struct place *place)
{
    struct server *server = place->server;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage addr;
    socklen_t addr_len = 0;

    must(rdy_datagram_open(&place->socket, server->runtime, AF_INET, NULL) == 0);
    must(rdy_datagram_bind(&place->socket, (struct sockaddr *)&any, sizeof(any)) == 0);
    must(rdy_datagram_local_address(&place->socket, &addr, &addr_len) == 0);
    if (kind_of(place->index) == PAIRED)
        must(rdy_datagram_connect(&place->socket, (struct sockaddr *)&server->pair[place->index],
                                  sizeof(server->pair[0])) == 0);
    pthread_mutex_lock(&server->lock);
    memcpy(&server->addr[place->index], &addr, sizeof(server->addr[0]));
    pthread_mutex_unlock(&server->lock);
}

static void place_close(struct place *place)
{
    rdy_datagram_close(&place->socket);
    rdy_buf_release(&place->owed);
    place->is_flushing = false;
}

static ssize_t place_receive(struct place *place, struct rdy_task *task)
{
    unsigned char bytes[LEN_MAX];
    ssize_t count;

    switch (stress_random(&place->server->random) % 4) {
    case 0:
        count =
            rdy_datagram_poll_recv_from(&place->socket, task, bytes, sizeof(bytes), &place->info);
        if (count < 0)
            return count;
        must(rdy_buf_take(place->server->runtime, (size_t)count, &place->owed) == 0);
        memcpy(place->owed.data, bytes, (size_t)count);
        break;
    case 1: /* and another call for the datagram itself, which stays the first */
        count =
            rdy_datagram_poll_peek_from(&place->socket, task, bytes, sizeof(bytes), &place->info);
        must(count < 0 || datagram_is_right(bytes, (size_t)count));
        return count;
    default:
        count = rdy_datagram_poll_recv_buf(&place->socket, task, &place->owed, &place->info);
        if (count < 0)
            return count;
    }
    must(datagram_is_right(place->owed.data, place->owed.len));
    return count;
}

/* 0 when it was handed over, RDY_PENDING or -errno. */
static ssize_t place_send(struct place *place, struct rdy_task *task)
{
    const struct sockaddr *to = (struct sockaddr *)&place->info.addr;
    struct rdy_datagram_message message = {
        .buf = place->owed.data, .len = place->owed.len, .info = place->info};
    ssize_t rc;

    switch (stress_random(&place->server->random) % 4) {
    case 0:
        rc = rdy_datagram_poll_send_to(&place->socket, task, place->owed.data, place->owed.len, to,
                                       place->info.addr_len);
        break;
    case 1:
        rc = rdy_datagram_poll_send_many(&place->socket, task, &message, 1);
        break;
    default:
        rc = rdy_datagram_poll_send_buf(&place->socket, task, &place->owed, to,
                                        place->info.addr_len);
    }
    if (rc < 0)
        return rc;
    rdy_buf_release(&place->owed);
    place->is_flushing = stress_random(&place->server->random) % FLUSH_ONE_OF == 0;
    return 0;
}

static void place_begin(struct place *place);

/*
 * Now and then ends another task in the middle of whatever it waits for, and begins it anew. From
 * here rather than by a timer, which would have the driver look again and again; and one of each
 * kind is spared, because a new task looks as well: both would hide a lost wake-up.
 */
static void abort_some(struct place *self)
{
    struct server *server = self->server;
    struct place *place = &server->place[stress_random(&server->random) % KINDS];

    if (place == self || stress_random(&server->random) % ABORT_ONE_OF != 0)
        return;
    must(rdy_task_abort(server->runtime, place->id) == 0);
    server->aborts++;
    place_begin(place);
}

/* A step: 1 to go on, or RDY_PENDING. */
static int place_step(struct place *place, struct rdy_task *task)
{
    struct server *server = place->server;
    ssize_t rc;

    if (kind_of(place->index) == MOVING && stress_random(&server->random) % MOVE_ONE_OF == 0) {
        place_close(place);
        place_open(place);
        server->moves++;
        return 1;
    }
    if (place->is_flushing) {
        rc = rdy_datagram_poll_flush(&place->socket, task);
        place->is_flushing = rc == RDY_PENDING;
    } else if (!place->owed.block) {
        rc = place_receive(place, task);
    } else if (stress_random(&server->random) % HOLD_ONE_OF == 0) {
        rdy_task_defer(task);
        return RDY_PENDING;
    } else {
        rc = place_send(place, task);
        server->full += rc == RDY_PENDING;
    }
    if (rc == RDY_PENDING)
        return RDY_PENDING;
    /* News of the peer, which ends nothing; what is owed is tried again. */
    must(rc >= 0 || (kind_of(place->index) == PAIRED && rc == -ECONNREFUSED));
    server->refusals += rc < 0;
    return 1;
}

static int poll_place(struct rdy_task *task, void *self)
{
    struct place *place = ((struct test_task *)self)->test;
    int rc;

    abort_some(place);
    do
        rc = place_step(place, task);
    while (rc == 1);
    return rc;
}

/* All that it has is the place's: the task that follows goes on where this one was. */
static void place_begin(struct place *place)
{
    struct rdy_task_spec spec = {.poll = poll_place, .self_size = sizeof(struct test_task)};
    void *self;

    must(rdy_spawn(place->server->runtime, &spec, &self, &place->id) == 0);
    ((struct test_task *)self)->test = place;
}

static void *run_server(void *arg)
{
    struct rdy_driver_opts opts = {
        .buffer_size = 1024, .recv_queue_max = 2, .send_queue_max = 2 * LEN_MAX};
    struct server *server = arg;

    /* One after the other: ThreadSanitizer takes two threads in which jemalloc makes an arena, of
     * which it sees half, for a race. */
    pthread_mutex_lock(&opening);
    server->runtime = open_short(server->shortage, &opts);
    pthread_mutex_unlock(&opening);
    for (uint32_t i = 0; i < PLACES; i++) {
        server->place[i] = (struct place){.server = server, .index = i, .socket.fd = -1};
        place_open(&server->place[i]);
        place_begin(&server->place[i]);
    }
    (void)pthread_barrier_wait(&barrier);
    must(rdy_runtime_run(server->runtime) == 0);
    (void)pthread_barrier_wait(&barrier); /* whoever stopped it is done with it */

    for (uint32_t i = 0; i < PLACES; i++) {
        must(rdy_task_abort(server->runtime, server->place[i].id) == 0);
        place_close(&server->place[i]);
    }
    check_nothing_left(server->runtime, server->shortage);
    rdy_completion_read_stats(server->runtime, &server->stats);
    rdy_runtime_close(server->runtime);
    return NULL;
}

/* --- the peer --- */

struct line {
    struct server *server;
    uint32_t place;
    int fd; /* -1: none */
    uint32_t tag;
    uint32_t goal;
    uint32_t sent;
    uint32_t next;     /* no smaller number may come any more */
    uint32_t farewell; /* looks that are left when all was sent */
};

struct peer {
    struct server *servers;
    uint64_t random;
    uint32_t opened;
    struct line line[LINES];
};

/* A nonblocking socket at @addr, or -1 if somebody else has taken that port. */
static int plain_socket(const struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    must(fd >= 0);
    if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
        return fd;
    must(errno == EADDRINUSE && close(fd) == 0);
    return -1;
}

static void line_open(struct peer *peer, struct line *line)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in addr;

    peer->opened++;
    pthread_mutex_lock(&line->server->lock);
    addr = line->server->addr[line->place];
    pthread_mutex_unlock(&line->server->lock);
    if (kind_of(line->place) == PAIRED)
        own = line->server->pair[line->place];
    line->fd = plain_socket(&own);
    if (line->fd < 0)
        return;
    must(connect(line->fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    line->tag = (uint32_t)stress_random(&peer->random);
    line->goal = 1 + (uint32_t)stress_random(&peer->random) % GOAL_MAX;
    line->sent = 0;
    line->next = 0;
    line->farewell = 20;
}

static void line_close(struct line *line)
{
    must(close(line->fd) == 0);
    line->fd = -1;
}

static void line_send(struct line *line)
{
    unsigned char bytes[LEN_MAX];
    size_t len = datagram_fill(bytes, line->tag, line->sent);

    if (kind_of(line->place) == FAITHFUL && line->sent - line->next == WINDOW)
        return;
    if (send(line->fd, bytes, len, 0) == (ssize_t)len)
        line->sent++;
    else
        must(errno == EAGAIN || (kind_of(line->place) == MOVING && errno == ECONNREFUSED));
}

/* False: there was nothing. */
static bool line_hear(struct line *line)
{
    unsigned char bytes[LEN_MAX + 1];
    ssize_t count = recv(line->fd, bytes, sizeof(bytes), 0);
    struct head head;

    if (count < 0) {
        must(errno == EAGAIN || (kind_of(line->place) == MOVING && errno == ECONNREFUSED));
        return false;
    }
    must(datagram_is_right(bytes, (size_t)count));
    memcpy(&head, bytes, sizeof(head));
    if (head.tag != line->tag) {
        must(kind_of(line->place) != FAITHFUL);
        return true;
    }
    must(head.number >= line->next && head.number < line->sent);
    must(kind_of(line->place) != FAITHFUL || head.number == line->next);
    line->next = head.number + 1;
    return true;
}

static bool line_is_over(struct peer *peer, struct line *line)
{
    if (kind_of(line->place) == FAITHFUL)
        return line->next == line->goal;
    if (stress_random(&peer->random) % GO_ONE_OF == 0)
        return true;
    return line->sent == line->goal && line->farewell-- == 0;
}

static void line_step(struct peer *peer, struct line *line)
{
    if (line->sent < line->goal && stress_random(&peer->random) % 3 != 0)
        line_send(line);
    if (stress_random(&peer->random) % 3 != 0)
        (void)line_hear(line);
    if (line_is_over(peer, line))
        line_close(line);
}

static void run_peer(struct peer *peer)
{
    bool is_busy = true;

    while (is_busy) {
        is_busy = peer->opened < CALLS;
        for (uint32_t i = 0; i < LINES; i++) {
            struct line *line = &peer->line[i];

            if (line->fd < 0 && peer->opened < CALLS && line->server)
                line_open(peer, line);
            else if (line->fd >= 0)
                line_step(peer, line);
            is_busy = is_busy || line->fd >= 0;
        }
        (void)sched_yield();
    }
}

/* Two lines to each socket, but one where it has one peer. */
static void peer_init(struct peer *peer, struct server *servers)
{
    *peer = (struct peer){.servers = servers, .random = 11};
    for (uint32_t i = 0; i < LINES; i++) {
        struct line *line = &peer->line[i];

        line->fd = -1;
        line->place = i / SERVERS % PLACES;
        if (kind_of(line->place) != PAIRED || i < LINES / 2)
            line->server = &servers[i % SERVERS];
    }
}

/* Ports for the peers of those that are connected. */
static void server_init(struct server *server, const struct shortage *shortage, uint64_t random)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    *server = (struct server){.shortage = shortage, .random = random};
    assert_int_equal(pthread_mutex_init(&server->lock, NULL), 0);
    for (uint32_t i = 0; i < PLACES; i++) {
        socklen_t addr_len = sizeof(server->pair[i]);
        int fd = plain_socket(&any);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&server->pair[i], &addr_len), 0);
        assert_int_equal(close(fd), 0);
    }
}

static struct {
    uint64_t aborts;
    uint64_t moves;
    uint64_t refusals;
    uint64_t full;
    uint64_t recv_starved;
} met;

static void met_add(const struct server *server)
{
    met.aborts += server->aborts;
    met.moves += server->moves;
    met.refusals += server->refusals;
    met.full += server->full;
    met.recv_starved += server->stats.recv_starved;
}

static void nothing_is_lost_or_left(void **state)
{
    static struct server servers[SERVERS];
    static struct peer peer;

    assert_int_equal(pthread_barrier_init(&barrier, NULL, SERVERS + 1), 0);
    for (uint32_t i = 0; i < SERVERS; i++)
        server_init(&servers[i], *state, 7 + i);
    for (uint32_t i = 0; i < SERVERS; i++)
        assert_int_equal(pthread_create(&servers[i].thread, NULL, run_server, &servers[i]), 0);
    peer_init(&peer, servers);
    (void)pthread_barrier_wait(&barrier);
    run_peer(&peer);
    for (uint32_t i = 0; i < SERVERS; i++)
        rdy_runtime_stop(servers[i].runtime);
    (void)pthread_barrier_wait(&barrier);
    for (uint32_t i = 0; i < SERVERS; i++) {
        assert_int_equal(pthread_join(servers[i].thread, NULL), 0);
        assert_int_equal(pthread_mutex_destroy(&servers[i].lock), 0);
        met_add(&servers[i]);
    }
    assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

/* Of all together: which of them a single run meets is up to the scheduler. */
static void runs_went_through_what_they_are_to_go_through(void **state)
{
    (void)state;
    assert_true(met.aborts > 0);
    assert_true(met.moves > 0);
    assert_true(met.refusals > 0);
    assert_true(met.full > 0);
    assert_true(met.recv_starved > 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_EACH_SHORTAGE(nothing_is_lost_or_left),
        cmocka_unit_test(runs_went_through_what_they_are_to_go_through),
    };

    stress_watch();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
