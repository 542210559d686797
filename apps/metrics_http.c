/* SPDX-License-Identifier: MIT */
/*
 * GET /metrics in as little HTTP as a scraper needs: the request line is read, the headers are
 * skipped, the answer ends the connection. Everything else is a line that says what was wrong.
 *
 * The thread owns its runtime: it opens, runs and closes it. The starter waits until it listens,
 * and stops it by rdy_runtime_stop(); a semaphore holds the close back until that was called.
 */
#include "apps/metrics_http.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_MAX     4096                 /* bytes of a request line with its headers */
#define SESSIONS_MAX    16u                  /* connections at once; more wait in the queue */
#define SESSION_NS      UINT64_C(5000000000) /* and no longer than that */
#define ACCEPT_PAUSE_NS UINT64_C(50000000)   /* after a failed accept */
#define HEAD_MAX        256                  /* bytes of our own headers */
#define WORKER_TEXT_MAX 24                   /* of a worker's number */

struct metrics_http {
    struct rdy_runtime *const *asked;
    size_t asked_count;
    struct rdy_address endpoint;

    /* The thread's; start_rc is read after @started. */
    struct rdy_runtime *runtime;
    struct rdy_listener listener;
    uint32_t sessions;
    struct rdy_waker room; /* of the acceptor, which waits for the end of a session */
    int start_rc;

    pthread_t thread;
    sem_t started;
    sem_t may_close;
};

struct acceptor {
    struct metrics_http *http;
    struct rdy_timer timer;
    struct rdy_co co;
    struct rdy_stream stream;
    int rc;
};

struct session {
    struct metrics_http *http;
    struct rdy_stream stream;
    struct rdy_co co;
    ssize_t n;
    int rc;
    size_t have;
    size_t done;
    char *answer; /* ours */
    size_t answer_len;
    char request[REQUEST_MAX + 1];
};

/* A snapshot of every runtime, and what the writer wants of each. */
struct snapshots {
    struct rdy_metrics *metrics;
    struct rdy_metrics_set *sets;
    struct rdy_metrics_label *labels;
    char (*names)[WORKER_TEXT_MAX];
};

static void snapshots_free(struct snapshots *all)
{
    free(all->metrics);
    free(all->sets);
    free(all->labels);
    free(all->names);
}

static bool snapshots_take(struct snapshots *all, const struct metrics_http *http)
{
    size_t count = http->asked_count;

    all->metrics = calloc(count, sizeof(*all->metrics));
    all->sets = calloc(count, sizeof(*all->sets));
    all->labels = calloc(count, sizeof(*all->labels));
    all->names = calloc(count, sizeof(*all->names));
    if (!all->metrics || !all->sets || !all->labels || !all->names)
        return false;
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(all->names[i], sizeof(all->names[i]), "%zu", i);
        all->labels[i] = (struct rdy_metrics_label){.name = "worker", .value = all->names[i]};
        all->sets[i] = (struct rdy_metrics_set){&all->metrics[i], &all->labels[i], 1};
        rdy_metrics_read(http->asked[i], &all->metrics[i]);
    }
    return true;
}

/* Head and body in one allocation, which is the session's. */
static bool session_say(struct session *session, const char *status, const char *extra,
                        const char *body, size_t body_len)
{
    char head[HEAD_MAX];
    int head_len = snprintf(head, sizeof(head),
                            "HTTP/1.1 %s\r\n"
                            "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                            "Content-Length: %zu\r\n%sConnection: close\r\n\r\n",
                            status, body_len, extra);

    if (head_len < 0 || (size_t)head_len >= sizeof(head))
        return false;
    session->answer = malloc((size_t)head_len + body_len + 1);
    if (!session->answer)
        return false;
    memcpy(session->answer, head, (size_t)head_len);
    memcpy(session->answer + head_len, body, body_len);
    session->answer_len = (size_t)head_len + body_len;
    return true;
}

static bool session_refuse(struct session *session, const char *status, const char *extra,
                           const char *line)
{
    return session_say(session, status, extra, line, strlen(line));
}

