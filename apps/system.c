/* SPDX-License-Identifier: MIT */
#include "apps/system.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

static uint64_t timespec_ns(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

static uint64_t timeval_ns(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_usec * 1000;
}

uint64_t system_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return timespec_ns(&now);
}

void system_cpu_ns(uint64_t *user_ns, uint64_t *kernel_ns)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    *user_ns = timeval_ns(&usage.ru_utime);
    *kernel_ns = timeval_ns(&usage.ru_stime);
}

int system_cpu_of_ns(pid_t pid, uint64_t *cpu_ns)
{
    struct timespec used;
    clockid_t clock;
    int rc = clock_getcpuclockid(pid, &clock); /* a positive errno, unlike most calls */

    if (rc != 0)
        return -rc;
    if (clock_gettime(clock, &used) < 0)
        return -errno;
    *cpu_ns = timespec_ns(&used);
    return 0;
}

uint64_t system_rss_max_bytes(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

int system_rss_of_bytes(pid_t pid, uint64_t *rss_bytes)
{
    char path[64];
    char line[128];
    unsigned long long kib = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return -errno;
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    }
    (void)fclose(file);
    *rss_bytes = kib * 1024;
    return kib > 0 ? 0 : -ENOENT;
}

uint64_t system_files_max(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* refused: the old limit is what we report */
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur;
}

uint32_t system_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return (uint32_t)CPU_COUNT(&set);
}

int system_pin(uint32_t index)
{
    cpu_set_t set;
    cpu_set_t one;
    uint32_t left;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return -errno;
    left = index % (uint32_t)CPU_COUNT(&set);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        if (left-- == 0) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    return sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0;
}
