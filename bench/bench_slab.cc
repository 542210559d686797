/* SPDX-License-Identifier: MIT */
/* Take and give back on a warm slab, one item and a batch deep, beside malloc(3) and free(3). */
#include <memory>

#include "bench/shim.h"
#include "bench/support.h"

namespace
{

constexpr uint32_t kWarmItems = 100000;

void slab_take_give(benchmark::State &state)
{
    const uint32_t depth = static_cast<uint32_t>(state.range(0));
    const std::unique_ptr<bench_slab, decltype(&bench_slab_close)> slab(bench_slab_open(kWarmItems),
                                                                        bench_slab_close);

    for (auto _ : state) {
        if (!slab || !bench_slab_round(slab.get(), depth)) {
            state.SkipWithError("the slab has no memory");
            return;
        }
    }
    rdy_bench::each(state, depth);
}
BENCHMARK(slab_take_give)->ArgName("depth")->Arg(1)->Arg(64)->Arg(1024);

void malloc_free(benchmark::State &state)
{
    const uint32_t depth = static_cast<uint32_t>(state.range(0));

    for (auto _ : state) {
        if (!bench_malloc_round(depth)) {
            state.SkipWithError("out of memory");
            return;
        }
    }
    rdy_bench::each(state, depth);
}
BENCHMARK(malloc_free)->ArgName("depth")->Arg(1)->Arg(64)->Arg(1024);

const rdy_bench::AddGoal one("slab: take + give", "slab_take_give/depth:1", "", 15);
const rdy_bench::AddGoal many("slab: take + give, 64 deep", "slab_take_give/depth:64", "", 15);
const rdy_bench::AddGoal against("slab: take + give / malloc + free", "slab_take_give/depth:1",
                                 "malloc_free/depth:1", 0);
const rdy_bench::AddGoal deep("slab: take + give / malloc + free, 1024 deep",
                              "slab_take_give/depth:1024", "malloc_free/depth:1024", 0);

} // namespace
