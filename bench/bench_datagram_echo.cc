/* SPDX-License-Identifier: MIT */
/*
 * A UDP echo: what a datagram costs on its way in and out again, with readiness and in completion
 * mode. One thread plays it all. A burst of datagrams is put into the server's socket by plain
 * calls, and the answers are taken out by plain calls, untimed; timed is the processor time of what
 * the server does between, from the driver's turn until the kernel has the last answer. Loopback
 * delivers within the sender's call, so nothing is waited for.
 */
#include <cerrno>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support.h"

#include <rdy/datagram_completion.h>

namespace
{

constexpr size_t kLen = 64;

class EchoServer
{
  public:
    EchoServer(int64_t backend, bool is_completing)
        : runtime_(backend), is_completing_(is_completing)
    {
        socket_.fd = -1;
        is_open_ = runtime_.is_open() && open();
    }
    ~EchoServer()
    {
        rdy_datagram_close(&socket_);
        if (client_ >= 0)
            close(client_);
    }
    EchoServer(const EchoServer &) = delete;
    EchoServer &operator=(const EchoServer &) = delete;

    bool is_open() const
    {
        return is_open_;
    }

    // Echoes a burst; the server's processor seconds, or a negative number if one was lost.
    double burst(int64_t count)
    {
        char bytes[kLen] = {};
        uint64_t began;
        uint64_t took;

        for (int64_t i = 0; i < count; i++)
            if (send(client_, bytes, kLen, 0) != static_cast<ssize_t>(kLen))
                return -1;
        left_ = count;
        began = rdy_bench::cpu_ns();
        if (!runtime_.run() || is_broken_)
            return -1;
        took = rdy_bench::cpu_ns() - began;
        for (int64_t i = 0; i < count; i++)
            if (recv(client_, bytes, kLen, MSG_DONTWAIT) != static_cast<ssize_t>(kLen))
                return -1;
        return static_cast<double>(took) / 1e9;
    }

  private:
    bool open()
    {
        sockaddr_in addr = {};
        sockaddr_storage bound = {};
        socklen_t bound_len = sizeof(bound);

        addr.sin_family = AF_INET;
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        client_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        return rdy_datagram_open(&socket_, runtime_.get(), AF_INET, nullptr) == 0 &&
               rdy_datagram_bind(&socket_, reinterpret_cast<sockaddr *>(&addr), sizeof(addr)) ==
                   0 &&
               rdy_datagram_local_address(&socket_, &bound, &bound_len) == 0 &&
               connect(client_, reinterpret_cast<sockaddr *>(&bound), bound_len) == 0 &&
               runtime_.spawn(poll, this);
    }

    // A datagram comes and is answered: 1, RDY_PENDING, or what went wrong.
    ssize_t echo_ready(rdy_task *task)
    {
        ssize_t count = rdy_datagram_poll_recv_from(&socket_, task, bytes_, kLen, &info_);

        if (count < 0)
            return count;
        count =
            rdy_datagram_poll_send_to(&socket_, task, bytes_, kLen,
                                      reinterpret_cast<sockaddr *>(&info_.addr), info_.addr_len);
        return count < 0 ? -EIO : 1; // the socket's buffer holds any burst
    }
    ssize_t echo_completed(rdy_task *task)
    {
        rdy_buf buf = {};
        const ssize_t count = rdy_datagram_poll_recv_buf(&socket_, task, &buf, &info_);

        if (count < 0)
            return count;
        if (rdy_datagram_poll_send_buf(&socket_, task, &buf,
                                       reinterpret_cast<sockaddr *>(&info_.addr),
                                       info_.addr_len) == 0)
            return 1;
        rdy_buf_release(&buf);
        return -EIO;
    }

    int step(rdy_task *task)
    {
        while (left_ > 0) {
            const ssize_t rc = is_completing_ ? echo_completed(task) : echo_ready(task);

            if (rc < 0)
                return static_cast<int>(rc);
            left_--;
        }
        return is_completing_ ? rdy_datagram_poll_flush(&socket_, task) : 0;
    }

    // Stops the run with each burst.
    static int poll(rdy_task *task, void *self)
    {
        EchoServer *const server = *static_cast<EchoServer **>(self);
        const int rc = server->step(task);

        if (rc == RDY_PENDING)
            return RDY_PENDING;
        server->is_broken_ = rc < 0;
        rdy_runtime_stop(server->runtime_.get());
        rdy_task_defer(task);
        return RDY_PENDING;
    }

    rdy_bench::Runtime runtime_;
    rdy_datagram socket_ = {};
    rdy_datagram_info info_ = {};
    char bytes_[kLen] = {};
    int client_ = -1;
    int64_t left_ = 0;
    bool is_completing_;
    bool is_broken_ = false;
    bool is_open_ = false;
};

void datagram_echo(benchmark::State &state)
{
    const int64_t count = state.range(2);
    const rdy_bench::Pinned pinned(0);
    EchoServer server(state.range(0), state.range(1) != 0);

    if (!server.is_open()) {
        state.SkipWithError("the sockets could not be opened");
        return;
    }
    for (auto _ : state) {
        const double seconds = server.burst(count);

        if (seconds < 0) {
            state.SkipWithError("a datagram was lost");
            break;
        }
        state.SetIterationTime(seconds);
    }
    rdy_bench::each(state, static_cast<double>(count));
}

void rows(benchmark::internal::Benchmark *bench)
{
    bench->ArgNames({"backend", "completion", "burst"});
    for (const int64_t burst : {1, 16, 64}) {
        bench->Args({rdy_bench::kEpoll, 0, burst});
        bench->Args({rdy_bench::kUring, 0, burst});
        bench->Args({rdy_bench::kUring, 1, burst});
    }
}
BENCHMARK(datagram_echo)->Apply(rows)->UseManualTime();

const rdy_bench::AddGoal goals[] = {
    {"datagram echo, 1: completion / readiness on epoll",
     "datagram_echo/backend:1/completion:1/burst:1", "datagram_echo/backend:2/completion:0/burst:1",
     0},
    {"datagram echo, 16: completion / readiness on epoll",
     "datagram_echo/backend:1/completion:1/burst:16",
     "datagram_echo/backend:2/completion:0/burst:16", 0},
    {"datagram echo, 64: completion / readiness on epoll",
     "datagram_echo/backend:1/completion:1/burst:64",
     "datagram_echo/backend:2/completion:0/burst:64", 0},
};

} // namespace