static bool session_say_metrics(struct session *session)
{
    struct snapshots all = {0};
    ssize_t len = -1;
    char *text = NULL;
    bool is_said = false;

    if (snapshots_take(&all, session->http))
        len = rdy_metrics_write_prometheus(all.sets, session->http->asked_count, NULL, 0);
    if (len >= 0)
        text = malloc((size_t)len + 1);
    if (text && rdy_metrics_write_prometheus(all.sets, session->http->asked_count, text,
                                             (size_t)len + 1) == len)
        is_said = session_say(session, "200 OK", "", text, (size_t)len);
    free(text);
    snapshots_free(&all);
    return is_said;
}

/* Answers a request whose headers have all come. False: no memory for an answer. */
static bool session_answer(struct session *session)
{
    char *path = strchr(session->request, ' ');
    char *version = path ? strchr(path + 1, ' ') : NULL;
    char *end = strstr(session->request, "\r\n");

    if (!version || !end || version > end || strncmp(version, " HTTP/1.", 8) != 0)
        return session_refuse(session, "400 Bad Request", "", "not a request of HTTP/1.1\n");
    *path++ = '\0';
    *version = '\0';
    path[strcspn(path, "?")] = '\0';
    if (strcmp(path, "/metrics") != 0)
        return session_refuse(session, "404 Not Found", "", "only /metrics is here\n");
    if (strcmp(session->request, "GET") != 0)
        return session_refuse(session, "405 Method Not Allowed", "Allow: GET\r\n",
                              "only GET is allowed\n");
    return session_say_metrics(session);
}

/* True when an answer is due: the headers are complete, or longer than we read. */
static bool session_takes(struct session *session)
{
    session->have += (size_t)session->n;
    session->request[session->have] = '\0';
    return strstr(session->request, "\r\n\r\n") || session->have == REQUEST_MAX;
}

static bool session_has_answer(struct session *session)
{
    if (strstr(session->request, "\r\n\r\n"))
        return session_answer(session);
    return session_refuse(session, "431 Request Header Fields Too Large", "",
                          "a request has at most 4096 bytes\n");
}

static int session_poll(struct rdy_task *task, void *self)
{
    struct session *s = self;

    RDY_BEGIN(&s->co);
    do {
        RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->request + s->have,
                                                      REQUEST_MAX - s->have));
        if (s->n <= 0)
            return 0; /* gone before it asked */
    } while (!session_takes(s));
    if (!session_has_answer(s))
        return -ENOMEM;
    RDY_AWAIT(&s->co, s->rc = rdy_stream_poll_write_all(&s->stream, task, s->answer, s->answer_len,
                                                        &s->done));
    (void)rdy_stream_shutdown(&s->stream, SHUT_WR);
    /* What comes after the request is read and forgotten: a close would reset the connection, and
     * the answer might be lost. The deadline bounds it. */
    do {
        RDY_AWAIT(&s->co, s->n = rdy_stream_poll_read(&s->stream, task, s->request, REQUEST_MAX));
    } while (s->n > 0);
    RDY_END(&s->co);
    return 0;
}

static void session_drop(void *self)
{
    struct session *session = self;
    struct metrics_http *http = session->http;

    rdy_stream_close(&session->stream);
    free(session->answer);
    http->sessions--;
    rdy_waker_wake(&http->room);
}

/* Without memory for it the connection is closed, and its peer may come again. */
static void session_spawn(struct metrics_http *http, struct rdy_stream *stream)
{
    static const struct rdy_task_spec spec = {
        .poll = session_poll,
        .drop = session_drop,
        .self_size = sizeof(struct session),
        .name = "scrape",
        .timeout_ns = SESSION_NS,
    };
    struct session *session;
    void *self;

    if (rdy_spawn(http->runtime, &spec, &self, NULL) < 0) {
        rdy_stream_close(stream);
        return;
    }
    session = self;
    session->http = http;
    session->stream = *stream;
    http->sessions++;
}

static int http_poll_room(struct metrics_http *http, struct rdy_task *task)
{
    http->room = rdy_task_waker(task);
    return http->sessions < SESSIONS_MAX ? 0 : RDY_PENDING;
}

