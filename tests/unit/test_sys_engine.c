/* SPDX-License-Identifier: MIT */
/*
 * What a container may use of the processors, read from files that the test wrote: open() is put
 * in front of the C library's by the linker. And the wait for a signal, with each trip failing.
 */
#include "engine/sys_engine.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/sys.h"
#include "tests/support/check.h"

#define FAULT     EDQUOT /* none that the kernel would give */
#define FILES_MAX 4

/* What there is to be read; NULL: there is no such file. */
static struct {
    const char *path;
    const char *text;
} files[FILES_MAX];

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

/* Of other paths the C library's own is asked: builds for coverage open files, too. */
int __wrap_open(const char *path, int flags, ...)
{
    if (strncmp(path, "/proc/self/cgroup", 17) != 0 && strncmp(path, "/sys/fs/cgroup/", 15) != 0)
        return __real_open(path, flags, 0666);
    assert_int_equal(flags, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < FILES_MAX; i++) {
        int fd;

        if (!files[i].path || strcmp(files[i].path, path) != 0)
            continue;
        fd = memfd_create("file", MFD_CLOEXEC);
        assert_int_equal(write(fd, files[i].text, strlen(files[i].text)), strlen(files[i].text));
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
    }
    errno = ENOENT;
    return -1;
}

static void group_is(const char *text)
{
    memset(files, 0, sizeof(files));
    if (!text)
        return;
    files[0].path = "/proc/self/cgroup";
    files[0].text = text;
}

static void limit_is(size_t at, const char *path, const char *text)
{
    files[at].path = path;
    files[at].text = text;
}

