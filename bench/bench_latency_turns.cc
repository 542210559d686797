/* SPDX-License-Identifier: MIT */
/*
 * From a write to its read as in bench_latency.cc, but all arms at the same time, for the sake of
 * the tail: a host that is busy with others for some milliseconds is most of a 99th percentile, and
 * rows that are run one after the other meet it by chance. Here each arm sleeps in a thread of its
 * own, on one processor, and about once a millisecond one of them, drawn anew in each cycle, gets a
 * message from a thread on another. So whatever disturbs one disturbs all, a message apart.
 *
 * A row is a percentile of an arm, over all its messages. One run gives all rows.
 */
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support.h"

namespace
{

constexpr size_t kMessages = 5000;
constexpr uint64_t kPauseNs = 1000000;
constexpr size_t kArms = 5;

enum Arm : int64_t {
    kBare,
    kBareRing,
    kEpollReadiness,
    kUringReadiness,
    kUringCompletion
};

// How long each message was under way, in nanoseconds.
class Samples
{
  public:
    // Of some messages that one read brought, each the time at which it was written.
    bool add(const void *bytes, ssize_t count)
    {
        const uint64_t now = rdy_bench::now_ns();
        uint64_t sent;

        if (count <= 0 || count % static_cast<ssize_t>(sizeof(sent)) != 0)
            return false;
        for (ssize_t at = 0; at < count; at += static_cast<ssize_t>(sizeof(sent))) {
            memcpy(&sent, static_cast<const char *>(bytes) + at, sizeof(sent));
            took_.push_back(now - sent);
        }
        return true;
    }
    bool is_full() const
    {
        return took_.size() >= kMessages;
    }
    // `thousandths` of the messages took no longer.
    double quantile_s(size_t thousandths)
    {
        const size_t place = std::min(took_.size() - 1, took_.size() * thousandths / 1000);

        std::sort(took_.begin(), took_.end());
        return static_cast<double>(took_[place]) / 1e9;
    }

  private:
    std::vector<uint64_t> took_;
};

void read_bare(const rdy_bench::Connection &wire, Samples *samples)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event watch = {};

    watch.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, wire.inside(), &watch) != 0)
        return;
    while (!samples->is_full()) {
        epoll_event event;
        uint64_t bytes[64];

        if (epoll_wait(epoll, &event, 1, -1) == 1 &&
            !samples->add(bytes, recv(wire.inside(), bytes, sizeof(bytes), 0)))
            break;
    }
    close(epoll);
}

// A ring by hand: one receive that goes on, into provided buffers.
class BareRing
{
  public:
    explicit BareRing(int fd)
    {
        io_uring_params params = {};

        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        has_ring_ = io_uring_queue_init_params(8, &ring_, &params) == 0;
        is_open_ = has_ring_ && lend() && begin(fd);
    }
    ~BareRing()
    {
        if (has_ring_)
            io_uring_queue_exit(&ring_);
    }
    BareRing(const BareRing &) = delete;
    BareRing &operator=(const BareRing &) = delete;

    // Sleeps for the next message; false if there is none.
    bool take(Samples *samples)
    {
        io_uring_cqe *cqe;
        bool is_sound;
        size_t id;

        if (!is_open_ || io_uring_submit_and_wait(&ring_, 1) < 0 ||
            io_uring_peek_cqe(&ring_, &cqe) != 0)
            return false;
        id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        is_sound = samples->add(bytes_[id].data(), cqe->res) && (cqe->flags & IORING_CQE_F_MORE);
        give(id);
        io_uring_cqe_seen(&ring_, cqe);
        return is_sound;
    }

  private:
    static constexpr unsigned kBuffers = 8;

    bool lend()
    {
        io_uring_buf_reg reg = {};

        reg.ring_addr = reinterpret_cast<uintptr_t>(entries_.data());
        reg.ring_entries = kBuffers;
        if (io_uring_register_buf_ring(&ring_, &reg, 0) != 0)
            return false;
        for (size_t id = 0; id < kBuffers; id++)
            give(id);
        return true;
    }
    bool begin(int fd)
    {
        io_uring_sqe *const sqe = io_uring_get_sqe(&ring_);

        if (!sqe)
            return false;
        io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
        return true;
    }
    void give(size_t id)
    {
        io_uring_buf &entry = entries_[given_++ % kBuffers];

        entry.addr = reinterpret_cast<uintptr_t>(bytes_[id].data());
        entry.len = static_cast<uint32_t>(bytes_[id].size());
        entry.bid = static_cast<uint16_t>(id);
        io_uring_buf_ring_advance(reinterpret_cast<io_uring_buf_ring *>(entries_.data()), 1);
    }