static int acceptor_poll(struct rdy_task *task, void *self)
{
    struct acceptor *a = self;

    RDY_BEGIN(&a->co);
    for (;;) {
        RDY_AWAIT(&a->co, http_poll_room(a->http, task));
        RDY_AWAIT(&a->co, a->rc = rdy_listener_poll_accept(&a->http->listener, task, &a->stream));
        if (a->rc == 0) {
            session_spawn(a->http, &a->stream);
            continue;
        }
        /* Out of descriptors, perhaps: the connection waits in the queue. */
        rdy_timer_start_sleep(&a->timer, task, ACCEPT_PAUSE_NS);
        RDY_AWAIT(&a->co, rdy_timer_poll_sleep(&a->timer, task));
    }
    RDY_END(&a->co);
    return 0;
}

static void acceptor_drop(void *self)
{
    struct acceptor *acceptor = self;

    (void)rdy_timer_cancel(&acceptor->timer);
    rdy_listener_close(&acceptor->http->listener);
}

static int http_listen(struct metrics_http *http)
{
    static const struct rdy_task_spec spec = {
        .poll = acceptor_poll,
        .drop = acceptor_drop,
        .self_size = sizeof(struct acceptor),
    };
    struct rdy_address *endpoint = &http->endpoint;
    void *self;
    int rc = rdy_listener_open(&http->listener, http->runtime, (struct sockaddr *)&endpoint->addr,
                               endpoint->addr_len, NULL);

    if (rc < 0)
        return rc;
    endpoint->addr_len = sizeof(endpoint->addr);
    rc = rdy_listener_address(&http->listener, &endpoint->addr, &endpoint->addr_len);
    if (rc == 0)
        rc = rdy_spawn(http->runtime, &spec, &self, NULL);
    if (rc < 0) {
        rdy_listener_close(&http->listener);
        return rc;
    }
    ((struct acceptor *)self)->http = http;
    return 0;
}

static void *http_main(void *arg)
{
    struct metrics_http *http = arg;
    struct rdy_runtime_opts opts = {.size = sizeof(opts)};

    http->start_rc = rdy_runtime_open(&http->runtime, &opts);
    if (http->start_rc == 0)
        http->start_rc = http_listen(http);
    if (http->start_rc < 0) {
        rdy_runtime_close(http->runtime);
        (void)sem_post(&http->started);
        return NULL;
    }
    (void)sem_post(&http->started);
    /* A driver that died leaves the echo server working, and nobody who could be told. */
    (void)!rdy_runtime_run(http->runtime);
    (void)sem_wait(&http->may_close);
    rdy_runtime_close(http->runtime);
    return NULL;
}

static void http_free(struct metrics_http *http)
{
    (void)sem_destroy(&http->started);
    (void)sem_destroy(&http->may_close);
    free((void *)(uintptr_t)http->asked);
    free(http);
}

static struct metrics_http *http_make(const struct rdy_address *endpoint,
                                      struct rdy_runtime *const *runtimes, size_t runtimes_count)
{
    struct metrics_http *http = calloc(1, sizeof(*http));
    struct rdy_runtime **asked = calloc(runtimes_count, sizeof(*asked));

    if (!http || !asked) {
        free(http);
        free(asked);
        return NULL;
    }
    memcpy(asked, runtimes, runtimes_count * sizeof(*asked));
    http->asked = asked;
    http->asked_count = runtimes_count;
    http->endpoint = *endpoint;
    (void)sem_init(&http->started, 0, 0);
    (void)sem_init(&http->may_close, 0, 0);
    return http;
}

int metrics_http_start(struct metrics_http **out, struct rdy_address *endpoint,
                       struct rdy_runtime *const *runtimes, size_t runtimes_count)
{
    struct metrics_http *http = http_make(endpoint, runtimes, runtimes_count);
    int rc;

    if (!http)
        return -ENOMEM;
    rc = -pthread_create(&http->thread, NULL, http_main, http);
    if (rc < 0) {
        http_free(http);
        return rc;
    }
    (void)sem_wait(&http->started);
    rc = http->start_rc;
    if (rc < 0) {
        (void)pthread_join(http->thread, NULL);
        http_free(http);
        return rc;
    }
    *endpoint = http->endpoint;
    *out = http;
    return 0;
}

void metrics_http_stop(struct metrics_http *http)
{
    if (!http)
        return;
    rdy_runtime_stop(http->runtime);
    (void)sem_post(&http->may_close);
    (void)pthread_join(http->thread, NULL);
    http_free(http);
}
