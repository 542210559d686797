/* SPDX-License-Identifier: MIT */
/* What the bench files share; see support.h. */
#include "bench/support.h"

#include <cstring>
#include <ctime>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace rdy_bench
{

// A function's static: goals are registered before main(), in no certain order.
static std::vector<Goal> &goals_list()
{
    static std::vector<Goal> list;
    return list;
}

AddGoal::AddGoal(const char *what, const char *name, const char *against, double limit)
{
    goals_list().push_back({what, name, against, limit});
}

const std::vector<Goal> &goals()
{
    return goals_list();
}

void each(benchmark::State &state, double count)
{
    state.counters["each"] = benchmark::Counter(
        count, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

static uint64_t clock_ns(clockid_t clock)
{
    timespec now = {};

    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t now_ns()
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cpu_ns()
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

Driver::Driver(int64_t backend)
{
    rdy_driver_opts opts = {};
    int rc;

    opts.size = sizeof(opts);
    opts.backend = static_cast<rdy_backend_kind>(backend);
    rc = rdy_driver_open(&driver_, &opts);
    if (rc != 0) {
        driver_ = nullptr;
        why_ = std::string("the driver did not open: ") + std::strerror(-rc);
    }
}

Driver::~Driver()
{
    rdy_driver_close(driver_);
}

struct rdy_driver_stats Driver::stats() const
{
    struct rdy_driver_stats stats;

    ::rdy_driver_read_stats(driver_, &stats);
    return stats;
}

rdy_runtime_opts runtime_opts(int64_t backend)
{
    rdy_runtime_opts opts = {};

    opts.size = sizeof(opts);
    opts.driver.size = sizeof(opts.driver);
    opts.driver.backend = static_cast<rdy_backend_kind>(backend);
    return opts;
}

Runtime::Runtime(const rdy_runtime_opts &opts)
{
    if (rdy_runtime_open(&runtime_, &opts) != 0)
        runtime_ = nullptr;
}

Runtime::~Runtime()
{
    rdy_runtime_close(runtime_);
}

bool Runtime::run() const
{
    return runtime_ != nullptr && rdy_runtime_run(runtime_) == 0;
}

bool Runtime::spawn_sized(rdy_poll_fn *poll, size_t self_size, void **self, rdy_task_id *id) const
{
    rdy_task_spec spec = {};

    spec.poll = poll;
    spec.self_size = self_size;
    return runtime_ != nullptr && rdy_spawn(runtime_, &spec, self, id) == 0;
}

EventFds::EventFds(size_t count)
{
    rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (size_t i = 0; i < count; i++) {
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

        if (fd < 0) {
            is_open_ = false;
            return;
        }
        fds_.push_back(fd);
    }
}

EventFds::~EventFds()
{
    for (int fd : fds_)
        close(fd);
}

bool EventFds::raise(int fd)
{
    const uint64_t one = 1;

    return write(fd, &one, sizeof(one)) == static_cast<ssize_t>(sizeof(one));
}

Connection::Connection()
{
    sockaddr_in address = {};
    sockaddr *const generic = reinterpret_cast<sockaddr *>(&address);
    socklen_t len = sizeof(address);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int one = 1;

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    outside_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, generic, len) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, generic, &len) == 0 && connect(outside_, generic, len) == 0)
        inside_ = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listener);
    for (int fd : {outside_, inside_})
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

Connection::~Connection()
{
    close(outside_);
    if (inside_ >= 0)
        close(inside_);
}

int Connection::take_inside()
{
    const int fd = inside_;

    inside_ = -1;
    return fd;
}

Pinned::Pinned(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&before_);
    sched_getaffinity(0, sizeof(before_), &before_);
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(cpu), &set);
    // Refused where there is no such processor: then the row runs unpinned.
    (void)sched_setaffinity(0, sizeof(set), &set);
}

Pinned::~Pinned()
{
    (void)sched_setaffinity(0, sizeof(before_), &before_);
}

} // namespace rdy_bench
