/* SPDX-License-Identifier: MIT */
/*
 * Servers in one call, from an address as people write it: built on the public calls alone. The
 * listener belongs to a task that waits for the end of the accepting, and closes it then.
 */
#include <rdy/resolve.h>
#include <rdy/serve.h>

#include "engine/base.h"

/* A numeric host is resolved here and now; of a name that would block. */
static int address_read(const char *text, struct rdy_address *address)
{
    struct rdy_resolve_hints hints = {
        .size = sizeof(hints),
        .flags = AI_NUMERICHOST | AI_NUMERICSERV,
    };
    struct rdy_address_list list = {0};
    struct rdy_endpoint endpoint;
    int rc = rdy_endpoint_parse(text, &endpoint);

    if (rc < 0)
        return rc;
    if (endpoint.kind == RDY_ENDPOINT_UNIX) {
        *address = endpoint.address;
        return 0;
    }
    rc = rdy_resolve_wait(endpoint.host, endpoint.service, &hints, &list);
    if (rc < 0)
        return rc == -ENOENT ? -EINVAL : rc;
    rdy_assert(list.count > 0);
    *address = list.items[0];
    rdy_address_list_free(&list);
    return 0;
}

struct keeper {
    struct rdy_runtime *runtime;
    struct rdy_listener listener;
    struct rdy_task_id accepting;
    struct rdy_join join; /* of the accept task */
};

static int keeper_poll(struct rdy_task *task, void *self)
{
    struct keeper *keeper = self;
    int result = 0;
    int rc = rdy_task_poll_join(&keeper->join, task, &result);

    return rc == 0 ? result : rc;
}

/* Also when it is aborted before its first poll, or was never told of an accept task. */
static void keeper_drop(void *self)
{
    struct keeper *keeper = self;

    (void)rdy_task_abort(keeper->runtime, keeper->accepting);
    rdy_join_close(&keeper->join);
    rdy_listener_close(&keeper->listener);
}

static int keeper_start(struct keeper *keeper, const struct rdy_address *address,
                        const struct rdy_task_spec *session)
{
    int rc = rdy_listener_open(&keeper->listener, keeper->runtime,
                               (const struct sockaddr *)&address->addr, address->addr_len, NULL);

    if (rc == 0)
        rc = rdy_serve(keeper->runtime, &keeper->listener, session, &keeper->accepting);
    if (rc == 0)
        rc = rdy_join_open(&keeper->join, keeper->runtime, keeper->accepting);
    return rc;
}

int rdy_serve_at(struct rdy_runtime *runtime, const char *text, const struct rdy_task_spec *session,
                 struct rdy_task_id *id)
{
    static const struct rdy_task_spec spec = {
        .poll = keeper_poll,
        .drop = keeper_drop,
        .self_size = sizeof(struct keeper),
    };
    struct rdy_address address;
    struct rdy_task_id made;
    struct keeper *keeper;
    void *self = NULL;
    int rc = address_read(text, &address);

    if (rc < 0)
        return rc;
    rc = rdy_spawn(runtime, &spec, &self, &made);
    if (rc < 0)
        return rc;
    keeper = self;
    keeper->runtime = runtime;
    keeper->listener.fd = -1;
    rc = keeper_start(keeper, &address, session);
    if (rc < 0)
        (void)rdy_task_abort(runtime, made);
    else if (id)
        *id = made;
    return rc;
}

/* Until it is stopped, or until the accepting has ended and the last session, too. */
static int serve_and_run(struct rdy_runtime *runtime, const char *address,
                         const struct rdy_task_spec *session)
{
    struct rdy_join serving = {0};
    struct rdy_task_id id;
    int result = 0;
    int rc = rdy_serve_at(runtime, address, session, &id);

    if (rc < 0)
        return rc;
    rc = rdy_join_open(&serving, runtime, id);
    rdy_assert(rc == 0);
    rc = rdy_runtime_run(runtime);
    if (rc == 0 && !serving.target)
        rc = rdy_join_poll(&serving, NULL, &result) == 0 ? result : 0;
    rdy_join_close(&serving);
    return rc;
}

int rdy_serve_forever(const char *address, const struct rdy_task_spec *session)
{
    struct rdy_runtime *runtime;
    int rc = rdy_runtime_open(&runtime, NULL);

    if (rc < 0)
        return rc;
    rc = serve_and_run(runtime, address, session);
    rdy_runtime_close(runtime);
    return rc;
}
