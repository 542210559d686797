/* SPDX-License-Identifier: MIT */
/*
 * From worker to worker. The ping-pong: a task of one worker wakes a task of the other, which wakes
 * the first, each worker on a processor of its own, blocked while it has nothing to do. Beside it
 * the same between two threads with nothing but the system calls, over eventfds and over a futex.
 * And the post: each round trip is two tasks that are made, run and ended.
 *
 * An iteration is many round trips, timed by whoever makes them.
 */
#include <atomic>
#include <climits>
#include <string>
#include <thread>

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr uint64_t kTrips = 2000;

// One-way signal between two threads: counts up; the other waits until it has changed.
class EventSignal
{
  public:
    ~EventSignal()
    {
        close(fd_);
    }
    void raise()
    {
        (void)rdy_bench::EventFds::raise(fd_);
    }
    void await()
    {
        uint64_t count;

        (void)!read(fd_, &count, sizeof(count));
    }

  private:
    int fd_ = eventfd(0, EFD_CLOEXEC);
};

class FutexSignal
{
  public:
    void raise()
    {
        word_.fetch_add(1, std::memory_order_release);
        syscall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
    void await()
    {
        while (word_.load(std::memory_order_acquire) == seen_)
            syscall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, seen_, nullptr, nullptr, 0);
        seen_++;
    }

  private:
    std::atomic<uint32_t> word_{0};
    uint32_t seen_ = 0;
};

template <typename Signal> void raw_ping_pong(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    Signal question;
    Signal answer;
    std::atomic<bool> is_over{false};
    std::thread other([&] {
        const rdy_bench::Pinned there(1);

        for (question.await(); !is_over.load(std::memory_order_acquire); question.await())
            answer.raise();
    });

    for (auto _ : state) {
        const uint64_t begin = rdy_bench::now_ns();

        for (uint64_t i = 0; i < kTrips; i++) {
            question.raise();
            answer.await();
        }
        state.SetIterationTime(static_cast<double>(rdy_bench::now_ns() - begin) / 1e9);
    }
    is_over.store(true, std::memory_order_release);
    question.raise();
    other.join();
    rdy_bench::each(state, kTrips);
}
BENCHMARK_TEMPLATE(raw_ping_pong, EventSignal)
    ->Name("ping_pong/eventfd")
    ->MeasureProcessCPUTime()
    ->UseManualTime();
BENCHMARK_TEMPLATE(raw_ping_pong, FutexSignal)
    ->Name("ping_pong/futex")
    ->MeasureProcessCPUTime()
    ->UseManualTime();

// Two pinned workers, and what the rounds share. The main thread sleeps while they are at it.
class Pair
{
  public:
    explicit Pair(int64_t backend)
    {
        rdy_engine_opts opts = {};

        opts.size = sizeof(opts);
        opts.workers_count = 2;
        opts.is_pinned = true;
        opts.runtime.size = sizeof(opts.runtime);
        opts.runtime.driver.size = sizeof(opts.runtime.driver);
        opts.runtime.driver.backend = static_cast<rdy_backend_kind>(backend);
        opts.on_start = note_runtime;
        opts.arg = this;
        if (rdy_engine_open(&engine_, &opts, nullptr) != 0)
            engine_ = nullptr;
    }
    ~Pair()
    {
        rdy_engine_close(engine_);
    }
    Pair(const Pair &) = delete;
    Pair &operator=(const Pair &) = delete;

    bool is_open() const
    {
        return engine_ != nullptr;
    }
    rdy_engine *engine() const
    {
        return engine_;
    }
    // Both workers' system calls so far.
    uint64_t system_calls() const
    {
        uint64_t calls = 0;

        for (rdy_runtime *runtime : runtimes_) {
            rdy_driver_stats stats;

            rdy_driver_read_stats(rdy_runtime_driver(runtime), &stats);
            calls += stats.system_calls;
        }
        return calls;
    }

    // The figures of one iteration.
    void begin()
    {
        left_ = kTrips;
        begin_ns_ = rdy_bench::now_ns();
    }
    // True when that was the last one.
    bool trip()
    {
        if (--left_ > 0)
            return false;
        duration_ns_ = rdy_bench::now_ns() - begin_ns_;
        done_.raise();
        return true;
    }
    double await_seconds()
    {
        done_.await();
        return static_cast<double>(duration_ns_) / 1e9;
    }

    // The ping-pong's words: what each side has said, and how to wake it.
    struct Side {
        alignas(128) std::atomic<uint64_t> said{0};
        std::atomic<bool> is_there{false};
        rdy_waker waker = {};
    };
    Side sides[2];

  private:
    static int note_runtime(rdy_engine *, uint32_t worker, rdy_runtime *runtime, void *arg)
    {
        static_cast<Pair *>(arg)->runtimes_[worker] = runtime;
        return 0;
    }

    rdy_engine *engine_ = nullptr;
    rdy_runtime *runtimes_[2] = {};
    uint64_t left_ = 0;
    uint64_t begin_ns_ = 0;
    uint64_t duration_ns_ = 0;
    EventSignal done_;
};

struct Player {
    Pair *pair;
    uint64_t heard;
};

