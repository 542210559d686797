/* SPDX-License-Identifier: MIT */
/*
 * Joining two connections: what a chunk costs on its way through, from the driver's turn to the
 * last byte written, beside a hand-written epoll loop that reads and writes.
 *
 * One thread plays it all. A chunk is put into the client's socket and taken out of the server's by
 * plain calls, untimed; timed is what a proxy does between. What counts is processor time: loopback
 * delivers within the sender's call, so nothing is waited for.
 */
#include "bench/support.h"

#include <cerrno>
#include <memory>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace
{

constexpr size_t kBufferLen = 65536;
constexpr int kTurnsMax = 10000;

// One way of carrying. carry() returns when `total` bytes have been written, or what went wrong.
class Side
{
  public:
    virtual ~Side() = default;
    virtual const char *carry(uint64_t total) = 0;
};

class Raw : public Side
{
  public:
    Raw(const rdy_bench::Connection &from, const rdy_bench::Connection &to)
        : from_(from.inside()), to_(to.inside()), epoll_fd_(epoll_create1(EPOLL_CLOEXEC))
    {
        epoll_event event = {};

        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        event.data.fd = from_;
        epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, from_, &event);
        event.data.fd = to_;
        epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, to_, &event);
    }
    ~Raw() override
    {
        close(epoll_fd_);
    }
    const char *carry(uint64_t total) override
    {
        for (int turn = 0; turn < kTurnsMax; turn++) {
            epoll_event events[16];
            const int count = epoll_wait(epoll_fd_, events, 16, -1);

            for (int i = 0; i < count; i++)
                if (events[i].data.fd == from_ && !copy())
                    return "a raw write was short";
            if (written_ >= total)
                return nullptr;
        }
        return "the bytes did not come";
    }

  private:
    // Reads until a read is short, as the engine does.
    bool copy()
    {
        for (;;) {
            const ssize_t got = recv(from_, buffer_, sizeof(buffer_), 0);

            if (got <= 0)
                return got < 0 && errno == EAGAIN;
            if (send(to_, buffer_, static_cast<size_t>(got), MSG_NOSIGNAL) != got)
                return false;
            written_ += static_cast<uint64_t>(got);
            if (static_cast<size_t>(got) < sizeof(buffer_))
                return true;
        }
    }

    int from_;
    int to_;
    int epoll_fd_;
    uint64_t written_ = 0;
    char buffer_[kBufferLen];
};

class Engine : public Side
{
  public:
    Engine(rdy_bench::Connection &from, rdy_bench::Connection &to, int64_t backend, bool is_splice)
        : runtime_(backend)
    {
        rdy_copy_opts copy_opts = {};

        copy_opts.size = sizeof(copy_opts);
        copy_opts.is_splice = is_splice;
        a_.fd = -1;
        b_.fd = -1;
        if (!runtime_.is_open() ||
            rdy_stream_from_fd(&a_, runtime_.get(), from.take_inside()) != 0 ||
            rdy_stream_from_fd(&b_, runtime_.get(), to.take_inside()) != 0 ||
            rdy_copy_both_open(&both_, &a_, &b_, &copy_opts) != 0)
            return;
        is_open_ = runtime_.spawn(poll, this, &task_);
    }
    ~Engine() override
    {
        if (is_open_)
            rdy_task_abort(runtime_.get(), task_);
        rdy_copy_both_close(&both_);
        rdy_stream_close(&a_);
        rdy_stream_close(&b_);
    }
    const char *carry(uint64_t total) override
    {
        total_ = total;
        if (!is_open_)
            return "the engine could not be opened";
        if (!runtime_.run() || rdy_copy_bytes(&both_.a_to_b) < total)
            return "the bytes did not come";
        return nullptr;
    }

  private:
    static int poll(rdy_task *task, void *self)
    {
        Engine *const engine = *static_cast<Engine **>(self);
        const int rc = rdy_copy_both_poll(&engine->both_, task);
        if (rc != RDY_PENDING || rdy_copy_bytes(&engine->both_.a_to_b) >= engine->total_)
            rdy_runtime_stop(engine->runtime_.get());
        return rc;
    }

