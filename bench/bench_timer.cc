/* SPDX-License-Identifier: MIT */
/*
 * The idle timeouts of a proxy: N connections with a timeout of 60 s, one taken at random for each
 * sign of life, 100,000 a second in a thousand turns. Each turn moves the clock on by a
 * millisecond, so that a second of a proxy's life, with the slots that the wheel empties and the
 * timers that fire meanwhile, costs only what the timers cost; a turn of the driver is part of it.
 * The clock is paused only while it is moved: with one that is paused a turn's work has no bound.
 * An iteration is such a second: "percent" says how much of a core it took, "worst_us" how much of
 * a processor the longest turn had.
 */
#include <algorithm>
#include <vector>

#include "bench/support.h"

namespace
{

constexpr uint64_t kTimeoutNs = 60000000000u;
constexpr uint64_t kTurnNs = 1000000;
constexpr int kTurnsEach = 1000;
constexpr int kWarmSeconds = 70;

class Proxy
{
  public:
    explicit Proxy(size_t armed) : timers_(armed)
    {
        if (rdy_runtime_open(&runtime_, nullptr) != 0) {
            runtime_ = nullptr;
            return;
        }
        rdy_runtime_pause_clock(runtime_);
        const uint64_t now_ns = rdy_runtime_now_ns(runtime_);

        for (rdy_timer &timer : timers_)
            arm(timer, now_ns + 1 + random() % kTimeoutNs);
        rdy_runtime_resume_clock(runtime_);
    }
    ~Proxy()
    {
        rdy_runtime_close(runtime_);
    }
    Proxy(const Proxy &) = delete;
    Proxy &operator=(const Proxy &) = delete;

    bool is_open() const
    {
        return runtime_ != nullptr;
    }
    // A second of the runtime's time with so many re-arms in each turn.
    bool live(int rearms)
    {
        rdy_task_spec spec = {};
        void *self = nullptr;

        spec.poll = poll;
        spec.self_size = sizeof(Life);
        rearms_ = rearms;
        if (rdy_spawn(runtime_, &spec, &self, nullptr) != 0)
            return false;
        static_cast<Life *>(self)->proxy = this;
        return rdy_runtime_run(runtime_) == 0 && stats().timers_armed == timers_.size();
    }
    void rearm(int count, uint64_t now_ns)
    {
        for (int i = 0; i < count; i++)
            arm(timers_[random() % timers_.size()], now_ns + kTimeoutNs);
    }
    // The longest turn since the last question.
    uint64_t take_worst_ns()
    {
        const uint64_t worst_ns = worst_ns_;

        worst_ns_ = 0;
        return worst_ns;
    }
    uint64_t now_ns()
    {
        return rdy_runtime_now_ns(runtime_);
    }
    rdy_runtime_stats stats() const
    {
        rdy_runtime_stats stats;

        rdy_runtime_read_stats(runtime_, &stats);
        return stats;
    }

  private:
    struct Life {
        Proxy *proxy;
        uint64_t polled_ns;
        int turns;
    };

    // A yield a turn, as long as the second lasts.
    static int poll(rdy_task *task, void *self)
    {
        Life *life = static_cast<Life *>(self);
        Proxy *proxy = life->proxy;

        const uint64_t polled_ns = rdy_bench::cpu_ns();

        if (life->turns > 0)
            proxy->worst_ns_ = std::max(proxy->worst_ns_, polled_ns - life->polled_ns);
        life->polled_ns = polled_ns;
        if (life->turns++ == kTurnsEach)
            return 0;
        proxy->rearm(proxy->rearms_, proxy->now_ns());
        rdy_runtime_pause_clock(proxy->runtime_);
        if (rdy_runtime_advance(proxy->runtime_, kTurnNs) != 0)
            return -1;
        rdy_runtime_resume_clock(proxy->runtime_);
        rdy_task_defer(task);
        return RDY_PENDING;
    }
    // A connection that was idle for too long makes place for a new one.
    static void fire(void *arg, uint64_t index)
    {
        Proxy *proxy = static_cast<Proxy *>(arg);

        proxy->arm(proxy->timers_[index], proxy->now_ns() + kTimeoutNs);
    }
    void arm(rdy_timer &timer, uint64_t deadline_ns)
    {
        const rdy_waker waker = {fire, this, static_cast<uint64_t>(&timer - timers_.data())};

        rdy_timer_arm(&timer, runtime_, deadline_ns, &waker);
    }
    // xorshift64 (Marsaglia 2003).
    uint64_t random()
    {
        seed_ ^= seed_ << 13;
        seed_ ^= seed_ >> 7;
        seed_ ^= seed_ << 17;
        return seed_;
    }

