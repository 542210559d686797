/* SPDX-License-Identifier: MIT */
/*
 * Datagrams over UDP on the loopback interface: 32 sent and received in one call each, against one
 * by one. An iteration is a task's poll that does nothing else, many times; "each" is what one
 * datagram cost, sent and received. Most of it is the kernel's network, which is the same for both.
 */
#include <array>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "bench/support.h"

namespace
{

constexpr size_t kBatch = 32;
constexpr size_t kLen = 64;

// Two sockets, the first of which sends to the second, and the memory of a batch.
class Ends
{
  public:
    explicit Ends(int64_t backend) : runtime_(opts(backend))
    {
        one_.fd = -1;
        other_.fd = -1;
        is_open_ = runtime_.is_open() && open();
    }
    ~Ends()
    {
        rdy_datagram_close(&one_);
        rdy_datagram_close(&other_);
    }
    Ends(const Ends &) = delete;
    Ends &operator=(const Ends &) = delete;

    bool is_open() const
    {
        return is_open_;
    }

    // Sends and receives `rounds` batches within one task; false if one of them did not go through.
    bool run(bool is_many, int64_t rounds)
    {
        rounds_ = rounds;
        is_ok_ = true;
        return runtime_.spawn(is_many ? poll_many : poll_single, this) && runtime_.run() && is_ok_;
    }

  private:
    // A poll may do as much as an iteration wants.
    static rdy_runtime_opts opts(int64_t backend)
    {
        rdy_runtime_opts opts = rdy_bench::runtime_opts(backend);

        opts.task_budget = 1u << 20;
        return opts;
    }
    bool open()
    {
        sockaddr_in addr = {};
        sockaddr_storage bound = {};
        socklen_t bound_len = sizeof(bound);

        addr.sin_family = AF_INET;
        addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (rdy_datagram_open(&one_, runtime_.get(), AF_INET, nullptr) != 0 ||
            rdy_datagram_open(&other_, runtime_.get(), AF_INET, nullptr) != 0 ||
            rdy_datagram_bind(&other_, reinterpret_cast<sockaddr *>(&addr), sizeof(addr)) != 0 ||
            rdy_datagram_local_address(&other_, &bound, &bound_len) != 0)
            return false;
        for (size_t i = 0; i < kBatch; i++) {
            out_[i] = {};
            out_[i].buf = bufs_[i].data();
            out_[i].len = kLen;
            out_[i].info.addr = bound;
            out_[i].info.addr_len = bound_len;
            in_[i] = {};
            in_[i].buf = bufs_[i].data();
            in_[i].buf_len = kLen;
        }
        return true;
    }

    bool many(rdy_task *task)
    {
        return rdy_datagram_poll_send_many(&one_, task, out_.data(), kBatch) == kBatch &&
               rdy_datagram_poll_recv_many(&other_, task, in_.data(), kBatch) == kBatch;
    }

    bool single(rdy_task *task)
    {
        for (rdy_datagram_message &message : out_) {
            const auto *addr = reinterpret_cast<const sockaddr *>(&message.info.addr);

            if (rdy_datagram_poll_send_to(&one_, task, message.buf, kLen, addr,
                                          message.info.addr_len) != kLen)
                return false;
        }
        for (rdy_datagram_message &message : in_)
            if (rdy_datagram_poll_recv_from(&other_, task, message.buf, kLen, &message.info) !=
                kLen)
                return false;
        return true;
    }

    // Until the driver has said once that there is something, the receiver does not even try.
    bool is_ready() const
    {
        return rdy_event_ready(rdy_ready_event(&other_.reg, RDY_INTEREST_READ)) != 0;
    }

    static int poll(rdy_task *task, Ends *ends, bool (Ends::*batch)(rdy_task *))
    {
        if (!ends->is_ready())
            rdy_assume_ready(&ends->other_.reg, RDY_READABLE);
        for (int64_t i = 0; i < ends->rounds_ && ends->is_ok_; i++)
            ends->is_ok_ = (ends->*batch)(task);
        return 0;
    }
    static int poll_many(rdy_task *task, void *self)
    {
        return poll(task, *static_cast<Ends **>(self), &Ends::many);
    }
    static int poll_single(rdy_task *task, void *self)
    {
        return poll(task, *static_cast<Ends **>(self), &Ends::single);
    }

    rdy_bench::Runtime runtime_;
    rdy_datagram one_ = {};
    rdy_datagram other_ = {};
    std::array<rdy_datagram_message, kBatch> out_;
    std::array<rdy_datagram_message, kBatch> in_;
    std::array<std::array<char, kLen>, kBatch> bufs_ = {};
    int64_t rounds_ = 0;
    bool is_ok_ = true;
    bool is_open_ = false;
};

void datagrams(benchmark::State &state, bool is_many)
{
    constexpr int64_t kRounds = 100;
    Ends ends(state.range(0));
    const rdy_bench::Pinned pinned(0);

    if (!ends.is_open()) {
        state.SkipWithError("the sockets could not be opened");
        return;
    }
    for (auto _ : state) {
        if (!ends.run(is_many, kRounds)) {
            state.SkipWithError("a datagram did not go through");
            break;
        }
    }
    rdy_bench::each(state, static_cast<double>(kRounds * kBatch));
}

void datagram_many(benchmark::State &state)
{
    datagrams(state, true);
}

void datagram_single(benchmark::State &state)
{
    datagrams(state, false);
}

using rdy_bench::kEpoll;
using rdy_bench::kUring;

BENCHMARK(datagram_single)->ArgName("backend")->Arg(kUring)->Arg(kEpoll);
BENCHMARK(datagram_many)->ArgName("backend")->Arg(kUring)->Arg(kEpoll);

const rdy_bench::AddGoal goals[] = {
    {"32 datagrams a call / one by one, on io_uring", "datagram_many/backend:1",
     "datagram_single/backend:1", 1.0},
    {"32 datagrams a call / one by one, on epoll", "datagram_many/backend:2",
     "datagram_single/backend:2", 1.0},
};

} // namespace
