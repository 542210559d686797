/* SPDX-License-Identifier: MIT */
/*
 * Connection churn on loopback: connect, accept, close. An iteration makes N connections side by
 * side; the server resets each as soon as it has accepted it, the client reads that and closes.
 * Resets leave no TIME_WAIT behind, so the ports never run out. Rows of one run: a bare epoll loop
 * that makes the same calls (both ends are watched, TCP_NODELAY on the client, SO_ERROR asked), and
 * the runtime on io_uring and on epoll. "ring" tells what completes in the ring: nothing, accept,
 * receive and close, or connect as well. "calls" are the system calls of one connection that wait,
 * arm or disarm; what the sockets themselves need is the same in the rows without completions, but
 * for the getpeername by which a stream makes sure of its peer. CPU time, as both ends are this
 * thread.
 */
#include <cerrno>
#include <cstring>
#include <memory>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr int kTurnsMax = 100000;

// What completes in the ring.
constexpr int64_t kNothing = 0;
constexpr int64_t kOperations = 1;
constexpr int64_t kConnects = 2;

constexpr linger kReset = {1, 0};

sockaddr_in loopback()
{
    sockaddr_in addr = {};

    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

// One side of the comparison.
class Side
{
  public:
    virtual ~Side() = default;
    // Makes and ends `count` connections. Nullptr, or what went wrong.
    virtual const char *churn(uint32_t count) = 0;
    virtual double calls() const = 0;
    virtual const char *label() const = 0;
};

// The loop that one writes by hand: edge-triggered, data.u64 has the descriptor and what it is.
class Raw : public Side
{
  public:
    Raw() : epoll_fd_(epoll_create1(EPOLL_CLOEXEC))
    {
        const int one = 1;

        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        addr_ = loopback();
        is_open_ = listener_ >= 0 && epoll_fd_ >= 0 &&
                   setsockopt(listener_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
                   bind(listener_, address(), sizeof(addr_)) == 0 && listen(listener_, 4096) == 0 &&
                   getsockname(listener_, address(), &addr_len_) == 0 &&
                   watch(listener_, kListener, EPOLLIN | EPOLLET);
    }
    ~Raw() override
    {
        close(listener_);
        close(epoll_fd_);
    }
    const char *churn(uint32_t count) override
    {
        epoll_event events[256];

        ended_ = 0;
        for (uint32_t i = 0; i < count; i++)
            if (!is_open_ || !start())
                return "a connection could not be begun";
        for (int turn = 0; turn < kTurnsMax && ended_ < count; turn++) {
            const int found = epoll_wait(epoll_fd_, events, 256, -1);

            calls_++;
            for (int i = 0; i < found; i++)
                if (!handle(events[i]))
                    return "a connection failed";
        }
        return ended_ == count ? nullptr : "a connection did not end";
    }
    double calls() const override
    {
        return static_cast<double>(calls_);
    }
    const char *label() const override
    {
        return "epoll by hand";
    }

  private:
    static constexpr uint64_t kListener = 1;
    static constexpr uint64_t kConnecting = 2;
    static constexpr uint64_t kServer = 3;

    sockaddr *address()
    {
        return reinterpret_cast<sockaddr *>(&addr_);
    }
    bool watch(int fd, uint64_t kind, uint32_t events)
    {
        epoll_event event = {};

        event.events = events;
        event.data.u64 = kind << 32 | static_cast<uint32_t>(fd);
        calls_++;
        return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0;
    }
    bool start()
    {
        const int one = 1;
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
            return false;
        if (connect(fd, address(), sizeof(addr_)) != 0 && errno != EINPROGRESS)
            return false;
        return watch(fd, kConnecting, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
    // Until EAGAIN, as the listener is edge-triggered.
    bool accept_all()
    {
        for (;;) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);

            if (fd < 0)
                return errno == EAGAIN;
            if (!watch(fd, kServer, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET))
                return false;
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &kReset, sizeof(kReset));
            close(fd);
        }
    }
    bool handle(const epoll_event &event)
    {
        const uint64_t kind = event.data.u64 >> 32;
        const int fd = static_cast<int>(event.data.u64);
        socklen_t size = sizeof(int);
        int error = 0;
        char byte;

        if (kind == kListener)
            return accept_all();
        if (kind == kServer)
            return true;
        // One event may tell of both the connection and its end: reading tells which it was.
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
            return false;
        if (error == 0 && recv(fd, &byte, 1, 0) < 0 && errno == EAGAIN)
            return true;
        ended_++;
        return close(fd) == 0;
    }

    sockaddr_in addr_;
    socklen_t addr_len_ = sizeof(addr_);
    int epoll_fd_;
    int listener_;
    bool is_open_;
    uint32_t ended_ = 0;
    uint64_t calls_ = 0;
};

// The same with a runtime: a task for each client, and one that accepts.
class Engine : public Side
{
  public:
    Engine(int64_t backend, int64_t ring) : ring_(ring), runtime_(backend)
    {
        rdy_listen_opts listen = {};
        sockaddr_in addr = loopback();

        listen.size = sizeof(listen);
        listen.is_completing = ring != kNothing;
        listener_.fd = -1;
        is_open_ =
            runtime_.is_open() &&
            rdy_listener_open(&listener_, runtime_.get(), reinterpret_cast<sockaddr *>(&addr),
                              sizeof(addr), &listen) == 0 &&
            rdy_listener_address(&listener_, &addr_, &addr_len_) == 0;
    }
    ~Engine() override
    {
        rdy_listener_close(&listener_);
    }
    const char *churn(uint32_t count) override
    {
        rdy_task_spec client = {};
        void *self;

        if (!is_open_)
            return "the runtime or its listener did not open";
        to_accept_ = count;
        failures_ = 0;
        client.poll = client_poll;
        client.drop = client_drop;
        client.self_size = sizeof(Client);
        if (!runtime_.spawn(accept_poll, this))
            return "a task could not be spawned";
        for (uint32_t i = 0; i < count; i++) {
            if (rdy_spawn(runtime_.get(), &client, &self, nullptr) != 0)
                return "a task could not be spawned";
            static_cast<Client *>(self)->engine = this;
            static_cast<Client *>(self)->stream.fd = -1;
        }
        if (!runtime_.run() || failures_ > 0)
            return "a connection failed";
        return nullptr;
    }
    double calls() const override
    {
        rdy_driver_stats stats;

        rdy_driver_read_stats(rdy_runtime_driver(runtime_.get()), &stats);
        return static_cast<double>(stats.system_calls);
    }
    const char *label() const override
    {
        return is_open_ ? rdy_driver_backend_name(rdy_runtime_driver(runtime_.get())) : "";
    }

  private:
    struct Client {
        Engine *engine;
        rdy_stream stream;
        bool is_begun;
        bool is_connected;
    };

    static int accept_poll(rdy_task *task, void *self)
    {
        Engine *engine = *static_cast<Engine **>(self);

        while (engine->to_accept_ > 0) {
            rdy_stream stream;
            const int rc = rdy_listener_poll_accept(&engine->listener_, task, &stream);

            if (rc == RDY_PENDING)
                return RDY_PENDING;
            if (rc < 0) {
                engine->failures_++;
                return rc;
            }
            engine->to_accept_--;
            if (rdy_stream_set(&stream, RDY_STREAM_LINGER_S, 0) != 0)
                engine->failures_++;
            rdy_stream_close(&stream);
        }
        return 0;
    }
    static int client_connect(rdy_task *task, Client *client)
    {
        Engine *engine = client->engine;
        rdy_connect_opts opts = {};

        opts.size = sizeof(opts);
        opts.is_completing = engine->ring_ == kConnects;
        if (!client->is_begun) {
            const int rc = rdy_stream_start_connect_with(
                &client->stream, engine->runtime_.get(),
                reinterpret_cast<sockaddr *>(&engine->addr_), engine->addr_len_, &opts);

            if (rc < 0)
                return rc;
            client->is_begun = true;
        }
        return rdy_stream_poll_connect(&client->stream, task);
    }
    // One byte, or the end, or an error.
    static ssize_t client_read(rdy_task *task, Client *client)
    {
        rdy_buf buf = {};
        char byte;
        ssize_t result;

        if (client->engine->ring_ == kNothing)
            return rdy_stream_poll_read(&client->stream, task, &byte, 1);
        result = rdy_stream_poll_recv(&client->stream, task, &buf);
        if (result > 0)
            rdy_buf_release(&buf);
        return result;
    }
    static int client_poll(rdy_task *task, void *self)
    {
        Client *client = static_cast<Client *>(self);
        ssize_t result = 0;

        if (!client->is_connected)
            result = client_connect(task, client);
        if (result == 0) {
            client->is_connected = true;
            result = client_read(task, client);
        }
        if (result == RDY_PENDING)
            return RDY_PENDING;
        // The reset may come before the task has looked at its connection.
        if (result != -ECONNRESET)
            client->engine->failures_++;
        return 0;
    }
    static void client_drop(void *self)
    {
        rdy_stream_close(&static_cast<Client *>(self)->stream);
    }

    const int64_t ring_;
    rdy_bench::Runtime runtime_;
    rdy_listener listener_ = {};
    sockaddr_storage addr_ = {};
    socklen_t addr_len_ = 0;
    uint32_t to_accept_ = 0;
    uint32_t failures_ = 0;
    bool is_open_ = false;
};

void churn(benchmark::State &state)
{
    const uint32_t count = static_cast<uint32_t>(state.range(2));
    std::unique_ptr<Side> side;
    double before;

    if (state.range(0) == rdy_bench::kRaw)
        side = std::make_unique<Raw>();
    else
        side = std::make_unique<Engine>(state.range(0), state.range(1));
    // The first round opens what is kept: slab chunks, and the kernel's own memory.
    if (const char *why = side->churn(count)) {
        state.SkipWithError(why);
        return;
    }
    before = side->calls();
    for (auto _ : state) {
        const char *why = side->churn(count);

        if (why) {
            state.SkipWithError(why);
            return;
        }
    }
    state.counters["calls"] =
        benchmark::Counter((side->calls() - before) / count, benchmark::Counter::kAvgIterations);
    state.SetLabel(side->label());
    rdy_bench::each(state, count);
}

BENCHMARK(churn)
    ->ArgNames({"backend", "ring", "connections"})
    ->ArgsProduct({{rdy_bench::kRaw, rdy_bench::kEpoll}, {kNothing}, {1, 64, 512}})
    ->ArgsProduct({{rdy_bench::kUring}, {kNothing, kOperations, kConnects}, {1, 64, 512}});

#define CHURN_GOAL(id, what, row, n)                                                               \
    const rdy_bench::AddGoal id##_##n("churn: " what " / epoll by hand, " #n " at a time",         \
                                      "churn/" row "/connections:" #n,                             \
                                      "churn/backend:0/ring:0/connections:" #n, 0)

#define CHURN_GOALS(n)                                                                             \
    CHURN_GOAL(epoll, "epoll", "backend:2/ring:0", n);                                             \
    CHURN_GOAL(uring, "io_uring", "backend:1/ring:0", n);                                          \
    CHURN_GOAL(operations, "io_uring, operations", "backend:1/ring:1", n);                         \
    CHURN_GOAL(connects, "io_uring, operations and connect", "backend:1/ring:2", n)

CHURN_GOALS(1);
CHURN_GOALS(64);
CHURN_GOALS(512);

} // namespace
