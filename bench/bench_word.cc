/* SPDX-License-Identifier: MIT */
/* The readiness word: its transitions as pure functions, and on an entry, beside a bare swap. */
#include "bench/shim.h"
#include "bench/support.h"

namespace
{

constexpr uint64_t kRounds = 1000;

void word_swap(benchmark::State &state)
{
    for (auto _ : state)
        benchmark::DoNotOptimize(bench_swap_rounds(kRounds));
    rdy_bench::each(state, kRounds);
}
BENCHMARK(word_swap);

void word_set_clear_pure(benchmark::State &state)
{
    for (auto _ : state)
        benchmark::DoNotOptimize(bench_word_rounds(kRounds));
    rdy_bench::each(state, kRounds);
}
BENCHMARK(word_set_clear_pure);

void word_set_clear(benchmark::State &state)
{
    for (auto _ : state)
        benchmark::DoNotOptimize(bench_word_atomic_rounds(kRounds));
    rdy_bench::each(state, kRounds);
}
BENCHMARK(word_set_clear);

const rdy_bench::AddGoal pure("word: event + clear, pure, / one bare swap", "word_set_clear_pure",
                              "word_swap", 0);
const rdy_bench::AddGoal atomic("word: event + clear, atomic, / one bare swap", "word_set_clear",
                                "word_swap", 0);

} // namespace