    rdy_runtime *runtime_ = nullptr;
    std::vector<rdy_timer> timers_;
    int rearms_ = 0;
    uint64_t worst_ns_ = 0;
    uint64_t seed_ = 88172645463325252u;
};

// Seconds of a proxy; what counts is each re-arm, or without any each turn. Without re-arms a
// million timers fire within a timeout, so some 17 of them in each turn.
void timer_second(benchmark::State &state)
{
    const int rearms = static_cast<int>(state.range(1)) / kTurnsEach;
    Proxy proxy(static_cast<size_t>(state.range(0)));
    uint64_t spent_ns = 0;

    // Longer than a timeout, so that the deadlines lie as they do in a long life.
    for (int second = 0; proxy.is_open() && second < kWarmSeconds; second++)
        if (!proxy.live(rearms))
            break;

    (void)proxy.take_worst_ns();

    const uint64_t fired_before = proxy.is_open() ? proxy.stats().timers_fired : 0;

    for (auto _ : state) {
        const uint64_t start_ns = rdy_bench::cpu_ns();

        if (!proxy.is_open() || !proxy.live(rearms)) {
            state.SkipWithError("the runtime did not open, or lost a timer");
            return;
        }
        spent_ns += rdy_bench::cpu_ns() - start_ns;
    }
    state.counters["percent"] =
        static_cast<double>(spent_ns) / 1e9 / static_cast<double>(state.iterations()) * 100;
    state.counters["worst_us"] = static_cast<double>(proxy.take_worst_ns()) / 1e3;
    state.counters["fired"] =
        benchmark::Counter(static_cast<double>(proxy.stats().timers_fired - fired_before),
                           benchmark::Counter::kAvgIterations);
    rdy_bench::each(state, rearms ? rearms * kTurnsEach : kTurnsEach);
}
BENCHMARK(timer_second)
    ->ArgNames({"armed", "rearms"})
    ->Args({0, 0})
    ->Args({1000, 100000})
    ->Args({1000000, 0})
    ->Args({1000000, 100000});

// The re-arm alone, at a random timer each, which at a million is not in the cache.
void timer_rearm(benchmark::State &state)
{
    constexpr int kRearms = 1000;
    Proxy proxy(static_cast<size_t>(state.range(0)));

    if (!proxy.is_open()) {
        state.SkipWithError("the runtime did not open");
        return;
    }
    for (auto _ : state)
        proxy.rearm(kRearms, proxy.now_ns());
    rdy_bench::each(state, kRearms);
}
BENCHMARK(timer_rearm)->ArgName("armed")->Arg(1000)->Arg(1000000);

// 2 % of a core are 200 ns for each of 100,000 re-arms a second, the turns included.
const rdy_bench::AddGoal proxy("timer: re-arm at 10^6 armed, 100,000 a second, turns included",
                               "timer_second/armed:1000000/rearms:100000", "", 200);
const rdy_bench::AddGoal alone("timer: re-arm alone at 10^6 armed", "timer_rearm/armed:1000000", "",
                               0);
const rdy_bench::AddGoal spread("timer: re-arm at 10^6 armed / at 1,000",
                                "timer_rearm/armed:1000000", "timer_rearm/armed:1000", 0);

} // namespace
