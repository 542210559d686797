/* SPDX-License-Identifier: MIT */
/*
 * The life of a registration without an event: registered, armed by a turn, deregistered, let go
 * of by the kernel in the turns that follow. A batch of 64, because a ring does both sides of it in
 * batches. Beside it: epoll_ctl(2) ADD and DEL with an epoll_wait(2) in between.
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr size_t kBatch = 64;
constexpr int kTurnsMax = 1000;

const char *raw_round(int epoll_fd, const std::vector<int> &fds)
{
    epoll_event events[kBatch];

    for (int fd : fds) {
        epoll_event event = {};

        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
        event.data.fd = fd;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
            return "EPOLL_CTL_ADD failed";
    }
    if (epoll_wait(epoll_fd, events, kBatch, 0) != 0)
        return "an event that nobody raised";
    for (int fd : fds)
        if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, nullptr) != 0)
            return "EPOLL_CTL_DEL failed";
    return nullptr;
}

void raw_register(benchmark::State &state)
{
    const rdy_bench::EventFds fds(kBatch);
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    for (auto _ : state) {
        const char *why = raw_round(epoll_fd, fds.fds());

        if (why) {
            state.SkipWithError(why);
            break;
        }
    }
    close(epoll_fd);
    rdy_bench::each(state, kBatch);
    state.SetLabel("epoll_ctl");
}

const char *engine_round(const rdy_bench::Driver &driver, const std::vector<int> &fds)
{
    rdy_registration regs[kBatch];

    for (size_t i = 0; i < kBatch; i++)
        if (rdy_register(driver.get(), fds[i], RDY_INTEREST_READ, &regs[i]) != 0)
            return "rdy_register failed";
    if (rdy_driver_turn(driver.get(), 0) != 0)
        return "an event that nobody raised";
    for (rdy_registration &reg : regs)
        if (rdy_deregister(&reg) != 0)
            return "rdy_deregister failed";
    for (int turn = 0; turn < kTurnsMax; turn++) {
        if (driver.stats().entries_live == 0)
            return nullptr;
        if (rdy_driver_turn(driver.get(), 0) < 0)
            return "a turn failed";
    }
    return "an entry was not given back";
}

void engine_register(benchmark::State &state)
{
    const rdy_bench::EventFds fds(kBatch);
    const rdy_bench::Driver driver(state.range(0));

    if (!driver.is_open()) {
        state.SkipWithError(driver.why().c_str());
        return;
    }

    const struct rdy_driver_stats before = driver.stats();

    for (auto _ : state) {
        const char *why = engine_round(driver, fds.fds());

        if (why) {
            state.SkipWithError(why);
            return;
        }
    }
    rdy_bench::each(state, kBatch);
    state.counters["calls"] =
        benchmark::Counter(static_cast<double>(driver.stats().system_calls - before.system_calls) /
                               static_cast<double>(kBatch),
                           benchmark::Counter::kAvgIterations);
    state.SetLabel(rdy_driver_backend_name(driver.get()));
}

void register_deregister(benchmark::State &state)
{
    if (state.range(0) == rdy_bench::kRaw)
        raw_register(state);
    else
        engine_register(state);
}
BENCHMARK(register_deregister)
    ->ArgName("backend")
    ->Arg(rdy_bench::kRaw)
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->UseRealTime();

const rdy_bench::AddGoal uring("register + deregister: io_uring / epoll",
                               "register_deregister/backend:1", "register_deregister/backend:2", 0);
const rdy_bench::AddGoal epoll("register + deregister: epoll / bare epoll_ctl",
                               "register_deregister/backend:2", "register_deregister/backend:0", 0);

} // namespace