    rdy_bench::Runtime runtime_;
    rdy_stream a_ = {};
    rdy_stream b_ = {};
    rdy_copy_both both_ = {};
    rdy_task_id task_ = {};
    uint64_t total_ = 0;
    bool is_open_ = false;
};

bool take_all(int fd, uint64_t count)
{
    static char bytes[kBufferLen];

    while (count > 0) {
        const ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

        if (got < 0 && errno == EAGAIN)
            continue; // acknowledged, and on its way through loopback
        if (got <= 0)
            return false;
        count -= static_cast<uint64_t>(got);
    }
    return true;
}

void copy(benchmark::State &state)
{
    static const char chunk[1 << 20] = {};
    const rdy_bench::Pinned pinned(0);
    const size_t len = static_cast<size_t>(state.range(1));
    rdy_bench::Connection client;
    rdy_bench::Connection server;
    std::unique_ptr<Side> side;
    uint64_t total = 0;

    if (!client.is_open() || !server.is_open()) {
        state.SkipWithError("too few descriptors");
        return;
    }
    fcntl(client.outside(), F_SETFL, O_NONBLOCK);
    fcntl(server.outside(), F_SETFL, O_NONBLOCK);
    if (state.range(0) == rdy_bench::kRaw)
        side = std::make_unique<Raw>(client, server);
    else
        side = std::make_unique<Engine>(client, server, state.range(0), state.range(2) != 0);
    for (auto _ : state) {
        const bool is_sent = send(client.outside(), chunk, len, 0) == static_cast<ssize_t>(len);
        const uint64_t start_ns = rdy_bench::cpu_ns();
        const char *why = is_sent ? side->carry(total += len) : "a chunk did not fit";

        state.SetIterationTime(static_cast<double>(rdy_bench::cpu_ns() - start_ns) / 1e9);
        if (!why && !take_all(server.outside(), len))
            why = "the server's end failed";
        if (why) {
            state.SkipWithError(why);
            return;
        }
    }
    state.SetLabel(state.range(0) == rdy_bench::kRaw     ? "read and write"
                   : state.range(0) == rdy_bench::kUring ? "io_uring"
                                                         : "epoll");
    rdy_bench::each(state, 1);
}
BENCHMARK(copy)
    ->ArgNames({"backend", "bytes", "splice"})
    ->ArgsProduct({{rdy_bench::kRaw}, {64, 65536}, {0}})
    ->ArgsProduct({{rdy_bench::kUring, rdy_bench::kEpoll}, {64, 65536}, {0, 1}})
    ->UseManualTime();

#define COPY_GOALS(n)                                                                              \
    const rdy_bench::AddGoal uring_##n("copy of " #n " B: io_uring / raw epoll",                   \
                                       "copy/backend:1/bytes:" #n "/splice:0",                     \
                                       "copy/backend:0/bytes:" #n "/splice:0", 0);                 \
    const rdy_bench::AddGoal epoll_##n("copy of " #n " B: epoll / raw epoll",                      \
                                       "copy/backend:2/bytes:" #n "/splice:0",                     \
                                       "copy/backend:0/bytes:" #n "/splice:0", 0);                 \
    const rdy_bench::AddGoal uring_splice_##n("copy of " #n " B: io_uring, spliced / raw epoll",   \
                                              "copy/backend:1/bytes:" #n "/splice:1",              \
                                              "copy/backend:0/bytes:" #n "/splice:0", 0);          \
    const rdy_bench::AddGoal epoll_splice_##n("copy of " #n " B: epoll, spliced / raw epoll",      \
                                              "copy/backend:2/bytes:" #n "/splice:1",              \
                                              "copy/backend:0/bytes:" #n "/splice:0", 0)

COPY_GOALS(64);
COPY_GOALS(65536);

} // namespace
