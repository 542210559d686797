/* SPDX-License-Identifier: MIT */
/*
 * What the bench files share: goals, which are printed as ratios after the rows; a driver, a
 * runtime, eventfds and a connection that clean up after themselves; a pinned thread.
 *
 * A bench reports what one operation took through each(): the goals compare that figure, so a row
 * may do as many operations in an iteration as it likes.
 */
#ifndef RDY_BENCH_SUPPORT_H
#define RDY_BENCH_SUPPORT_H

#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <sched.h>

#include <rdy/rdy.h>

namespace rdy_bench
{

// A line of the summary: the figure of the row `name` over that of the row `against` (a name
// without what google-benchmark appends to it), or, with an empty `against`, in nanoseconds.
// limit 0: nothing was promised.
struct Goal {
    std::string what;
    std::string name;
    std::string against;
    double limit;
};

// Registered before main() runs, one object for each line.
class AddGoal
{
  public:
    AddGoal(const char *what, const char *name, const char *against, double limit);
};

const std::vector<Goal> &goals();

// Reports the time of one of `count` operations in an iteration, as the counter "each".
void each(benchmark::State &state, double count);

// Nanoseconds of CLOCK_MONOTONIC.
uint64_t now_ns();

// Nanoseconds that this thread has had of a processor: others on a busy machine do not count.
uint64_t cpu_ns();

// The backend argument of a row: RDY_BACKEND_*, or kRaw for the bare system calls.
constexpr int64_t kRaw = 0;
constexpr int64_t kUring = RDY_BACKEND_URING;
constexpr int64_t kEpoll = RDY_BACKEND_EPOLL;

// A driver on a forced backend. The thread that makes it is its thread.
class Driver
{
  public:
    explicit Driver(int64_t backend);
    ~Driver();
    Driver(const Driver &) = delete;
    Driver &operator=(const Driver &) = delete;

    bool is_open() const
    {
        return driver_ != nullptr;
    }
    const std::string &why() const
    {
        return why_;
    }
    rdy_driver *get() const
    {
        return driver_;
    }
    struct rdy_driver_stats stats() const;

  private:
    rdy_driver *driver_ = nullptr;
    std::string why_;
};

// The options of a runtime on a forced backend.
rdy_runtime_opts runtime_opts(int64_t backend);

// A runtime, closed at the end. The thread that makes it is its thread.
class Runtime
{
  public:
    explicit Runtime(const rdy_runtime_opts &opts);
    explicit Runtime(int64_t backend) : Runtime(runtime_opts(backend))
    {
    }
    ~Runtime();
    Runtime(const Runtime &) = delete;
    Runtime &operator=(const Runtime &) = delete;

    bool is_open() const
    {
        return runtime_ != nullptr;
    }
    rdy_runtime *get() const
    {
        return runtime_;
    }
    // Runs the tasks that there are; false if it is not open, or failed.
    bool run() const;
    // A task whose own struct is a copy of `self`, often a pointer; false if there is none.
    template <typename Self>
    bool spawn(rdy_poll_fn *poll, const Self &self, rdy_task_id *id = nullptr) const
    {
        void *made = nullptr;

        if (!spawn_sized(poll, sizeof(self), &made, id))
            return false;
        std::memcpy(made, &self, sizeof(self));
        return true;
    }

  protected:
    bool spawn_sized(rdy_poll_fn *poll, size_t self_size, void **self, rdy_task_id *id) const;

  private:
    rdy_runtime *runtime_ = nullptr;
};

// Nonblocking eventfds, closed at the end.
class EventFds
{
  public:
    explicit EventFds(size_t count);
    ~EventFds();
    EventFds(const EventFds &) = delete;
    EventFds &operator=(const EventFds &) = delete;

    bool is_open() const
    {
        return is_open_;
    }
    const std::vector<int> &fds() const
    {
        return fds_;
    }
    // One more: a new edge, whether or not the last one was read.
    static bool raise(int fd);

  private:
    std::vector<int> fds_;
    bool is_open_ = true;
};

// A TCP connection over loopback, without Nagle's delay. The outer end is the bench's own, for
// plain calls; the inner one, nonblocking, is for what is measured.
class Connection
{
  public:
    Connection();
    ~Connection();
    Connection(const Connection &) = delete;
    Connection &operator=(const Connection &) = delete;

    bool is_open() const
    {
        return inside_ >= 0;
    }
    int outside() const
    {
        return outside_;
    }
    int inside() const
    {
        return inside_;
    }
    // Whoever takes it closes it.
    int take_inside();

  private:
    int outside_ = -1;
    int inside_ = -1;
};

// Keeps the calling thread on one processor while it lives; does nothing where there is only one.
class Pinned
{
  public:
    explicit Pinned(int cpu);
    ~Pinned();
    Pinned(const Pinned &) = delete;
    Pinned &operator=(const Pinned &) = delete;

  private:
    cpu_set_t before_;
};

} // namespace rdy_bench

#endif
