/* SPDX-License-Identifier: MIT */
/*
 * A turn of the driver with N ready eventfds, each with a waker in its read slot: the wait, the
 * readiness, the wakes. Rows of one run: bare epoll_wait(2) on the same files, io_uring, epoll.
 * Raising the events and leaving the wakers is not timed. A ring hands out its work in portions,
 * so a round turns until everybody is woken; "turns" says how many turns that took.
 */
#include <cstring>
#include <memory>

#include <sys/epoll.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr int kTurnsMax = 10000;

void count_wake(void *arg, uint64_t data)
{
    *static_cast<uint64_t *>(arg) += data;
}

// One side of the comparison: leaves waits, raises events, and takes them.
class Side
{
  public:
    virtual ~Side() = default;
    // Nullptr, or what went wrong.
    virtual const char *prepare() = 0;
    virtual const char *take() = 0;
    virtual void report(benchmark::State &state) = 0;
};

class Raw : public Side
{
  public:
    explicit Raw(const rdy_bench::EventFds &fds)
        : fds_(fds), events_(fds.fds().size() + 1), epoll_fd_(epoll_create1(EPOLL_CLOEXEC))
    {
        for (int fd : fds_.fds()) {
            epoll_event event = {};

            event.events = EPOLLIN | EPOLLET;
            event.data.ptr = &taken_;
            if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0)
                is_open_ = false;
        }
    }
    ~Raw() override
    {
        close(epoll_fd_);
    }
    const char *prepare() override
    {
        for (int fd : fds_.fds())
            if (!is_open_ || !rdy_bench::EventFds::raise(fd))
                return "an event could not be raised";
        return nullptr;
    }
    const char *take() override
    {
        const uint64_t want = taken_ + fds_.fds().size();

        for (int turn = 0; turn < kTurnsMax; turn++) {
            const int count =
                epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), 0);

            waits_++;
            for (int i = 0; i < count; i++)
                count_wake(events_[static_cast<size_t>(i)].data.ptr, 1);
            if (taken_ >= want)
                return nullptr;
        }
        return "an event did not come";
    }
    void report(benchmark::State &state) override
    {
        const double waits = static_cast<double>(waits_);

        state.counters["turns"] = benchmark::Counter(waits, benchmark::Counter::kAvgIterations);
        state.counters["calls"] = benchmark::Counter(waits, benchmark::Counter::kAvgIterations);
        state.SetLabel("epoll_wait");
    }

  private:
    const rdy_bench::EventFds &fds_;
    std::vector<epoll_event> events_;
    int epoll_fd_;
    bool is_open_ = true;
    uint64_t taken_ = 0;
    uint64_t waits_ = 0;
};

class Engine : public Side
{
  public:
    Engine(const rdy_bench::EventFds &fds, int64_t backend)
        : fds_(fds), driver_(backend), regs_(fds.fds().size())
    {
        for (size_t i = 0; driver_.is_open() && i < regs_.size(); i++)
            if (rdy_register(driver_.get(), fds.fds()[i], RDY_INTEREST_READ, &regs_[i]) != 0)
                is_registered_ = false;
        // The arms reach the kernel with the first turn, which is no part of the bench.
        if (driver_.is_open() && rdy_driver_turn(driver_.get(), 0) < 0)
            is_registered_ = false;
        if (driver_.is_open())
            before_ = driver_.stats();
    }
    ~Engine() override
    {
        for (rdy_registration &reg : regs_)
            rdy_deregister(&reg);
    }
    const char *prepare() override
    {
        const rdy_waker waker = {count_wake, &woken_, 1};
        rdy_event event;

        if (!driver_.is_open())
            return driver_.why().c_str();
        if (!is_registered_)
            return "an eventfd could not be registered";
        for (size_t i = 0; i < regs_.size(); i++) {
            rdy_clear_readiness(&regs_[i], rdy_ready_event(&regs_[i], RDY_INTEREST_READ));
            if (rdy_poll_readiness(&regs_[i], RDY_DIRECTION_READ, &waker, &event) != RDY_PENDING)
                return "a wait was answered early";
            if (!rdy_bench::EventFds::raise(fds_.fds()[i]))
                return "an event could not be raised";
        }
        return nullptr;
    }
    const char *take() override
    {
        const uint64_t want = woken_ + regs_.size();

        for (int turn = 0; turn < kTurnsMax; turn++) {
            if (rdy_driver_turn(driver_.get(), 0) < 0)
                return "a turn failed";
            if (woken_ >= want)
                return nullptr;
        }
        return "a waker did not run";
    }
    void report(benchmark::State &state) override
    {
        if (!driver_.is_open())
            return;

        const struct rdy_driver_stats after = driver_.stats();

        state.counters["turns"] = benchmark::Counter(
            static_cast<double>(after.turns - before_.turns), benchmark::Counter::kAvgIterations);
        state.counters["calls"] =
            benchmark::Counter(static_cast<double>(after.system_calls - before_.system_calls),
                               benchmark::Counter::kAvgIterations);
        state.SetLabel(rdy_driver_backend_name(driver_.get()));
    }

  private:
    const rdy_bench::EventFds &fds_;
    rdy_bench::Driver driver_;
    std::vector<rdy_registration> regs_;
    struct rdy_driver_stats before_ = {};
    bool is_registered_ = true;
    uint64_t woken_ = 0;
};

void turn(benchmark::State &state)
{
    const size_t ready = static_cast<size_t>(state.range(1));
    const rdy_bench::EventFds fds(ready);
    std::unique_ptr<Side> side;

    if (state.range(0) == rdy_bench::kRaw)
        side = std::make_unique<Raw>(fds);
    else
        side = std::make_unique<Engine>(fds, state.range(0));
    for (auto _ : state) {
        const char *why = fds.is_open() ? side->prepare() : "too few descriptors";
        uint64_t start_ns = rdy_bench::now_ns();

        why = why ? why : side->take();
        state.SetIterationTime(static_cast<double>(rdy_bench::now_ns() - start_ns) / 1e9);
        if (why) {
            state.SkipWithError(why);
            return;
        }
    }
    side->report(state);
    // A round without events costs a turn; with events, what matters is what each of them cost.
    rdy_bench::each(state, static_cast<double>(ready ? ready : 1));
}
BENCHMARK(turn)
    ->ArgNames({"backend", "ready"})
    ->ArgsProduct({{rdy_bench::kRaw, rdy_bench::kUring, rdy_bench::kEpoll}, {0, 1, 64, 1024}})
    ->UseManualTime();

#define TURN_GOALS(n)                                                                              \
    const rdy_bench::AddGoal uring_epoll_##n("turn: io_uring / epoll, " #n " ready",               \
                                             "turn/backend:1/ready:" #n,                           \
                                             "turn/backend:2/ready:" #n, 0);                       \
    const rdy_bench::AddGoal uring_raw_##n("turn: io_uring / bare epoll_wait, " #n " ready",       \
                                           "turn/backend:1/ready:" #n, "turn/backend:0/ready:" #n, \
                                           0);                                                     \
    const rdy_bench::AddGoal epoll_raw_##n("turn: epoll / bare epoll_wait, " #n " ready",          \
                                           "turn/backend:2/ready:" #n, "turn/backend:0/ready:" #n, \
                                           0)

TURN_GOALS(0);
TURN_GOALS(1);
TURN_GOALS(64);
TURN_GOALS(1024);

} // namespace
