/* SPDX-License-Identifier: MIT */
/*
 * The price of a task: spawn and finish, wake and poll, yield, charge; beside them what cannot be
 * cheaper: a call through a queue, and a malloc() with its free(). Batches, because a run and a
 * turn cost more than a task; where a turn is part of a row the row says so.
 */
#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "bench/support.h"

namespace
{

constexpr uint32_t kBatch = 256;   // headers and structs of so many fit into the first two caches
constexpr uint32_t kCrowd = 65536; // of so many they do not
constexpr uint32_t kRounds = 64;   // of a batch in one run
constexpr uint32_t kNoTurns = 1u << 16; // task polls between two turns: the most there may be

class Runtime : public rdy_bench::Runtime
{
  public:
    explicit Runtime(uint32_t event_interval = kNoTurns, bool is_timed = false)
        : rdy_bench::Runtime(opts(event_interval, is_timed))
    {
    }
    // The task's own struct, or nullptr.
    void *spawn(rdy_poll_fn *poll, size_t self_size) const
    {
        void *self = nullptr;

        return spawn_sized(poll, self_size, &self, nullptr) ? self : nullptr;
    }

  private:
    static rdy_runtime_opts opts(uint32_t event_interval, bool is_timed)
    {
        rdy_runtime_opts opts = {};

        opts.size = sizeof(opts);
        opts.event_interval = event_interval;
        opts.task_budget = 1u << 20;
        opts.is_timed = is_timed;
        return opts;
    }
};

uint64_t polls;

int finish(rdy_task *, void *)
{
    polls++;
    return 0;
}

// Spawns a batch, runs it to its end.
void spawn_finish(benchmark::State &state, uint32_t batch, uint32_t event_interval)
{
    const Runtime runtime(event_interval);
    rdy_task_spec spec = {};

    spec.poll = finish;
    spec.self_size = static_cast<size_t>(state.range(0));
    polls = 0;
    for (auto _ : state) {
        for (uint32_t i = 0; i < batch; i++)
            if (runtime.get() == nullptr ||
                rdy_spawn(runtime.get(), &spec, nullptr, nullptr) != 0) {
                state.SkipWithError("a task was not spawned");
                return;
            }
        if (!runtime.run()) {
            state.SkipWithError("the run failed");
            return;
        }
    }
    if (polls != batch * static_cast<uint64_t>(state.iterations()))
        state.SkipWithError("a task was not polled exactly once");
    rdy_bench::each(state, batch);
}

void task_spawn_finish(benchmark::State &state)
{
    spawn_finish(state, kBatch, kNoTurns);
}
BENCHMARK(task_spawn_finish)->ArgName("self")->Arg(0)->Arg(64)->Arg(1024);

void task_spawn_finish_crowd(benchmark::State &state)
{
    spawn_finish(state, kCrowd, kNoTurns);
}
BENCHMARK(task_spawn_finish_crowd)->ArgName("self")->Arg(64);

// As a program has it by default: with a turn of the driver for every 61 tasks.
void task_spawn_finish_with_turns(benchmark::State &state)
{
    spawn_finish(state, kBatch, 0);
}
BENCHMARK(task_spawn_finish_with_turns)->ArgName("self")->Arg(64);

// What is left of it without the engine: a call through a queue of allocated nodes.
struct Node {
    Node *next;
    rdy_poll_fn *poll;
    void *self;
};

Node nodes[kBatch];

void queue_call(benchmark::State &state)
{
    for (auto _ : state) {
        Node *first = nullptr;
        Node **last = &first;

        for (Node &node : nodes) {
            node = {nullptr, finish, nullptr};
            *last = &node;
            last = &node.next;
            benchmark::ClobberMemory();
        }
        for (Node *node = first; node != nullptr; node = node->next)
            benchmark::DoNotOptimize(node->poll(nullptr, node->self));
    }
    rdy_bench::each(state, kBatch);
}
BENCHMARK(queue_call);

void calloc_free(benchmark::State &state)
{
    const size_t size = static_cast<size_t>(state.range(0));
    static void *blocks[kBatch];

    for (auto _ : state) {
        for (void *&block : blocks) {
            block = calloc(1, size);
            benchmark::DoNotOptimize(block);
        }
        for (void *block : blocks)
            free(block);
    }
    rdy_bench::each(state, kBatch);
}
BENCHMARK(calloc_free)->ArgName("size")->Arg(64)->Arg(1024);

// Hands tasks to a runtime that runs on another thread, and waits for the batch to have ended.
std::atomic<uint64_t> remote_polls;

int finish_remote(rdy_task *, void *)
{
    remote_polls.fetch_add(1, std::memory_order_release);
    return 0;
}

int stay(rdy_task *, void *)
{
    return RDY_PENDING;
}

bool spawn_remote_batch(rdy_runtime *runtime, const rdy_task_spec &spec, uint64_t &spawned)
{
    for (uint32_t i = 0; i < kBatch; i++)
        if (rdy_spawn_remote(runtime, &spec, nullptr) != 0)
            return false;
    spawned += kBatch;
    while (remote_polls.load(std::memory_order_acquire) != spawned)
        std::this_thread::yield();
    return true;
}

void task_spawn_remote(benchmark::State &state)
{
    std::atomic<rdy_runtime *> shared{nullptr};
    std::atomic<bool> is_over{false};
    std::thread thread([&] {
        const Runtime runtime(0);

        if (runtime.get() == nullptr || runtime.spawn(stay, 16) == nullptr) {
            is_over = true;
            return;
        }
        shared = runtime.get();
        if (!runtime.run())
            is_over = true;
        while (!is_over)
            std::this_thread::yield();
    });
    rdy_task_spec spec = {};
    uint64_t spawned = 0;

    spec.poll = finish_remote;
    spec.self_size = 64;
    remote_polls = 0;
    while (shared == nullptr && !is_over)
        std::this_thread::yield();
    for (auto _ : state) {
        if (is_over || !spawn_remote_batch(shared, spec, spawned)) {
            state.SkipWithError("a task was not spawned");
            break;
        }
    }
    if (shared != nullptr)
        rdy_runtime_stop(shared);
    is_over = true;
    thread.join();
    rdy_bench::each(state, kBatch);
}
BENCHMARK(task_spawn_remote)->UseRealTime();

// Sleepers, and one task that wakes them all in each of its polls. A turn for each batch.
struct Sleepers {
    std::vector<rdy_waker> wakers;
    uint64_t polls = 0;
    uint32_t rounds = 0;
};

struct SleeperTask {
    Sleepers *sleepers;
    bool is_known;
};

int sleeper(rdy_task *task, void *self)
{
    SleeperTask *one = static_cast<SleeperTask *>(self);
    Sleepers *all = one->sleepers;

    if (!one->is_known)
        all->wakers.push_back(rdy_task_waker(task));
    one->is_known = true;
    all->polls++;
    return all->rounds == 0 ? 0 : RDY_PENDING;
}

int rouser(rdy_task *task, void *self)
{
    Sleepers *all = static_cast<SleeperTask *>(self)->sleepers;

    if (all->wakers.size() == kBatch) {
        if (all->rounds > 0)
            all->rounds--;
        for (const rdy_waker &waker : all->wakers)
            rdy_waker_wake(&waker);
        if (all->rounds == 0)
            return 0;
    }
    rdy_task_defer(task);
    return RDY_PENDING;
}

bool wake_round(const Runtime &runtime)
{
    Sleepers sleepers;

    sleepers.rounds = kRounds;
    for (uint32_t i = 0; i <= kBatch; i++) {
        SleeperTask *one = static_cast<SleeperTask *>(
            runtime.spawn(i < kBatch ? sleeper : rouser, sizeof(SleeperTask)));

        if (one == nullptr)
            return false;
        one->sleepers = &sleepers;
    }
    return runtime.run() && sleepers.polls == kBatch * (kRounds + 1);
}

void wake_poll(benchmark::State &state, bool is_timed)
{
    const Runtime runtime(kNoTurns, is_timed);

    for (auto _ : state)
        if (!wake_round(runtime)) {
            state.SkipWithError("a task was not polled once a wake");
            return;
        }
    rdy_bench::each(state, kBatch * kRounds);
}

void task_wake_poll(benchmark::State &state)
{
    wake_poll(state, false);
}
BENCHMARK(task_wake_poll);

// In a runtime that was opened with is_timed.
void task_wake_poll_timed(benchmark::State &state)
{
    wake_poll(state, true);
}
BENCHMARK(task_wake_poll_timed);

// A snapshot, by the thread that counts.
void metrics_read(benchmark::State &state)
{
    const Runtime runtime;
    rdy_metrics metrics;

    for (auto _ : state) {
        rdy_metrics_read(runtime.get(), &metrics);
        benchmark::DoNotOptimize(metrics);
    }
    rdy_bench::each(state, 1);
}
BENCHMARK(metrics_read);

// Two tasks that wake each other: a wake and a poll each time.
struct Player {
    Player *other;
    rdy_waker waker;
    uint64_t left;
};

int play(rdy_task *task, void *self)
{
    Player *player = static_cast<Player *>(self);

    if (player->waker.fn == nullptr)
        player->waker = rdy_task_waker(task);
    if (player->other->waker.fn != nullptr)
        rdy_waker_wake(&player->other->waker);
    return player->left-- == 0 ? 0 : RDY_PENDING;
}

void task_ping_pong(benchmark::State &state)
{
    const Runtime runtime;

    for (auto _ : state) {
        Player *a = static_cast<Player *>(runtime.spawn(play, sizeof(Player)));
        Player *b = static_cast<Player *>(runtime.spawn(play, sizeof(Player)));

        if (a == nullptr || b == nullptr) {
            state.SkipWithError("a task was not spawned");
            return;
        }
        a->other = b;
        b->other = a;
        a->left = b->left = kBatch * kRounds / 2;
        if (!runtime.run()) {
            state.SkipWithError("the run failed");
            return;
        }
    }
    rdy_bench::each(state, kBatch * kRounds);
}
BENCHMARK(task_ping_pong);

// Each yield waits for a turn of the driver, which all who yield share.
int yield(rdy_task *task, void *self)
{
    uint64_t *left = static_cast<uint64_t *>(self);

    if ((*left)-- == 0)
        return 0;
    rdy_task_defer(task);
    return RDY_PENDING;
}

void task_yield(benchmark::State &state)
{
    const Runtime runtime;
    const int64_t tasks = state.range(0);

    for (auto _ : state) {
        for (int64_t i = 0; i < tasks; i++) {
            void *self = runtime.spawn(yield, sizeof(uint64_t));

            if (self == nullptr) {
                state.SkipWithError("a task was not spawned");
                return;
            }
            *static_cast<uint64_t *>(self) = kRounds;
        }
        if (!runtime.run()) {
            state.SkipWithError("the run failed");
            return;
        }
    }
    rdy_bench::each(state, static_cast<double>(tasks) * kRounds);
}
BENCHMARK(task_yield)->ArgName("tasks")->Arg(1)->Arg(256);

int charge(rdy_task *task, void *)
{
    for (uint32_t i = 0; i < kBatch * kRounds; i++)
        if (rdy_task_charge(task) != 0)
            return RDY_PENDING;
    return 0;
}

void task_charge(benchmark::State &state)
{
    const Runtime runtime;

    for (auto _ : state)
        if (runtime.spawn(charge, 16) == nullptr || !runtime.run()) {
            state.SkipWithError("the run failed");
            return;
        }
    rdy_bench::each(state, kBatch * kRounds);
}
BENCHMARK(task_charge);

const rdy_bench::AddGoal empty("task: spawn + finish, no struct", "task_spawn_finish/self:0", "",
                               60);
const rdy_bench::AddGoal small("task: spawn + finish, a struct of 64 bytes",
                               "task_spawn_finish/self:64", "", 60);
const rdy_bench::AddGoal crowd_of("task: spawn + finish, 65,536 at once, 64 bytes",
                                  "task_spawn_finish_crowd/self:64", "", 60);
const rdy_bench::AddGoal call("task: spawn + finish / a call through a queue",
                              "task_spawn_finish/self:0", "queue_call", 0);
const rdy_bench::AddGoal block("task: spawn + finish of 64 bytes / calloc + free",
                               "task_spawn_finish/self:64", "calloc_free/size:64", 0);
const rdy_bench::AddGoal remote("task: from another thread, 64 bytes", "task_spawn_remote", "", 0);
const rdy_bench::AddGoal wake("task: wake + poll", "task_wake_poll", "", 0);
const rdy_bench::AddGoal timed("task: wake + poll, timed / not", "task_wake_poll_timed",
                               "task_wake_poll", 0);
const rdy_bench::AddGoal snapshot("metrics: a snapshot", "metrics_read", "", 0);
const rdy_bench::AddGoal pair("task: wake + poll, two that wake each other", "task_ping_pong", "",
                              0);
const rdy_bench::AddGoal crowd("task: yield, 256 that share a turn", "task_yield/tasks:256", "", 0);
const rdy_bench::AddGoal pay("task: charge the budget", "task_charge", "", 0);

} // namespace
