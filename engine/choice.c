/* SPDX-License-Identifier: MIT */
/*
 * Choosing a backend, and explaining the choice.
 *
 * AUTO prefers io_uring and falls back to epoll; whoever names a backend gets that one or an error,
 * so that a test that asked for io_uring never tests epoll instead. The backends say what failed;
 * what that means to the person at the machine (a container's filter, a sysctl, a limit) is told
 * here, because the same errno has several causes.
 */
#include "engine/choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define ENV_NAME        "RDY_BACKEND"
#define SYSCTL_PATH     "/proc/sys/kernel/io_uring_disabled"
#define EXPLANATION_MAX 128
#define WHY_MAX         128

/* The value of kernel.io_uring_disabled, or -1 where there is no such sysctl (before Linux 6.6). */
static int sysctl_io_uring_disabled(void)
{
    char line[16] = "";
    FILE *file = fopen(SYSCTL_PATH, "re");
    int value = -1;

    if (!file)
        return -1;
    if (fgets(line, sizeof(line), file) && line[0] >= '0' && line[0] <= '9')
        value = line[0] - '0';
    (void)fclose(file);
    return value;
}

static void explain_refusal(char *text, size_t text_len)
{
    int disabled = sysctl_io_uring_disabled();

    if (disabled > 0)
        (void)snprintf(text, text_len, "blocked: the sysctl kernel.io_uring_disabled is %d",
                       disabled);
    else
        (void)snprintf(text, text_len, "blocked by a seccomp filter, as containers install");
}

static void explain_memory(char *text, size_t text_len)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        (void)snprintf(text, text_len, "RLIMIT_MEMLOCK is too small (%llu KiB for all of a user)",
                       (unsigned long long)limit.rlim_cur / 1024);
    else
        (void)snprintf(text, text_len, "the kernel has no memory for a ring");
}

/* Why io_uring cannot run: the likely cause of @error, else what the backend said. */
static void explain(int error, const char *why, char *text, size_t text_len)
{
    switch (error) {
    case -ENOSYS:
        (void)snprintf(text, text_len, "the kernel has no io_uring, or a sandbox hides it");
        return;
    case -EPERM:
    case -EACCES:
        explain_refusal(text, text_len);
        return;
    case -ENOMEM:
        explain_memory(text, text_len);
        return;
    case -EMFILE:
    case -ENFILE:
        (void)snprintf(text, text_len, "no file descriptor is left");
        return;
    default:
        (void)snprintf(text, text_len, "%s", why);
        return;
    }
}

/* 0 and @kind, or -EINVAL. */
static int read_environment(enum rdy_backend_kind *kind)
{
    const char *value = getenv(ENV_NAME);

    if (!value || value[0] == '\0' || strcmp(value, "auto") == 0)
        *kind = RDY_BACKEND_AUTO;
    else if (strcmp(value, "uring") == 0)
        *kind = RDY_BACKEND_URING;
    else if (strcmp(value, "epoll") == 0)
        *kind = RDY_BACKEND_EPOLL;
    else
        return -EINVAL;
    return 0;
}

bool rdy_choice_is_forced(void)
{
    enum rdy_backend_kind kind;

    return read_environment(&kind) == 0 && kind != RDY_BACKEND_AUTO;
}

/* Probes io_uring; on failure @text says why it cannot run. */
static int try_uring(char *text, size_t text_len)
{
    char why[WHY_MAX] = "";
    int rc;

    if (!rdy_backend_uring) {
        (void)snprintf(text, text_len, "it is not part of this build");
        return -EOPNOTSUPP;
    }
    rc = rdy_backend_uring->probe(NULL, why, sizeof(why));
    if (rc < 0)
        explain(rc, why, text, text_len);
    return rc;
}

