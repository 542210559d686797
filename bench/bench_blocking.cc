/* SPDX-License-Identifier: MIT */
/*
 * The round trip of an empty job: a task starts it, sleeps, is woken by its thread, takes the
 * result and closes the handle. Beside it what two threads cannot do without: the same hand-over
 * and back with one mutex and two condition variables; and the job without a runtime, whose waker
 * signals such a variable. The loop and the pool's thread are on a processor each.
 */
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "bench/support.h"

namespace
{

constexpr int kBatch = 64; // jobs in an iteration

// Two threads that take turns.
class PingPong
{
  public:
    PingPong() : other_([this] { answer(); })
    {
    }
    ~PingPong()
    {
        post(kStop);
        other_.join();
    }
    PingPong(const PingPong &) = delete;
    PingPong &operator=(const PingPong &) = delete;

    void round()
    {
        post(kPing);
        std::unique_lock<std::mutex> lock(mutex_);
        home_.wait(lock, [this] { return ball_ == kPong; });
    }

  private:
    enum Ball {
        kPong,
        kPing,
        kStop
    };

    void post(Ball ball)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        ball_ = ball;
        away_.notify_one();
    }
    void answer()
    {
        const rdy_bench::Pinned pinned(1);
        std::unique_lock<std::mutex> lock(mutex_);

        for (;;) {
            away_.wait(lock, [this] { return ball_ != kPong; });
            if (ball_ == kStop)
                return;
            ball_ = kPong;
            home_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable home_;
    std::condition_variable away_;
    Ball ball_ = kPong;
    std::thread other_;
};

void blocking_cond_ping_pong(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    PingPong pair;

    for (auto _ : state)
        for (int i = 0; i < kBatch; i++)
            pair.round();
    rdy_bench::each(state, kBatch);
}
BENCHMARK(blocking_cond_ping_pong)->UseRealTime();

int run_nothing(void *)
{
    return 0;
}

constexpr rdy_blocking_spec kEmpty = {run_nothing, nullptr, 0};

// A pool of one thread, which runs on the second processor.
class Pool
{
  public:
    Pool()
    {
        const rdy_bench::Pinned pinned(1); // the thread inherits it
        rdy_pool_opts opts = {};
        rdy_blocking handle = {};

        opts.size = sizeof(opts);
        opts.threads_max = 1;
        if (rdy_pool_open(&pool_, &opts) < 0)
            pool_ = nullptr;
        else if (rdy_blocking_start(&handle, pool_, &kEmpty, nullptr) < 0)
            is_broken_ = true;
        rdy_blocking_close(&handle);
    }
    ~Pool()
    {
        rdy_pool_close(pool_);
    }
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    bool is_open() const
    {
        return pool_ && !is_broken_;
    }
    rdy_pool *get() const
    {
        return pool_;
    }

  private:
    rdy_pool *pool_ = nullptr;
    bool is_broken_ = false;
};

// Where a thread without a runtime waits for a waker.
struct Bell {
    std::mutex mutex;
    std::condition_variable rung;
    bool is_rung = false;

    static void ring(void *arg, uint64_t)
    {
        Bell *bell = static_cast<Bell *>(arg);
        const std::lock_guard<std::mutex> lock(bell->mutex);

        bell->is_rung = true;
        bell->rung.notify_one();
    }
    void wait()
    {
        std::unique_lock<std::mutex> lock(mutex);

        rung.wait(lock, [this] { return is_rung; });
        is_rung = false;
    }
};

bool bare_round(rdy_pool *pool, Bell *bell)
{
    const rdy_waker waker = {Bell::ring, bell, 0};
    rdy_blocking handle = {};
    int result = 1;
    int rc = rdy_blocking_start(&handle, pool, &kEmpty, nullptr);

    if (rc == 0)
        rc = rdy_blocking_poll_waker(&handle, &waker, &result);
    if (rc == RDY_PENDING) {
        bell->wait();
        rc = rdy_blocking_poll_waker(&handle, &waker, &result);
    }
    rdy_blocking_close(&handle);
    return rc == 0 && result == 0;
}

void blocking_bare_job(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    const Pool pool;
    Bell bell;

    if (!pool.is_open()) {
        state.SkipWithError("no pool");
        return;
    }
    for (auto _ : state)
        for (int i = 0; i < kBatch; i++)
            if (!bare_round(pool.get(), &bell))
                state.SkipWithError("a job did not run");
    rdy_bench::each(state, kBatch);
}
BENCHMARK(blocking_bare_job)->UseRealTime();

// A task that runs `left` jobs, one after the other.
struct Client {
    rdy_pool *pool;
    rdy_blocking job;
    int left;
    bool has_failed;
};

int client_poll(rdy_task *task, void *self)
{
    Client *client = *static_cast<Client **>(self);
    int result = 1;

    for (;;) {
        if (!client->job.job && client->left == 0)
            return 0;
        if (!client->job.job &&
            rdy_blocking_start(&client->job, client->pool, &kEmpty, nullptr) < 0)
            break;
        const int rc = rdy_blocking_poll(&client->job, task, &result);
        if (rc == RDY_PENDING)
            return RDY_PENDING;
        rdy_blocking_close(&client->job);
        if (rc < 0)
            break;
        client->left--;
    }
    client->has_failed = true;
    return 0;
}

bool clients_run(const rdy_bench::Runtime &runtime, Client *client)
{
    return runtime.spawn(client_poll, client) && runtime.run() && !client->has_failed;
}

void blocking_task_job(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    const Pool pool;
    const rdy_bench::Runtime runtime(state.range(0));

    if (!pool.is_open() || !runtime.is_open()) {
        state.SkipWithError("no pool or no runtime");
        return;
    }
    for (auto _ : state) {
        Client client = {pool.get(), {}, kBatch, false};

        if (!clients_run(runtime, &client)) {
            state.SkipWithError("a job did not run");
            break;
        }
    }
    rdy_bench::each(state, kBatch);
    state.SetLabel(rdy_driver_backend_name(rdy_runtime_driver(runtime.get())));
}
BENCHMARK(blocking_task_job)
    ->ArgName("backend")
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->UseRealTime();

const rdy_bench::AddGoal bare("blocking: empty job / condition variable ping-pong",
                              "blocking_bare_job", "blocking_cond_ping_pong", 0);
const rdy_bench::AddGoal uring("blocking: empty job of a task, io_uring / ping-pong",
                               "blocking_task_job/backend:1", "blocking_cond_ping_pong", 0);
const rdy_bench::AddGoal epoll("blocking: empty job of a task, epoll / ping-pong",
                               "blocking_task_job/backend:2", "blocking_cond_ping_pong", 0);

} // namespace
