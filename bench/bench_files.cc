/* SPDX-License-Identifier: MIT */
/*
 * Files that are no sockets: a byte that goes through two pipes and back, between two tasks; and an
 * eventfd that is raised and taken. Rows of one run: the hand-written epoll loop on the same files
 * (level-triggered, one read and one write an event), io_uring, epoll. One thread throughout, so
 * that what is compared is the work and not the scheduler's.
 */
#include <memory>

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr uint64_t kRounds = 1000;

// One side of the comparison: does kRounds rounds. Nullptr, or what went wrong.
class Side
{
  public:
    virtual ~Side() = default;
    virtual const char *run() = 0;
};

// An epoll set of the raw side.
class Epoll
{
  public:
    Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC))
    {
    }
    ~Epoll()
    {
        close(fd_);
    }
    Epoll(const Epoll &) = delete;
    Epoll &operator=(const Epoll &) = delete;

    bool add(int fd) const
    {
        epoll_event event = {};

        event.events = EPOLLIN;
        event.data.fd = fd;
        return epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event) == 0;
    }
    // The descriptor that is ready, or -1.
    int wait() const
    {
        epoll_event event = {};

        return epoll_wait(fd_, &event, 1, -1) == 1 ? event.data.fd : -1;
    }

  private:
    int fd_;
};

// --- pipes ---

class RawPipes : public Side
{
  public:
    RawPipes()
    {
        is_open_ = pipe2(there_, O_NONBLOCK | O_CLOEXEC) == 0 &&
                   pipe2(back_, O_NONBLOCK | O_CLOEXEC) == 0 && epoll_.add(there_[0]) &&
                   epoll_.add(back_[0]);
    }
    ~RawPipes() override
    {
        for (int fd : {there_[0], there_[1], back_[0], back_[1]})
            close(fd);
    }
    const char *run() override
    {
        uint64_t rounds = 0;
        char buf[64];

        if (!is_open_ || write(there_[1], "x", 1) != 1)
            return "the pipes could not be opened";
        while (rounds < kRounds) {
            const int fd = epoll_.wait();

            if (fd < 0 || read(fd, buf, sizeof(buf)) != 1)
                return "a byte did not come";
            rounds += fd == back_[0] ? 1 : 0;
            if (rounds < kRounds && write(fd == back_[0] ? there_[1] : back_[1], buf, 1) != 1)
                return "a byte could not be written";
        }
        return nullptr;
    }

  private:
    Epoll epoll_;
    int there_[2] = {-1, -1};
    int back_[2] = {-1, -1};
    bool is_open_ = false;
};

// A task that reads a byte and sends it on.
struct Player {
    struct rdy_pipe_receiver *receiver;
    struct rdy_pipe_sender *sender;
    uint64_t left;
    bool is_to_send;
    bool is_last; // what comes in at the end is not sent on
};

int play(struct rdy_task *task, void *self)
{
    Player *player = static_cast<Player *>(self);
    char buf[64] = "x";

    for (;;) {
        ssize_t count;

        if (player->is_to_send) {
            count = rdy_pipe_sender_poll_write(player->sender, task, buf, 1);
            if (count != 1)
                return static_cast<int>(count);
            player->is_to_send = false;
        }
        if (player->left == 0)
            return 0;
        count = rdy_pipe_receiver_poll_read(player->receiver, task, buf, sizeof(buf));
        if (count != 1)
            return static_cast<int>(count);
        player->left--;
        player->is_to_send = player->left > 0 || !player->is_last;
    }
}

class Pipes : public Side
{
  public:
    explicit Pipes(int64_t backend) : runtime_(backend)
    {
        is_open_ = runtime_.is_open() &&
                   rdy_pipe_open(&there_out_, &there_in_, runtime_.get(), nullptr) == 0 &&
                   rdy_pipe_open(&back_out_, &back_in_, runtime_.get(), nullptr) == 0;
    }
    ~Pipes() override
    {
        rdy_pipe_sender_close(&there_out_);
        rdy_pipe_receiver_close(&there_in_);
        rdy_pipe_sender_close(&back_out_);
        rdy_pipe_receiver_close(&back_in_);
    }
    const char *run() override
    {
        const Player there = {&back_in_, &there_out_, kRounds, true, true};
        const Player back = {&there_in_, &back_out_, kRounds, false, false};

        if (!is_open_ || !runtime_.spawn(play, there) || !runtime_.spawn(play, back))
            return "the pipes could not be opened";
        return runtime_.run() ? nullptr : "the runtime failed";
    }

