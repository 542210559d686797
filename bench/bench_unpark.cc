/* SPDX-License-Identifier: MIT */
/*
 * Waking a driver from another thread. The round trip: two threads on two processors, each blocked
 * in a turn of its own driver until the other unparks it. Beside it: the same between two blocking
 * eventfds, the cheapest descriptor that can wake a thread. And the unpark of a driver that is not
 * blocked, which makes no system call.
 */
#include <atomic>
#include <memory>
#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr uint64_t kStop = UINT64_MAX;

// Where a thread sleeps until the other one wakes it.
class Bed
{
  public:
    virtual ~Bed() = default;
    // Nullptr, or why it cannot be slept in.
    virtual const char *why() const = 0;
    virtual const char *name() const = 0;
    // May end early; false: it broke.
    virtual bool sleep() = 0;
    virtual void wake() = 0;
};

class EventBed : public Bed
{
  public:
    ~EventBed() override
    {
        close(fd_);
    }
    const char *why() const override
    {
        return fd_ < 0 ? "no eventfd" : nullptr;
    }
    const char *name() const override
    {
        return "eventfd";
    }
    bool sleep() override
    {
        uint64_t count;

        return read(fd_, &count, sizeof(count)) == static_cast<ssize_t>(sizeof(count));
    }
    void wake() override
    {
        (void)rdy_bench::EventFds::raise(fd_);
    }

  private:
    int fd_ = eventfd(0, EFD_CLOEXEC);
};

class DriverBed : public Bed
{
  public:
    explicit DriverBed(int64_t backend) : driver_(backend)
    {
    }
    const char *why() const override
    {
        return driver_.is_open() ? nullptr : driver_.why().c_str();
    }
    const char *name() const override
    {
        return driver_.is_open() ? rdy_driver_backend_name(driver_.get()) : "none";
    }
    bool sleep() override
    {
        return rdy_driver_turn(driver_.get(), -1) >= 0;
    }
    void wake() override
    {
        rdy_driver_unpark(driver_.get());
    }

  private:
    rdy_bench::Driver driver_;
};

std::unique_ptr<Bed> make_bed(int64_t backend)
{
    if (backend == rdy_bench::kRaw)
        return std::make_unique<EventBed>();
    return std::make_unique<DriverBed>(backend);
}

// The word that one side writes and the other waits for, with the bed that the other sleeps in.
struct Mailbox {
    std::atomic<uint64_t> word{0};
    std::atomic<Bed *> bed{nullptr};

    void send(uint64_t value)
    {
        word.store(value, std::memory_order_release); // pairs with the acquire in await()
        bed.load(std::memory_order_acquire)->wake();
    }
    // Sleeps until the word differs from `seen`; a sleep may end early.
    bool await(uint64_t seen, uint64_t *value)
    {
        while ((*value = word.load(std::memory_order_acquire)) == seen)
            if (!bed.load(std::memory_order_relaxed)->sleep())
                return false;
        return true;
    }
};

// Answers each number with itself, until kStop.
void answer(int64_t backend, Mailbox *questions, Mailbox *answers, std::atomic<int> *is_up)
{
    const rdy_bench::Pinned pinned(1);
    const std::unique_ptr<Bed> bed = make_bed(backend);
    uint64_t value = 0;

    questions->bed.store(bed.get(), std::memory_order_release);
    is_up->store(bed->why() ? -1 : 1, std::memory_order_release);
    if (bed->why())
        return;
    while (questions->await(value, &value) && value != kStop)
        answers->send(value);
    // The bed must outlive the last wake: the asker says so by a second word.
    while (is_up->load(std::memory_order_acquire) != 2)
        std::this_thread::yield();
}

void round_trips(benchmark::State &state, Mailbox *questions, Mailbox *answers)
{
    uint64_t asked = 0;
    uint64_t answered = 0;

    for (auto _ : state) {
        questions->send(++asked);
        if (!answers->await(answered, &answered) || answered != asked) {
            state.SkipWithError("the answer was not the question");
            break;
        }
    }
    questions->send(kStop);
}

void unpark_round_trip(benchmark::State &state)
{
    const int64_t backend = state.range(0);
    const rdy_bench::Pinned pinned(0);
    const std::unique_ptr<Bed> bed = make_bed(backend);
    std::atomic<int> is_up{0};
    Mailbox questions;
    Mailbox answers;

    if (bed->why()) {
        state.SkipWithError(bed->why());
        return;
    }
    answers.bed.store(bed.get(), std::memory_order_release);
    std::thread other(answer, backend, &questions, &answers, &is_up);
    while (is_up.load(std::memory_order_acquire) == 0)
        std::this_thread::yield();
    if (is_up.load(std::memory_order_acquire) == 1)
        round_trips(state, &questions, &answers);
    else
        state.SkipWithError("the other thread has nowhere to sleep");
    is_up.store(2, std::memory_order_release);
    other.join();
    rdy_bench::each(state, 1);
    state.SetLabel(bed->name());
}
BENCHMARK(unpark_round_trip)
    ->ArgName("backend")
    ->Arg(rdy_bench::kRaw)
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->UseRealTime();

void unpark_awake(benchmark::State &state)
{
    const rdy_bench::Driver driver(state.range(0));

    if (!driver.is_open()) {
        state.SkipWithError(driver.why().c_str());
        return;
    }
    for (auto _ : state)
        rdy_driver_unpark(driver.get());
    rdy_bench::each(state, 1);
    state.counters["calls"] = benchmark::Counter(static_cast<double>(driver.stats().unparks),
                                                 benchmark::Counter::kAvgIterations);
    state.SetLabel(rdy_driver_backend_name(driver.get()));
}
BENCHMARK(unpark_awake)->ArgName("backend")->Arg(rdy_bench::kUring)->Arg(rdy_bench::kEpoll);

const rdy_bench::AddGoal uring("unpark: round trip, io_uring / bare eventfd",
                               "unpark_round_trip/backend:1", "unpark_round_trip/backend:0", 0);
const rdy_bench::AddGoal epoll("unpark: round trip, epoll / bare eventfd",
                               "unpark_round_trip/backend:2", "unpark_round_trip/backend:0", 0);
const rdy_bench::AddGoal between("unpark: round trip, io_uring / epoll",
                                 "unpark_round_trip/backend:1", "unpark_round_trip/backend:2", 0);
const rdy_bench::AddGoal awake("unpark: of a driver that is awake", "unpark_awake/backend:1", "",
                               0);

} // namespace
