/* SPDX-License-Identifier: MIT */
/*
 * What the size of the buffer pool costs who uses little of it at a time: eight streams, each of
 * which has received one message when the driver turns. The messages are put in by plain calls,
 * untimed; timed is the processor time of the receiving thread from its turn until the bytes have
 * been looked at and the buffers are back, or (kept) those of some turns before. A pool that hands
 * out the buffer that came back last goes on in the same few buffers, however many it has; one that
 * goes around evicts them.
 */
#include <array>
#include <cerrno>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

#include "bench/support.h"

#include <rdy/completion.h>

namespace
{

constexpr size_t kStreams = 8;

class Receiver
{
  public:
    Receiver(int64_t backend, uint32_t buffers, size_t len, size_t kept)
        : runtime_(opts(backend, buffers)), message_(len, 'x'), kept_(kept * kStreams)
    {
        clients_.fill(-1);
        for (rdy_stream &stream : streams_)
            stream.fd = -1;
        is_open_ = runtime_.is_open() && open();
    }
    ~Receiver()
    {
        for (rdy_buf &buf : kept_)
            rdy_buf_release(&buf);
        for (rdy_stream &stream : streams_)
            rdy_stream_close(&stream);
        for (const int client : clients_)
            if (client >= 0)
                close(client);
    }
    Receiver(const Receiver &) = delete;
    Receiver &operator=(const Receiver &) = delete;

    bool is_open() const
    {
        return is_open_;
    }

    // A message over each stream; the receiver's processor seconds, or a negative number.
    double burst()
    {
        uint64_t began;

        for (const int client : clients_)
            if (write(client, message_.data(), message_.size()) !=
                static_cast<ssize_t>(message_.size()))
                return -1;
        left_ = kStreams * message_.size();
        began = rdy_bench::cpu_ns();
        if (!runtime_.run() || is_broken_)
            return -1;
        return static_cast<double>(rdy_bench::cpu_ns() - began) / 1e9;
    }

  private:
    static rdy_runtime_opts opts(int64_t backend, uint32_t buffers)
    {
        rdy_runtime_opts opts = rdy_bench::runtime_opts(backend);

        opts.driver.buffers_count = buffers;
        return opts;
    }

    bool open()
    {
        for (size_t i = 0; i < kStreams; i++) {
            std::array<int, 2> fds;

            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) != 0)
                return false;
            clients_[i] = fds[0];
            if (rdy_stream_from_fd(&streams_[i], runtime_.get(), fds[1]) != 0) {
                close(fds[1]);
                return false;
            }
        }
        return runtime_.spawn(poll, this);
    }

    // All that has come is looked at: 0, RDY_PENDING, or what went wrong.
    int drain(rdy_stream *stream, rdy_task *task)
    {
        rdy_buf buf = {};
        ssize_t count;

        while ((count = rdy_stream_poll_recv(stream, task, &buf)) > 0) {
            for (size_t i = 0; i < buf.len; i += 64)
                sum_ += buf.data[i];
            left_ -= buf.len;
            if (!kept_.empty())
                std::swap(buf, kept_[kept_at_++ % kept_.size()]);
            rdy_buf_release(&buf);
        }
        return count == 0 ? -EPIPE : static_cast<int>(count);
    }

    // Stops the run with each burst.
    static int poll(rdy_task *task, void *self)
    {
        Receiver *const receiver = *static_cast<Receiver **>(self);

        for (rdy_stream &stream : receiver->streams_) {
            const int rc = receiver->drain(&stream, task);

            receiver->is_broken_ = receiver->is_broken_ || rc != RDY_PENDING;
        }
        if (receiver->left_ > 0 && !receiver->is_broken_)
            return RDY_PENDING;
        rdy_runtime_stop(receiver->runtime_.get());
        rdy_task_defer(task);
        return RDY_PENDING;
    }

    rdy_bench::Runtime runtime_;
    std::array<rdy_stream, kStreams> streams_ = {};
    std::array<int, kStreams> clients_ = {};
    std::vector<char> message_;
    std::vector<rdy_buf> kept_; // the last of them, until others take their place
    size_t kept_at_ = 0;
    size_t left_ = 0;
    uint64_t sum_ = 0;
    bool is_broken_ = false;
    bool is_open_ = false;
};

void received_buffers(benchmark::State &state)
{
    const rdy_bench::Pinned pinned(0);
    Receiver receiver(state.range(0), static_cast<uint32_t>(state.range(1)),
                      static_cast<size_t>(state.range(2)), static_cast<size_t>(state.range(3)));

    // Once before: a pool is made by the first who receives.
    if (!receiver.is_open() || receiver.burst() < 0) {
        state.SkipWithError("the streams could not be used");
        return;
    }
    for (auto _ : state) {
        const double seconds = receiver.burst();

        if (seconds < 0) {
            state.SkipWithError("a message was lost");
            break;
        }
        state.SetIterationTime(seconds);
    }
    rdy_bench::each(state, static_cast<double>(kStreams));
}

void rows(benchmark::internal::Benchmark *bench)
{
    bench->ArgNames({"backend", "buffers", "bytes", "kept"});
    for (const int64_t bytes : {64, 16384})
        for (const int64_t backend : {rdy_bench::kUring, rdy_bench::kEpoll})
            for (const int64_t buffers : {16, 128, 1024, 4096})
                bench->Args({backend, buffers, bytes, 0});
    for (const int64_t buffers : {32, 1024})
        bench->Args({rdy_bench::kUring, buffers, 16384, 2});
}
BENCHMARK(received_buffers)->Apply(rows)->UseManualTime();

const rdy_bench::AddGoal goals[] = {
    {"16 KiB received, of 128 buffers / of 16, on io_uring",
     "received_buffers/backend:1/buffers:128/bytes:16384/kept:0",
     "received_buffers/backend:1/buffers:16/bytes:16384/kept:0", 1.1},
    {"16 KiB received, of 4096 buffers / of 16, on io_uring",
     "received_buffers/backend:1/buffers:4096/bytes:16384/kept:0",
     "received_buffers/backend:1/buffers:16/bytes:16384/kept:0", 1.1},
    {"16 KiB received, of 4096 buffers / of 16, on epoll",
     "received_buffers/backend:2/buffers:4096/bytes:16384/kept:0",
     "received_buffers/backend:2/buffers:16/bytes:16384/kept:0", 1.1},
    {"the same kept for two turns, of 1024 / of 32, on io_uring",
     "received_buffers/backend:1/buffers:1024/bytes:16384/kept:2",
     "received_buffers/backend:1/buffers:32/bytes:16384/kept:2", 1.1},
};

} // namespace
