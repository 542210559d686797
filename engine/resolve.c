/* SPDX-License-Identifier: MIT */
/*
 * The resolver: a job of the pool whose payload is the question, and then the answer.
 *
 * Each question is first put to the C library as a numeric one, which it answers without a system
 * call; only if it says that this is not numeric, a thread of the pool asks again. The list
 * that a lookup found is the payload's until a poll takes it away: so a lookup that nobody waits
 * for any more frees it with the job.
 */
#include <rdy/resolve.h>

#include <stdlib.h>

#include "engine/endpoint.h"
#include "engine/runtime.h"
#include "engine/sys_resolve.h"

#define SERVICE_MAX 32 /* bytes, the zero included */
#define HINT_FLAGS                                                                                 \
    (AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV | AI_ADDRCONFIG | AI_V4MAPPED | AI_ALL)

/* The payload. */
struct question {
    struct rdy_address_list list; /* the answer */
    int family;
    int socktype;
    int flags;
    bool has_host;
    bool has_service;
    char host[RDY_HOST_MAX];
    char service[SERVICE_MAX];
};

void rdy_address_list_free(struct rdy_address_list *list)
{
    free(list->items);
    *list = (struct rdy_address_list){0};
}

/* --- the question --- */

/* 0 for a name, 1 for a number, -EINVAL. The C library would cut a number down to 16 bits. */
static int service_kind(const char *service, size_t service_len)
{
    uint32_t port = 0;
    bool is_number = true;

    if (service_len == 0 || service_len >= SERVICE_MAX)
        return -EINVAL;
    for (size_t i = 0; i < service_len; i++) {
        if (service[i] <= ' ' || service[i] > '~')
            return -EINVAL;
        is_number = is_number && service[i] >= '0' && service[i] <= '9';
    }
    for (size_t i = 0; is_number && i < service_len; i++) {
        port = port * 10 + (uint32_t)(service[i] - '0');
        if (port > UINT16_MAX)
            return -EINVAL;
    }
    return is_number ? 1 : 0;
}

static int question_take_hints(struct question *question, const struct rdy_resolve_hints *hints)
{
    question->socktype = SOCK_STREAM;
    if (!hints)
        return 0;
    if (hints->size != sizeof(*hints) || (hints->flags & ~HINT_FLAGS) != 0)
        return -EINVAL;
    if (hints->family != AF_UNSPEC && hints->family != AF_INET && hints->family != AF_INET6)
        return -EINVAL;
    if (hints->socktype != 0 && hints->socktype != SOCK_STREAM && hints->socktype != SOCK_DGRAM)
        return -EINVAL;
    question->family = hints->family;
    question->flags = hints->flags;
    if (hints->socktype != 0)
        question->socktype = hints->socktype;
    return 0;
}

static int question_make(struct question *question, const char *host, const char *service,
                         const struct rdy_resolve_hints *hints)
{
    *question = (struct question){0};
    if (!host && !service)
        return -EINVAL; /* neither a machine nor a port: the C library would not know it either */
    if (host) {
        size_t host_len = strnlen(host, RDY_HOST_MAX);

        if (!rdy_host_is_valid(host, host_len))
            return -EINVAL;
        rdy_assert(host_len < sizeof(question->host));
        memcpy(question->host, host, host_len);
        question->has_host = true;
    }
    if (service) {
        size_t service_len = strnlen(service, SERVICE_MAX);

        if (service_kind(service, service_len) < 0)
            return -EINVAL;
        memcpy(question->service, service, service_len);
        question->has_service = true;
    }
    return question_take_hints(question, hints);
}

/*
 * The C library would ask the system: to put two addresses in order (no host, both families), or
 * for the families that this machine has (AI_ADDRCONFIG).
 */
static bool question_needs_the_system(const struct question *question)
{
    return (!question->has_host && question->family == AF_UNSPEC) ||
           (question->flags & AI_ADDRCONFIG);
}

/* Nothing in it could be a name: then what the numeric lookup said is the answer. */
static bool question_is_numeric(const struct question *question)
{
    bool is_service_numeric = !question->has_service || (question->flags & AI_NUMERICSERV) ||
                              service_kind(question->service, strlen(question->service)) == 1;

    return is_service_numeric && (!question->has_host || (question->flags & AI_NUMERICHOST));
}

/* --- the answer --- */

static bool is_usable(const struct addrinfo *info)
{
    return info->ai_addr && info->ai_addrlen <= sizeof(struct sockaddr_storage);
}

static int list_make(const struct addrinfo *infos, struct rdy_address_list *list)
{
    size_t count = 0;
    size_t at = 0;

    for (const struct addrinfo *info = infos; info; info = info->ai_next)
        count += is_usable(info);
    if (count == 0)
        return -ENODATA;
    list->items = calloc(count, sizeof(*list->items));
    if (!list->items)
        return -ENOMEM;
    for (const struct addrinfo *info = infos; info; info = info->ai_next) {
        if (!is_usable(info))
            continue;
        memcpy(&list->items[at].addr, info->ai_addr, info->ai_addrlen);
        list->items[at++].addr_len = info->ai_addrlen;
    }
    rdy_assert(at == count);
    list->count = count;
    return 0;
}