    alignas(4096) std::array<io_uring_buf, kBuffers> entries_ = {};
    size_t given_ = 0;
    std::array<std::array<char, 512>, kBuffers> bytes_ = {};
    io_uring ring_ = {};
    bool has_ring_ = false;
    bool is_open_ = false;
};

void read_bare_ring(const rdy_bench::Connection &wire, Samples *samples)
{
    BareRing ring(wire.inside());

    while (!samples->is_full() && ring.take(samples)) {
    }
}

struct Reader {
    rdy_stream stream;
    Samples *samples;
    bool is_completing;
};

// 0: all has come, or nothing more will; else RDY_PENDING.
int reader_step(Reader *reader, rdy_task *task)
{
    for (;;) {
        uint64_t bytes[64];
        rdy_buf buf = {};
        const ssize_t count =
            reader->is_completing
                ? rdy_stream_poll_recv(&reader->stream, task, &buf)
                : rdy_stream_poll_read(&reader->stream, task, bytes, sizeof(bytes));
        bool is_sound;

        if (count == RDY_PENDING)
            return RDY_PENDING;
        is_sound = reader->samples->add(
            reader->is_completing ? buf.data : reinterpret_cast<uint8_t *>(bytes), count);
        rdy_buf_release(&buf);
        if (!is_sound || reader->samples->is_full())
            return 0;
    }
}

int reader_poll(rdy_task *task, void *self)
{
    Reader *const reader = *static_cast<Reader **>(self);

    if (reader_step(reader, task) == RDY_PENDING)
        return RDY_PENDING;
    rdy_stream_close(&reader->stream);
    return 0;
}

// Ends early, with too few samples, if something cannot be had.
void read_rdy(rdy_bench::Connection *wire, int64_t backend, bool is_completing, Samples *samples)
{
    const rdy_bench::Runtime runtime(backend);
    Reader reader = {};

    reader.samples = samples;
    reader.is_completing = is_completing;
    if (!runtime.is_open() ||
        rdy_stream_from_fd(&reader.stream, runtime.get(), wire->inside()) != 0)
        return;
    wire->take_inside();
    if (!runtime.spawn(reader_poll, &reader) || !runtime.run())
        rdy_stream_close(&reader.stream);
}

void read_arm(size_t arm, rdy_bench::Connection *wire, Samples *samples)
{
    const rdy_bench::Pinned pinned(0);

    switch (arm) {
    case kBare:
        read_bare(*wire, samples);
        break;
    case kBareRing:
        read_bare_ring(*wire, samples);
        break;
    case kEpollReadiness:
        read_rdy(wire, rdy_bench::kEpoll, false, samples);
        break;
    case kUringReadiness:
        read_rdy(wire, rdy_bench::kUring, false, samples);
        break;
    default:
        read_rdy(wire, rdy_bench::kUring, true, samples);
        break;
    }
}