static int choose_uring(const struct rdy_backend_ops **ops, const char *origin, char *reason,
                        size_t reason_len)
{
    char text[EXPLANATION_MAX];
    int rc = try_uring(text, sizeof(text));

    if (rc < 0) {
        (void)snprintf(reason, reason_len, "%s, but it cannot run: %s", origin, text);
        return rc;
    }
    (void)snprintf(reason, reason_len, "%s", origin);
    *ops = rdy_backend_uring;
    return 0;
}

static int choose_epoll(const struct rdy_backend_ops **ops, const char *origin, char *reason,
                        size_t reason_len)
{
    (void)snprintf(reason, reason_len, "%s", origin);
    if (!rdy_backend_epoll)
        return -EOPNOTSUPP;
    *ops = rdy_backend_epoll;
    return 0;
}

static int choose_freely(const struct rdy_backend_ops **ops, char *reason, size_t reason_len)
{
    char text[EXPLANATION_MAX];
    int rc = try_uring(text, sizeof(text));

    if (rc == 0) {
        (void)snprintf(reason, reason_len, "io_uring works here: it passed its smoke test");
        *ops = rdy_backend_uring;
        return 0;
    }
    /* Says nothing about io_uring, and epoll would need a descriptor as well. */
    if (rc == -EMFILE || rc == -ENFILE) {
        (void)snprintf(reason, reason_len, "%s", text);
        return rc;
    }
    (void)snprintf(reason, reason_len, "no io_uring: %s", text);
    if (!rdy_backend_epoll)
        return rc;
    *ops = rdy_backend_epoll;
    return 0;
}

int rdy_choose_backend(enum rdy_backend_kind wanted, const struct rdy_backend_ops **ops,
                       char *reason, size_t reason_len)
{
    bool is_named_by_environment = false;

    if (wanted == RDY_BACKEND_AUTO) {
        if (read_environment(&wanted) < 0) {
            (void)snprintf(reason, reason_len, ENV_NAME " is '%.32s'; use auto, uring or epoll",
                           getenv(ENV_NAME));
            return -EINVAL;
        }
        is_named_by_environment = wanted != RDY_BACKEND_AUTO;
    }

    switch (wanted) {
    case RDY_BACKEND_AUTO:
        return choose_freely(ops, reason, reason_len);
    case RDY_BACKEND_URING:
        return choose_uring(ops,
                            is_named_by_environment ? ENV_NAME " asks for io_uring"
                                                    : "the program asks for io_uring",
                            reason, reason_len);
    case RDY_BACKEND_EPOLL:
        return choose_epoll(ops,
                            is_named_by_environment ? ENV_NAME " asks for epoll"
                                                    : "the program asks for epoll",
                            reason, reason_len);
    default:
        (void)snprintf(reason, reason_len, "there is no backend number %d", (int)wanted);
        return -EINVAL;
    }
}

void rdy_report_add(struct rdy_probe_report *report, const char *name, bool is_present,
                    const char *why)
{
    struct rdy_capability *line;

    if (!report ||
        report->capabilities_count >= sizeof(report->capabilities) / sizeof(*report->capabilities))
        return;
    line = &report->capabilities[report->capabilities_count++];
    line->name = name;
    line->is_present = is_present;
    (void)snprintf(line->why, sizeof(line->why), "%s", why);
}

int rdy_probe(struct rdy_probe_report *report)
{
    const struct rdy_backend_ops *ops = NULL;
    char why[WHY_MAX] = "";

    if (!report || report->size != sizeof(*report))
        return -EINVAL;
    memset(report, 0, sizeof(*report));
    report->size = sizeof(*report);

    report->uring_result =
        rdy_backend_uring ? rdy_backend_uring->probe(report, why, sizeof(why)) : -EOPNOTSUPP;
    if (rdy_backend_epoll)
        (void)rdy_backend_epoll->probe(report, why, sizeof(why));
    (void)rdy_choose_backend(RDY_BACKEND_AUTO, &ops, report->auto_reason,
                             sizeof(report->auto_reason));
    (void)snprintf(report->auto_backend, sizeof(report->auto_backend), "%s",
                   ops ? ops->name : "none");
    return 0;
}