  private:
    rdy_bench::Runtime runtime_;
    struct rdy_pipe_sender there_out_ = {{}, -1, 0};
    struct rdy_pipe_receiver there_in_ = {{}, -1, 0};
    struct rdy_pipe_sender back_out_ = {{}, -1, 0};
    struct rdy_pipe_receiver back_in_ = {{}, -1, 0};
    bool is_open_ = false;
};

// --- eventfds ---

class RawEvent : public Side
{
  public:
    RawEvent() : fds_(1)
    {
        is_open_ = fds_.is_open() && epoll_.add(fds_.fds()[0]);
    }
    const char *run() override
    {
        const int fd = fds_.fds()[0];

        for (uint64_t i = 0; is_open_ && i < kRounds; i++) {
            uint64_t count = 0;

            if (!rdy_bench::EventFds::raise(fd) || epoll_.wait() != fd ||
                read(fd, &count, sizeof(count)) != sizeof(count))
                return "an event did not come";
        }
        return is_open_ ? nullptr : "the eventfd could not be opened";
    }

  private:
    Epoll epoll_;
    rdy_bench::EventFds fds_;
    bool is_open_ = false;
};

struct Notified {
    struct rdy_eventfd *event;
    uint64_t left;
    bool is_raised;
};

int notify(struct rdy_task *task, void *self)
{
    Notified *notified = static_cast<Notified *>(self);

    for (; notified->left > 0; notified->left--) {
        if (!notified->is_raised && rdy_eventfd_add(notified->event, 1) != 0)
            return -EIO;
        notified->is_raised = true;

        const int rc = rdy_eventfd_poll_take(notified->event, task, nullptr);

        if (rc != 0)
            return rc;
        notified->is_raised = false;
    }
    return 0;
}

class Event : public Side
{
  public:
    explicit Event(int64_t backend) : runtime_(backend)
    {
        is_open_ = runtime_.is_open() && rdy_eventfd_open(&event_, runtime_.get(), nullptr) == 0;
    }
    ~Event() override
    {
        rdy_eventfd_close(&event_);
    }
    const char *run() override
    {
        const Notified notified = {&event_, kRounds, false};

        if (!is_open_ || !runtime_.spawn(notify, notified))
            return "the eventfd could not be opened";
        return runtime_.run() ? nullptr : "the runtime failed";
    }

  private:
    rdy_bench::Runtime runtime_;
    struct rdy_eventfd event_ = {{}, -1, false};
    bool is_open_ = false;
};

// --- rows ---

void measure(benchmark::State &state, Side &side)
{
    const char *why = side.run(); // the arms reach the kernel, the caches warm up

    for (auto _ : state) {
        why = why ? why : side.run();
        if (why) {
            state.SkipWithError(why);
            return;
        }
    }
    rdy_bench::each(state, static_cast<double>(kRounds));
}

void pipe_ping_pong(benchmark::State &state)
{
    std::unique_ptr<Side> side;

    if (state.range(0) == rdy_bench::kRaw)
        side = std::make_unique<RawPipes>();
    else
        side = std::make_unique<Pipes>(state.range(0));
    measure(state, *side);
}

void eventfd_notify(benchmark::State &state)
{
    std::unique_ptr<Side> side;

    if (state.range(0) == rdy_bench::kRaw)
        side = std::make_unique<RawEvent>();
    else
        side = std::make_unique<Event>(state.range(0));
    measure(state, *side);
}

BENCHMARK(pipe_ping_pong)
    ->ArgName("backend")
    ->Arg(rdy_bench::kRaw)
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(eventfd_notify)
    ->ArgName("backend")
    ->Arg(rdy_bench::kRaw)
    ->Arg(rdy_bench::kUring)
    ->Arg(rdy_bench::kEpoll)
    ->Unit(benchmark::kMicrosecond);

#define FILE_GOALS(what)                                                                           \
    const rdy_bench::AddGoal what##_uring(#what ": io_uring / raw epoll", #what "/backend:1",      \
                                          #what "/backend:0", 0);                                  \
    const rdy_bench::AddGoal what##_epoll(#what ": epoll / raw epoll", #what "/backend:2",         \
                                          #what "/backend:0", 0)

FILE_GOALS(pipe_ping_pong);
FILE_GOALS(eventfd_notify);

} // namespace