static int ask(struct question *question, const struct rdy_sys_lookup *lookup, int more_flags)
{
    struct addrinfo hints = {
        .ai_family = question->family,
        .ai_socktype = question->socktype,
        .ai_flags = question->flags | more_flags,
    };
    struct addrinfo *infos;
    int rc = rdy_sys_getaddrinfo(lookup, question->has_host ? question->host : NULL,
                                 question->has_service ? question->service : NULL, &hints, &infos);

    if (rc < 0)
        return rc;
    rc = list_make(infos, &question->list);
    if (infos)
        lookup->free(infos);
    return rc;
}

/* The answer if it takes no system call (but for the name of a scope). False: ask elsewhere. */
static bool ask_at_once(struct question *question, int *result)
{
    if (question_needs_the_system(question))
        return false;
    *result = ask(question, &rdy_sys_lookup_system, AI_NUMERICHOST | AI_NUMERICSERV);
    return *result != -ENOENT || question_is_numeric(question);
}

static int question_run(void *payload)
{
    return ask(payload, rdy_sys_lookup(), 0);
}

static void question_drop(void *payload)
{
    rdy_address_list_free(&((struct question *)payload)->list);
}

/* --- the calls --- */

int rdy_resolve_start(struct rdy_resolve *resolve, struct rdy_pool *pool, const char *host,
                      const char *service, const struct rdy_resolve_hints *hints)
{
    static const struct rdy_blocking_spec spec = {
        .run = question_run,
        .drop = question_drop,
        .payload_size = sizeof(struct question),
    };
    struct question question;
    int result;
    int rc = question_make(&question, host, service, hints);

    rdy_assert(!resolve->has_result && !resolve->job.job);
    if (rc < 0)
        return rc;
    if (ask_at_once(&question, &result)) {
        *resolve =
            (struct rdy_resolve){.list = question.list, .result = result, .has_result = true};
        return 0;
    }
    rdy_assert(!question.list.items);
    if (!pool)
        return -EINVAL;
    return rdy_blocking_start(&resolve->job, pool, &spec, &question);
}

/* The answer of the job, which ends with it. */
static int resolve_finish(struct rdy_resolve *resolve, int rc, int result,
                          struct rdy_address_list *list)
{
    struct question *question = rc == 0 ? rdy_blocking_payload(&resolve->job) : NULL;

    if (question && result == 0) {
        *list = question->list;
        question->list = (struct rdy_address_list){0};
    }
    rdy_blocking_close(&resolve->job);
    return rc == 0 ? result : rc;
}

int rdy_resolve_poll(struct rdy_resolve *resolve, struct rdy_task *task,
                     struct rdy_address_list *list)
{
    int result = 0;
    int rc;

    if (!resolve->has_result) {
        rc = rdy_blocking_poll(&resolve->job, task, &result);
        return rc == RDY_PENDING ? rc : resolve_finish(resolve, rc, result, list);
    }
    if (!rdy_task_may_spend(task))
        return RDY_PENDING;
    rdy_task_spend(task);
    result = resolve->result;
    if (result == 0)
        *list = resolve->list;
    *resolve = (struct rdy_resolve){0};
    return result;
}

void rdy_resolve_cancel(struct rdy_resolve *resolve)
{
    rdy_blocking_close(&resolve->job);
    rdy_address_list_free(&resolve->list);
    *resolve = (struct rdy_resolve){0};
}

int rdy_resolve_wait(const char *host, const char *service, const struct rdy_resolve_hints *hints,
                     struct rdy_address_list *list)
{
    struct question question;
    int result;
    int rc = question_make(&question, host, service, hints);

    if (rc < 0)
        return rc;
    if (!ask_at_once(&question, &result))
        result = ask(&question, rdy_sys_lookup(), 0);
    if (result == 0)
        *list = question.list;
    return result;
}

const char *rdy_resolve_error_text(int rc)
{
    static const struct {
        int rc;
        const char *text;
    } texts[] = {
        {0, "resolved"},
        {RDY_PENDING, "not yet resolved"},
        {-ENOENT, "no such host or service"},
        {-ENODATA, "the host has no address of that family"},
        {-EHOSTDOWN, "no name server has answered"},
        {-EREMOTEIO, "a name server has answered that it cannot"},
        {-EPROTONOSUPPORT, "the service is none for that type of socket"},
        {-EAFNOSUPPORT, "no addresses of that family here"},
        {-ESOCKTNOSUPPORT, "no sockets of that type here"},
        {-EINVAL, "not a host and a service"},
        {-ENOMEM, "out of memory"},
        {-ENFILE, "too many lookups at once"},
        {-EMFILE, "too many open files"},
        {-EAGAIN, "no thread to look it up"},
        {-ETIMEDOUT, "the lookup took too long"},
        {-ECANCELED, "the lookup was cancelled"},
        {-ESHUTDOWN, "the pool is shut down"},
        {-EOWNERDEAD, "not in a forked child"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].rc == rc)
            return texts[i].text;
    }
    return "the lookup failed";
}