void say(Pair::Side *mine, const Pair::Side *other)
{
    mine->said.fetch_add(1, std::memory_order_release);
    rdy_waker_wake(&other->waker);
}

bool has_news(Player *player, const Pair::Side *other)
{
    const uint64_t said = other->said.load(std::memory_order_acquire);

    if (said == player->heard)
        return false;
    player->heard = said;
    return true;
}

void come(rdy_task *task, Pair::Side *mine)
{
    if (!mine->is_there.load(std::memory_order_relaxed)) {
        mine->waker = rdy_task_waker(task);
        mine->is_there.store(true, std::memory_order_release);
    }
}

int answer(rdy_task *task, void *self)
{
    Player *player = static_cast<Player *>(self);
    Pair::Side *sides = player->pair->sides;

    come(task, &sides[1]);
    if (has_news(player, &sides[0]))
        say(&sides[1], &sides[0]);
    return RDY_PENDING;
}

// Polled by a post of begin_rounds() at first, then by each answer.
int ask(rdy_task *task, void *self)
{
    Player *player = static_cast<Player *>(self);
    Pair::Side *sides = player->pair->sides;

    come(task, &sides[0]);
    if (has_news(player, &sides[1]) && !player->pair->trip())
        say(&sides[0], &sides[1]);
    return RDY_PENDING;
}

int begin_rounds(rdy_task *, void *self)
{
    Player *player = static_cast<Player *>(self);

    player->pair->begin();
    say(&player->pair->sides[0], &player->pair->sides[1]);
    return 0;
}

bool post(rdy_engine *engine, uint32_t worker, rdy_poll_fn *poll, Pair *pair)
{
    Player player = {pair, 0};
    rdy_task_spec spec = {};

    spec.poll = poll;
    spec.self_size = sizeof(player);
    return rdy_engine_post(engine, worker, &spec, &player) == 0;
}

void finish(benchmark::State &state, const Pair &pair, uint64_t calls_before)
{
    const double trips = static_cast<double>(state.iterations()) * kTrips;

    rdy_bench::each(state, kTrips);
    state.counters["calls"] = static_cast<double>(pair.system_calls() - calls_before) / trips;
}

void task_ping_pong(benchmark::State &state)
{
    Pair pair(state.range(0));
    uint64_t calls;

    if (!pair.is_open() || !post(pair.engine(), 1, answer, &pair) ||
        !post(pair.engine(), 0, ask, &pair)) {
        state.SkipWithError("the engine did not open");
        return;
    }
    for (const Pair::Side &side : pair.sides)
        while (!side.is_there.load(std::memory_order_acquire))
            std::this_thread::yield();
    calls = pair.system_calls();
    for (auto _ : state) {
        if (!post(pair.engine(), 0, begin_rounds, &pair))
            state.SkipWithError("the post was refused");
        else
            state.SetIterationTime(pair.await_seconds());
    }
    finish(state, pair, calls);
}
BENCHMARK(task_ping_pong)
    ->ArgName("backend")
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->MeasureProcessCPUTime()
    ->UseManualTime();

int post_back(rdy_task *task, void *self);

int post_there(rdy_task *, void *self)
{
    Pair *pair = static_cast<Player *>(self)->pair;

    return post(pair->engine(), 1, post_back, pair) ? 0 : -EIO;
}

int post_next(rdy_task *task, void *self)
{
    return static_cast<Player *>(self)->pair->trip() ? 0 : post_there(task, self);
}

int post_back(rdy_task *, void *self)
{
    Pair *pair = static_cast<Player *>(self)->pair;

    return post(pair->engine(), 0, post_next, pair) ? 0 : -EIO;
}

int post_first(rdy_task *task, void *self)
{
    static_cast<Player *>(self)->pair->begin();
    return post_there(task, self);
}

void post_round_trip(benchmark::State &state)
{
    Pair pair(state.range(0));
    uint64_t calls;

    if (!pair.is_open()) {
        state.SkipWithError("the engine did not open");
        return;
    }
    calls = pair.system_calls();
    for (auto _ : state) {
        if (!post(pair.engine(), 0, post_first, &pair))
            state.SkipWithError("the post was refused");
        else
            state.SetIterationTime(pair.await_seconds());
    }
    finish(state, pair, calls);
}
BENCHMARK(post_round_trip)
    ->ArgName("backend")
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->MeasureProcessCPUTime()
    ->UseManualTime();

const rdy_bench::AddGoal uring("engine: ping-pong of two tasks, io_uring / bare eventfd",
                               "task_ping_pong/backend:1", "ping_pong/eventfd", 1.2);
const rdy_bench::AddGoal epoll("engine: ping-pong of two tasks, epoll / bare eventfd",
                               "task_ping_pong/backend:2", "ping_pong/eventfd", 1.2);
const rdy_bench::AddGoal futex("engine: bare eventfd / bare futex", "ping_pong/eventfd",
                               "ping_pong/futex", 0);
const rdy_bench::AddGoal post_uring("engine: post there and back / ping-pong, io_uring",
                                    "post_round_trip/backend:1", "task_ping_pong/backend:1", 0);
const rdy_bench::AddGoal post_epoll("engine: post there and back / ping-pong, epoll",
                                    "post_round_trip/backend:2", "task_ping_pong/backend:2", 0);

} // namespace