// A message for each arm, in an order that is drawn, so that none always follows another.
void write_all(const std::array<rdy_bench::Connection, kArms> &wires)
{
    const rdy_bench::Pinned pinned(1);
    const timespec pause = {0, static_cast<long>(kPauseNs)};
    std::array<size_t, kArms> order = {0, 1, 2, 3, 4};
    std::minstd_rand random;

    for (size_t cycle = 0; cycle < kMessages; cycle++) {
        std::shuffle(order.begin(), order.end(), random);
        for (const size_t arm : order) {
            uint64_t now;

            nanosleep(&pause, nullptr);
            now = rdy_bench::now_ns();
            if (send(wires[arm].outside(), &now, sizeof(now), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                return;
        }
    }
}

using Results = std::array<Samples, kArms>;

// Empty samples where something could not be had.
std::unique_ptr<Results> measure()
{
    auto results = std::make_unique<Results>();
    std::array<rdy_bench::Connection, kArms> wires;
    std::vector<std::thread> readers;

    for (const rdy_bench::Connection &wire : wires)
        if (!wire.is_open())
            return results;
    for (size_t arm = 0; arm < kArms; arm++)
        readers.emplace_back(read_arm, arm, &wires[arm], &(*results)[arm]);
    write_all(wires);
    for (const rdy_bench::Connection &wire : wires)
        shutdown(wire.outside(), SHUT_WR); // whoever still reads has lost a message, and ends
    for (std::thread &reader : readers)
        reader.join();
    return results;
}

// Each run gives the rows that are asked for, once each; the next time the same is asked for there
// is another run.
Samples *samples_for(int64_t arm, int64_t thousandths)
{
    static std::unique_ptr<Results> results;
    static std::vector<std::array<int64_t, 2>> given;
    const std::array<int64_t, 2> row = {arm, thousandths};

    if (!results || std::find(given.begin(), given.end(), row) != given.end()) {
        results = measure();
        given.clear();
    }
    given.push_back(row);
    return &(*results)[static_cast<size_t>(arm)];
}

void wake_to_read_in_turn(benchmark::State &state)
{
    Samples *const samples = samples_for(state.range(0), state.range(1));

    for (auto _ : state) {
        if (!samples->is_full()) {
            state.SkipWithError("some messages did not arrive");
            break;
        }
        state.SetIterationTime(samples->quantile_s(static_cast<size_t>(state.range(1))));
    }
    rdy_bench::each(state, 1);
}

void rows(benchmark::internal::Benchmark *bench)
{
    bench->ArgNames({"arm", "thousandths"});
    for (const int64_t thousandths : {500, 990, 999})
        for (int64_t arm = 0; arm < static_cast<int64_t>(kArms); arm++)
            bench->Args({arm, thousandths});
}
BENCHMARK(wake_to_read_in_turn)->Apply(rows)->UseManualTime()->Iterations(1);

const rdy_bench::AddGoal goals[] = {
    {"wake to read, 50 %: bare io_uring / bare epoll", "wake_to_read_in_turn/arm:1/thousandths:500",
     "wake_to_read_in_turn/arm:0/thousandths:500", 0},
    {"wake to read, 50 %: epoll / bare epoll", "wake_to_read_in_turn/arm:2/thousandths:500",
     "wake_to_read_in_turn/arm:0/thousandths:500", 0},
    {"wake to read, 50 %: io_uring / bare epoll", "wake_to_read_in_turn/arm:3/thousandths:500",
     "wake_to_read_in_turn/arm:0/thousandths:500", 0},
    {"wake to read, 50 %: completion / bare epoll", "wake_to_read_in_turn/arm:4/thousandths:500",
     "wake_to_read_in_turn/arm:0/thousandths:500", 0},
    {"wake to read, 99 %: bare io_uring / bare epoll", "wake_to_read_in_turn/arm:1/thousandths:990",
     "wake_to_read_in_turn/arm:0/thousandths:990", 0},
    {"wake to read, 99 %: epoll / bare epoll", "wake_to_read_in_turn/arm:2/thousandths:990",
     "wake_to_read_in_turn/arm:0/thousandths:990", 0},
    {"wake to read, 99 %: io_uring / bare epoll", "wake_to_read_in_turn/arm:3/thousandths:990",
     "wake_to_read_in_turn/arm:0/thousandths:990", 0},
    {"wake to read, 99 %: completion / bare epoll", "wake_to_read_in_turn/arm:4/thousandths:990",
     "wake_to_read_in_turn/arm:0/thousandths:990", 0},
    {"wake to read, 99.9 %: bare io_uring / bare epoll",
     "wake_to_read_in_turn/arm:1/thousandths:999", "wake_to_read_in_turn/arm:0/thousandths:999", 0},
    {"wake to read, 99.9 %: epoll / bare epoll", "wake_to_read_in_turn/arm:2/thousandths:999",
     "wake_to_read_in_turn/arm:0/thousandths:999", 0},
    {"wake to read, 99.9 %: io_uring / bare epoll", "wake_to_read_in_turn/arm:3/thousandths:999",
     "wake_to_read_in_turn/arm:0/thousandths:999", 0},
    {"wake to read, 99.9 %: completion / bare epoll", "wake_to_read_in_turn/arm:4/thousandths:999",
     "wake_to_read_in_turn/arm:0/thousandths:999", 0},
};

} // namespace
