/* SPDX-License-Identifier: MIT */
/*
 * From a write to its read, at a low rate: another thread, on another processor, writes the time
 * into a connection about once a millisecond, and whoever sleeps on the other end takes the
 * difference when it has read it. So there is a sleep before each, and what counts is the way from
 * the wake-up to the bytes: a bare epoll loop, a task with readiness on both backends, and a task
 * in completion mode, each also with a spin before the sleep.
 *
 * A row's figure is the mean of medians over kBatch messages.
 */
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr size_t kBatch = 51;
constexpr int kBatches = 20;
constexpr uint64_t kPauseNs = 1000000;

// The messages of a batch: each is the time at which it was written.
class Writer
{
  public:
    explicit Writer(int fd) : thread_(&Writer::run, this, fd)
    {
    }
    ~Writer()
    {
        is_ending_.store(true, std::memory_order_relaxed);
        thread_.join();
    }
    Writer(const Writer &) = delete;
    Writer &operator=(const Writer &) = delete;

  private:
    void run(int fd)
    {
        const rdy_bench::Pinned pinned(1);

        while (!is_ending_.load(std::memory_order_relaxed)) {
            const timespec pause = {0, static_cast<long>(kPauseNs)};
            uint64_t now;

            nanosleep(&pause, nullptr);
            now = rdy_bench::now_ns();
            if (write(fd, &now, sizeof(now)) != static_cast<ssize_t>(sizeof(now)))
                return;
        }
    }

    std::atomic<bool> is_ending_{false};
    std::thread thread_;
};

// What the reader saw of a batch, in nanoseconds.
class Batch
{
  public:
    void add(const void *bytes)
    {
        uint64_t sent;

        memcpy(&sent, bytes, sizeof(sent));
        samples_[count_++] = rdy_bench::now_ns() - sent;
    }
    bool is_full() const
    {
        return count_ == kBatch;
    }
    double median_s()
    {
        std::nth_element(samples_, samples_ + kBatch / 2, samples_ + kBatch);
        count_ = 0;
        return static_cast<double>(samples_[kBatch / 2]) / 1e9;
    }

  private:
    uint64_t samples_[kBatch] = {};
    size_t count_ = 0;
};

// Two messages in one read would be one sleep for both: then only the first counts.
bool is_whole(ssize_t count)
{
    return count > 0 && count % static_cast<ssize_t>(sizeof(uint64_t)) == 0;
}

void wake_to_read_raw(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    const rdy_bench::Connection wire;
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event watch = {};
    Batch batch;

    watch.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    if (!wire.is_open() || epoll_ctl(epoll, EPOLL_CTL_ADD, wire.inside(), &watch) != 0) {
        state.SkipWithError("no connection");
        close(epoll);
        return;
    }
    const Writer writer(wire.outside());
    for (auto _ : state) {
        while (!batch.is_full()) {
            epoll_event event;
            uint64_t bytes[64];

            if (epoll_wait(epoll, &event, 1, -1) == 1 &&
                is_whole(recv(wire.inside(), bytes, sizeof(bytes), 0)))
                batch.add(bytes);
        }
        state.SetIterationTime(batch.median_s());
    }
    rdy_bench::each(state, 1);
    close(epoll);
}
BENCHMARK(wake_to_read_raw)->UseManualTime()->Iterations(kBatches);

struct Reader {
    rdy_stream stream;
    Batch *batch;
    bool is_completing;
};

ssize_t take(Reader *reader, rdy_task *task)
{
    uint64_t bytes[64];
    rdy_buf buf = {};
    ssize_t count;

    if (!reader->is_completing) {
        count = rdy_stream_poll_read(&reader->stream, task, bytes, sizeof(bytes));
        if (is_whole(count))
            reader->batch->add(bytes);
        return count;
    }
    count = rdy_stream_poll_recv(&reader->stream, task, &buf);
    if (is_whole(count))
        reader->batch->add(buf.data);
    rdy_buf_release(&buf);
    return count;
}

// Stops the run with each full batch.
int reader_poll(rdy_task *task, void *self)
{
    Reader *const reader = *static_cast<Reader **>(self);

    for (;;) {
        const ssize_t count = take(reader, task);

        if (count == RDY_PENDING)
            return RDY_PENDING;
        if (!is_whole(count)) {
            rdy_runtime_stop(rdy_task_runtime(task));
            return -EIO;
        }
        if (reader->batch->is_full()) { // in the next run there is room
            rdy_runtime_stop(rdy_task_runtime(task));
            rdy_task_defer(task);
            return RDY_PENDING;
        }
    }
}

// The runs of one row; nullptr, or what broke.
const char *read_batches(benchmark::State &state, const rdy_bench::Runtime &runtime, Reader *reader)
{
    if (!runtime.spawn(reader_poll, reader))
        return "no task";
    for (auto _ : state) {
        if (!runtime.run() || !reader->batch->is_full())
            return "the run ended early";
        state.SetIterationTime(reader->batch->median_s());
    }
    return nullptr;
}

void wake_to_read(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    rdy_bench::Connection wire;
    rdy_runtime_opts opts = rdy_bench::runtime_opts(state.range(0));
    Batch batch;
    Reader reader = {};
    const char *broken = nullptr;

    opts.driver.spin_ns = static_cast<uint32_t>(state.range(2)) * 1000u;
    const rdy_bench::Runtime runtime(opts);
    reader.batch = &batch;
    reader.is_completing = state.range(1) != 0;
    if (!wire.is_open() || !runtime.is_open()) {
        state.SkipWithError("no connection, or no runtime");
        return;
    }
    if (rdy_stream_from_fd(&reader.stream, runtime.get(), wire.inside()) < 0) {
        broken = "no stream";
    } else {
        wire.take_inside();
        const Writer writer(wire.outside());

        broken = read_batches(state, runtime, &reader);
    }
    if (broken)
        state.SkipWithError(broken);
    else
        rdy_bench::each(state, 1);
}

void rows(benchmark::internal::Benchmark *bench)
{
    bench->ArgNames({"backend", "completion", "spin_us"});
    for (const int64_t spin_us : {0, 2000}) {
        bench->Args({rdy_bench::kEpoll, 0, spin_us});
        bench->Args({rdy_bench::kUring, 0, spin_us});
        bench->Args({rdy_bench::kUring, 1, spin_us});
    }
}
BENCHMARK(wake_to_read)->Apply(rows)->UseManualTime()->Iterations(kBatches);

const rdy_bench::AddGoal epoll("wake to read: epoll / bare epoll",
                               "wake_to_read/backend:2/completion:0/spin_us:0", "wake_to_read_raw",
                               0);
const rdy_bench::AddGoal uring("wake to read: io_uring / bare epoll",
                               "wake_to_read/backend:1/completion:0/spin_us:0", "wake_to_read_raw",
                               0);
const rdy_bench::AddGoal completion("wake to read: completion / bare epoll",
                                    "wake_to_read/backend:1/completion:1/spin_us:0",
                                    "wake_to_read_raw", 0);
const rdy_bench::AddGoal spin("wake to read: completion with a spin / bare epoll",
                              "wake_to_read/backend:1/completion:1/spin_us:2000",
                              "wake_to_read_raw", 0);

} // namespace