static void quota_is_the_least_of_the_groups_above(void **state)
{
    (void)state;
    group_is("0::/outer/inner\n");
    assert_int_equal(rdy_sys_cpu_quota(), UINT32_MAX); /* no file of a limit */
    limit_is(1, "/sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    limit_is(2, "/sys/fs/cgroup/outer/cpu.max", "400000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 4);
    limit_is(3, "/sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 3);
    limit_is(1, "/sys/fs/cgroup/outer/inner/cpu.max", "50000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 1); /* half a processor is one that may be used */
    limit_is(1, "/sys/fs/cgroup/outer/inner/cpu.max", "150000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 2);
}

static void group_of_version_two_is_found_beside_others(void **state)
{
    (void)state;
    group_is("12:cpu,cpuacct:/old\n1:name=systemd:/old\n0::/new\n");
    limit_is(1, "/sys/fs/cgroup/new/cpu.max", "200000 100000\n");
    limit_is(2, "/sys/fs/cgroup/old/cpu.max", "100000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 2);
    group_is("0::/\n");
    limit_is(1, "/sys/fs/cgroup/cpu.max", "700000 100000\n");
    assert_int_equal(rdy_sys_cpu_quota(), 7);
}

/* What cannot be read or understood limits nothing. */
static void what_is_not_understood_is_no_limit(void **state)
{
    static const char *const limits[] = {"", "many 100000\n", "100000\n", "100000 0\n",
                                         "18446744073709551615 1\n"};
    static const char *const groups[] = {"", "1:cpu:/old\n", "0::/cut off", "0::\n"};
    char path[1024];

    (void)state;
    group_is(NULL);
    assert_int_equal(rdy_sys_cpu_quota(), UINT32_MAX);
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        group_is(groups[i]);
        limit_is(1, "/sys/fs/cgroup/cpu.max", "100000 100000\n");
        assert_int_equal(rdy_sys_cpu_quota(), UINT32_MAX);
    }
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        group_is("0::/group\n");
        limit_is(1, "/sys/fs/cgroup/group/cpu.max", limits[i]);
        assert_int_equal(rdy_sys_cpu_quota(), UINT32_MAX);
    }
    (void)snprintf(path, sizeof(path), "0::/%0600d\n", 0);
    group_is(path);
    assert_int_equal(rdy_sys_cpu_quota(), UINT32_MAX);
}

/* Whichever trip fails, nothing stays open. */
static void file_that_cannot_be_read_is_no_limit(void **state)
{
    int next = eventfd(0, EFD_CLOEXEC);
    int again;

    (void)state;
    group_is("0::/group\n");
    limit_is(1, "/sys/fs/cgroup/group/cpu.max", "100000 100000\n");
    for (uint64_t nth = 1; nth <= 6; nth++) { /* open, read, close, twice */
        (void)rdy_sys_fail_nth(nth, FAULT);
        assert_int_equal(rdy_sys_cpu_quota(), nth % 3 == 0 ? 1 : UINT32_MAX);
        (void)rdy_sys_fail_nth(0, 0);
    }
    assert_int_equal(close(next), 0);
    again = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(again, next);
    assert_int_equal(close(again), 0);
}

/* --- waiting for a signal --- */

struct waiting {
    sigset_t signals;
    sigset_t before;
    int signal_fd;
    int event_fd;
};

static void waiting_open(struct waiting *waiting)
{
    (void)sigemptyset(&waiting->signals);
    (void)sigaddset(&waiting->signals, SIGUSR1);
    assert_int_equal(sigprocmask(SIG_BLOCK, &waiting->signals, &waiting->before), 0);
    waiting->signal_fd = rdy_sys_signal_fd(-1, &waiting->signals);
    waiting->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(waiting->signal_fd >= 0 && waiting->event_fd >= 0);
}

static void waiting_close(struct waiting *waiting)
{
    assert_int_equal(close(waiting->signal_fd), 0);
    assert_int_equal(close(waiting->event_fd), 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, &waiting->before, NULL), 0);
}

/* An interruption is none of the waits' business; and a signal may be taken by somebody else. */
static void wait_goes_on_behind_what_it_was_not_asked_for(void **state)
{
    struct waiting waiting;

    (void)state;
    waiting_open(&waiting);
    for (uint64_t nth = 1; nth <= 2; nth++) { /* poll, read */
        static const int passing[] = {EINTR, EAGAIN};

        for (size_t i = 0; i < 2; i++) {
            if (nth == 1 && passing[i] == EAGAIN)
                continue; /* no answer of poll(2) */
            assert_int_equal(kill(getpid(), SIGUSR1), 0);
            (void)rdy_sys_fail_nth(nth, passing[i]);
            assert_int_equal(rdy_sys_await_signal(waiting.signal_fd, waiting.event_fd), SIGUSR1);
            (void)rdy_sys_fail_nth(0, 0);
        }
    }
    waiting_close(&waiting);
}

static void wait_that_fails_says_so_and_the_signal_is_still_there(void **state)
{
    struct waiting waiting;

    (void)state;
    waiting_open(&waiting);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)rdy_sys_fail_nth(nth, FAULT);
        assert_int_equal(rdy_sys_await_signal(waiting.signal_fd, waiting.event_fd), -FAULT);
        (void)rdy_sys_fail_nth(0, 0);
    }
    assert_int_equal(rdy_sys_await_signal(waiting.signal_fd, waiting.event_fd), SIGUSR1);
    assert_int_equal(rdy_sys_eventfd_write(waiting.event_fd), 0);
    assert_int_equal(rdy_sys_await_signal(waiting.signal_fd, waiting.event_fd), 0);
    assert_int_equal(rdy_sys_await_signal(-1, waiting.event_fd), 0);
    waiting_close(&waiting);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_is_the_least_of_the_groups_above),
        cmocka_unit_test(group_of_version_two_is_found_beside_others),
        cmocka_unit_test(what_is_not_understood_is_no_limit),
        cmocka_unit_test(file_that_cannot_be_read_is_no_limit),
        cmocka_unit_test(wait_goes_on_behind_what_it_was_not_asked_for),
        cmocka_unit_test(wait_that_fails_says_so_and_the_signal_is_still_there),
    };

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
