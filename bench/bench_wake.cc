/* SPDX-License-Identifier: MIT */
/*
 * An event that wakes one waiter: the flags are set, the waiter is taken under the lock, its waker
 * runs. Only that is timed; leaving the waiters and taking the answers is not. A batch of entries
 * that fits into the second-level cache, because the clock costs as much as a wake.
 */
#include <memory>

#include "bench/shim.h"
#include "bench/support.h"

namespace
{

constexpr uint32_t kEntries = 256;

uint64_t wakes;

void count_wake(void *arg, uint64_t data)
{
    *static_cast<uint64_t *>(arg) += data;
}

using Wait = bool (*)(bench_entries *, const rdy_waker *);

bool run_round(bench_entries *entries, Wait wait, benchmark::State &state)
{
    const rdy_waker waker = {count_wake, &wakes, 1};
    const uint64_t wakes_before = wakes;
    uint64_t start_ns;
    uint64_t end_ns;

    if (!wait(entries, &waker))
        return false;
    start_ns = rdy_bench::now_ns();
    bench_entries_fire(entries);
    end_ns = rdy_bench::now_ns();
    state.SetIterationTime(static_cast<double>(end_ns - start_ns) / 1e9);
    return wakes - wakes_before == kEntries && bench_entries_rest(entries);
}

void fire(benchmark::State &state, Wait wait)
{
    const std::unique_ptr<bench_entries, decltype(&bench_entries_close)> entries(
        bench_entries_open(kEntries), bench_entries_close);

    for (auto _ : state) {
        if (!run_round(entries.get(), wait, state)) {
            state.SkipWithError("a waiter was not woken exactly once");
            return;
        }
    }
    rdy_bench::each(state, kEntries);
}

void wake_slot(benchmark::State &state)
{
    fire(state, bench_entries_wait_in_slots);
}
BENCHMARK(wake_slot)->UseManualTime();

void wake_readiness(benchmark::State &state)
{
    fire(state, bench_entries_wait_in_lists);
}
BENCHMARK(wake_readiness)->UseManualTime();

// What is left of a wake without the engine: the call through the waker.
void waker_call(benchmark::State &state)
{
    rdy_waker waker = {count_wake, &wakes, 1};

    for (auto _ : state) {
        benchmark::DoNotOptimize(waker);
        rdy_waker_wake(&waker);
    }
    rdy_bench::each(state, 1);
}
BENCHMARK(waker_call);

void waker_copy_compare(benchmark::State &state)
{
    rdy_waker waker = {count_wake, &wakes, 1};
    rdy_waker copy;

    for (auto _ : state) {
        benchmark::DoNotOptimize(waker);
        copy = waker;
        benchmark::DoNotOptimize(copy);
        benchmark::DoNotOptimize(rdy_waker_is_same(&waker, &copy));
    }
    rdy_bench::each(state, 1);
}
BENCHMARK(waker_copy_compare);

const rdy_bench::AddGoal slot("wake: set + wake of one poll slot", "wake_slot", "", 60);
const rdy_bench::AddGoal list("wake: set + wake of one readiness waiter", "wake_readiness", "", 60);
const rdy_bench::AddGoal both("wake: readiness waiter / poll slot", "wake_readiness", "wake_slot",
                              0);
const rdy_bench::AddGoal call("waker: poll slot / the waker's call alone", "wake_slot",
                              "waker_call", 0);

} // namespace
