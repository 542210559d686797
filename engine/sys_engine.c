/* SPDX-License-Identifier: MIT */
/* The system calls of an engine of several threads. Any thread may call any of them. */
#include "engine/sys_engine.h"
#include "engine/sys.h"
#include "engine/sys_call.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

static_assert(RDY_SYS_CPUS_MAX % CPU_SETSIZE == 0, "whole sets");
static_assert(sizeof(struct rdy_sys_cpus) == RDY_SYS_CPUS_MAX / 8, "a bit each, and no gap");

/* --- processors --- */

int rdy_sys_cpus_get(struct rdy_sys_cpus *cpus)
{
    int before = errno;

    memset(cpus, 0, sizeof(*cpus));
    return (int)rdy_sys_end(before, rdy_sys_try(sched_getaffinity(0, sizeof(*cpus), cpus->sets)));
}

uint32_t rdy_sys_cpus_count(const struct rdy_sys_cpus *cpus)
{
    return (uint32_t)CPU_COUNT_S(sizeof(*cpus), cpus->sets);
}

uint32_t rdy_sys_cpus_nth(const struct rdy_sys_cpus *cpus, uint32_t index)
{
    uint32_t left;

    rdy_assert(rdy_sys_cpus_count(cpus) > 0);
    left = index % rdy_sys_cpus_count(cpus);
    for (uint32_t cpu = 0; cpu < RDY_SYS_CPUS_MAX; cpu++) {
        if (CPU_ISSET_S(cpu, sizeof(*cpus), cpus->sets) && left-- == 0)
            return cpu;
    }
    rdy_panic("a processor is there", __FILE__, __LINE__);
}

int rdy_sys_pin(uint32_t cpu)
{
    struct rdy_sys_cpus one;
    int before = errno;

    rdy_assert(cpu < RDY_SYS_CPUS_MAX);
    memset(&one, 0, sizeof(one));
    CPU_SET_S(cpu, sizeof(one), one.sets);
    return (int)rdy_sys_end(before, rdy_sys_try(sched_setaffinity(0, sizeof(one), one.sets)));
}

/* The begin of a small file as a string; false if it cannot be read. */
static bool file_begin(const char *path, char *text, size_t text_size)
{
    int before = errno;
    ssize_t len = -1;
    int fd = (int)rdy_sys_try(open(path, O_RDONLY | O_CLOEXEC));

    if (fd >= 0) {
        len = rdy_sys_try(read(fd, text, text_size - 1));
        (void)rdy_sys_close(fd);
    }
    if (rdy_sys_end(before, len) < 0)
        return false;
    text[len] = '\0';
    return true;
}

/* "QUOTA PERIOD", both in microseconds, or "max PERIOD". */
static uint32_t quota_of(const char *folder)
{
    unsigned long long quota_us;
    unsigned long long period_us;
    char path[512];
    char text[64];
    int len = snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", folder);

    if (len < 0 || (size_t)len >= sizeof(path) || !file_begin(path, text, sizeof(text)))
        return UINT32_MAX;
    if (sscanf(text, "%llu %llu", &quota_us, &period_us) != 2 || period_us == 0)
        return UINT32_MAX;
    quota_us = (quota_us + period_us - 1) / period_us;
    return quota_us < UINT32_MAX ? (uint32_t)quota_us : UINT32_MAX;
}

/* The folder of version 2 in "0::FOLDER", a line of @text; NULL if there is none, or half of it. */
static char *folder_of(char *text)
{
    char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    char *folder = line ? strchr(line, '/') : NULL;
    char *end = folder ? strchr(folder, '\n') : NULL;

    if (!end)
        return NULL;
    *end = '\0';
    return folder;
}

uint32_t rdy_sys_cpu_quota(void)
{
    uint32_t least = UINT32_MAX;
    char text[1024];
    char *folder;
    char *end;

    if (!file_begin("/proc/self/cgroup", text, sizeof(text)))
        return UINT32_MAX;
    folder = folder_of(text);
    if (!folder)
        return UINT32_MAX;
    end = folder + strlen(folder);
    do { /* the group's own folder, then each above it; the last is "" */
        uint32_t quota;

        *end = '\0';
        quota = quota_of(folder);
        least = quota < least ? quota : least;
        end = strrchr(folder, '/');
    } while (end);
    return least;
}

/* --- waiting --- */

static int signal_take(int fd)
{
    struct signalfd_siginfo info;
    ssize_t len = rdy_sys_try(read(fd, &info, sizeof(info)));

    if (len < 0)
        return -1;
    rdy_assert(len == (ssize_t)sizeof(info));
    return (int)info.ssi_signo;
}

/* EAGAIN: another thread took the signal. EINTR: one came that we were not asked for. */
static int await_either(struct pollfd *items)
{
    int rc;

    for (;;) {
        rc = (int)rdy_sys_try(poll(items, 2, -1));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return -1;
        if (items[0].revents == 0)
            return 0;
        rc = signal_take(items[0].fd);
        if (rc >= 0 || (errno != EAGAIN && errno != EINTR))
            return rc;
    }
}

int rdy_sys_signal_fd(int fd, const sigset_t *signals)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(signalfd(fd, signals, SFD_NONBLOCK | SFD_CLOEXEC)));
}

int rdy_sys_await_signal(int signal_fd, int event_fd)
{
    struct pollfd items[2] = {{.fd = signal_fd, .events = POLLIN},
                              {.fd = event_fd, .events = POLLIN}};
    int before = errno;

    return (int)rdy_sys_end(before, await_either(items));
}

int rdy_sys_dup(int fd)
{
    int before = errno;

    return (int)rdy_sys_end(before, rdy_sys_try(fcntl(fd, F_DUPFD_CLOEXEC, 0)));
}
