/* SPDX-License-Identifier: MIT */
/*
 * The truth table: what happens to a file, and what the registration is then
 * ready for. Each row runs on io_uring, on epoll and on two fakes that ask
 * poll(2), and must come out the same, although the kernel interfaces say it
 * differently (a ring reports only what woke it, epoll everything).
 *
 * Readiness only ever gains flags here, because nothing clears; so "exactly
 * these" is what counts: a final flag too many would be believed for ever.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "tests/support/stage.h"

#define RW         (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define RWE        (RW | RDY_INTEREST_ERROR)
#define BOTH_READY (RDY_READABLE | RDY_WRITABLE)
#define BOTH_ENDED (RDY_READ_CLOSED | RDY_WRITE_CLOSED)

/* --- TCP --- */

static void fresh_tcp_is_writable(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void data_from_the_peer_makes_readable(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);
    put(pair.peer, "data");

    stage_expect(stage, &reg, RWE, BOTH_READY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void data_before_the_registration_is_seen(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg;

    put(pair.peer, "data");
    reg = stage_register(stage, pair.ours, RWE);

    stage_expect(stage, &reg, RWE, BOTH_READY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* A half-closed peer still reads: the write half must stay open (a busy loop
 * elsewhere). */
static void half_close_by_the_peer_ends_reading_only(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    shutdown(pair.peer, SHUT_WR);

    stage_expect(stage, &reg, RWE, BOTH_READY | RDY_READ_CLOSED);
    put(pair.ours, "still read");

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void half_close_by_both_ends_both(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    shutdown(pair.peer, SHUT_WR);
    stage_expect(stage, &reg, RWE, BOTH_READY | RDY_READ_CLOSED);
    shutdown(pair.ours, SHUT_WR);

    stage_expect(stage, &reg, RWE, BOTH_READY | BOTH_ENDED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void own_shutdown_of_reading_ends_reading_only(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);
    shutdown(pair.ours, SHUT_RD);

    stage_expect(stage, &reg, RWE, BOTH_READY | RDY_READ_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void reset_ends_both_with_an_error(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);
    hang_up(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RWE, BOTH_READY | BOTH_ENDED | RDY_ERROR);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void reset_ends_writing_for_one_who_only_writes(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_WRITE);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    hang_up(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE | RDY_WRITE_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* "Hang-up" of a socket that was never connected is not final: it may connect
 * later. */
static void unconnected_tcp_is_not_closed_and_can_connect(struct stage *stage)
{
    struct sockaddr_in address;
    int listener = tcp_listener(&address);
    int fd = tcp_unconnected();
    struct rdy_registration reg = stage_register(stage, fd, RWE);

    stage_expect(stage, &reg, RWE, BOTH_READY);
    stage_forget(&reg, RWE);
    (void)connect(fd, (struct sockaddr *)&address, sizeof(address));

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);

    rdy_deregister(&reg);
    close(fd);
    close(listener);
}

static void refused_connect_ends_both_with_an_error(struct stage *stage)
{
    struct sockaddr_in address;
    int fd = tcp_unconnected();
    struct rdy_registration reg;

    close(tcp_listener(&address));
    (void)connect(fd, (struct sockaddr *)&address, sizeof(address));
    reg = stage_register(stage, fd, RWE);

    stage_expect(stage, &reg, RWE, BOTH_READY | BOTH_ENDED | RDY_ERROR);

    rdy_deregister(&reg);
    close(fd);
}

static void urgent_data_is_a_priority(struct stage *stage)
{
    uint32_t interest = RWE | RDY_INTEREST_PRIORITY;
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, interest);

    stage_expect(stage, &reg, interest, RDY_WRITABLE);
    check(send(pair.peer, "!", 1, MSG_OOB) == 1);

    stage_expect(stage, &reg, interest, BOTH_READY | RDY_PRIORITY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* A ring's wake-up for plain data has the priority bit in its key. */
static void plain_data_is_no_priority(struct stage *stage)
{
    uint32_t interest = RWE | RDY_INTEREST_PRIORITY;
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, interest);

    stage_expect(stage, &reg, interest, RDY_WRITABLE);
    put(pair.peer, "data");

    stage_expect(stage, &reg, interest, BOTH_READY);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* Edges: what was left unread is not announced again; the reader knows that it
 * did not drain. */
static void partial_read_gives_no_new_event(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);

    put(pair.peer, "twelve bytes");
    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    assert_int_equal(get(pair.ours, 4), 4);
    stage_forget(&reg, RDY_INTEREST_READ);

    stage_expect(stage, &reg, RDY_INTEREST_READ, 0);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void new_data_after_draining_is_a_new_event(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);

    put(pair.peer, "first");
    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    assert_int_equal(drain(pair.ours), 5);
    stage_forget(&reg, RDY_INTEREST_READ);
    stage_expect(stage, &reg, RDY_INTEREST_READ, 0);
    put(pair.peer, "second");

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void full_socket_is_writable_again_when_the_peer_reads(struct stage *stage)
{
    struct pair pair = pair_unix();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_WRITE);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    fill(pair.ours);
    stage_forget(&reg, RDY_INTEREST_WRITE);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, 0);
    check(drain(pair.peer) > 0);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void accepting_one_of_two_gives_no_new_event(struct stage *stage)
{
    struct sockaddr_in address;
    int listener = tcp_listener(&address);
    int first = tcp_dial(&address);
    int second = tcp_dial(&address);
    struct rdy_registration reg = stage_register(stage, listener, RDY_INTEREST_READ);
    int accepted;

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    check(accepted >= 0);
    stage_forget(&reg, RDY_INTEREST_READ);

    stage_expect(stage, &reg, RDY_INTEREST_READ, 0);

    rdy_deregister(&reg);
    close(accepted);
    close(second);
    close(first);
    close(listener);
}

/* --- pipes --- */

static void pipe_reader_sees_data_and_then_the_end(struct stage *stage)
{
    struct pair pair = pair_pipe_reader();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);

    put(pair.peer, "last words");
    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE | RDY_READ_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void empty_pipe_without_writer_is_only_closed(struct stage *stage)
{
    struct pair pair = pair_pipe_reader();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);

    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READ_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void pipe_writer_without_reader_is_closed(struct stage *stage)
{
    struct pair pair = pair_pipe_writer();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_WRITE);

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE);
    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE | RDY_WRITE_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* With the pipe full the kernel says ERR and nothing else; the writer must hear
 * of it all the same. */
static void full_pipe_without_reader_is_closed(struct stage *stage)
{
    struct pair pair = pair_pipe_writer();
    struct rdy_registration reg;

    fill(pair.ours);
    reg = stage_register(stage, pair.ours, RDY_INTEREST_WRITE);
    stage_expect(stage, &reg, RDY_INTEREST_WRITE, 0);
    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RDY_INTEREST_WRITE, RDY_WRITABLE | RDY_WRITE_CLOSED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* --- AF_UNIX --- */

static void unix_peer_gone_ends_both(struct stage *stage)
{
    struct pair pair = pair_unix();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RWE, BOTH_READY | BOTH_ENDED);

    rdy_deregister(&reg);
    close_pair(&pair);
}

static void unix_peer_gone_with_unread_data_is_an_error_too(struct stage *stage)
{
    struct pair pair = pair_unix();
    struct rdy_registration reg = stage_register(stage, pair.ours, RWE);

    put(pair.ours, "nobody will read this");
    close(pair.peer);
    pair.peer = -1;

    stage_expect(stage, &reg, RWE, BOTH_READY | BOTH_ENDED | RDY_ERROR);

    rdy_deregister(&reg);
    close_pair(&pair);
}

/* --- UDP --- */

/* An ICMP message is an error of one datagram: the next send works, so nothing
 * is closed. */
static void icmp_error_is_transient(struct stage *stage)
{
    int fd = udp_to_nobody();
    struct rdy_registration reg = stage_register(stage, fd, RWE);

    stage_expect(stage, &reg, RWE, RDY_WRITABLE);
    put(fd, "anybody?");

    stage_expect(stage, &reg, RWE, BOTH_READY | RDY_ERROR);
    assert_int_equal(get(fd, 64), -ECONNREFUSED);
    put(fd, "anybody now?");

    rdy_deregister(&reg);
    close(fd);
}

/* A bare ERR must reach one who waits for data: recv(2) is what fetches it. */
static void icmp_error_reaches_one_who_only_reads(struct stage *stage)
{
    int fd = udp_to_nobody();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);

    stage_expect(stage, &reg, RDY_INTEREST_READ, 0);
    put(fd, "anybody?");

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    assert_int_equal(get(fd, 64), -ECONNREFUSED);

    rdy_deregister(&reg);
    close(fd);
}

/* Data wakes nobody who waits for the end alone, read or not; the end and a reset do. */
static void interest_in_the_end_sees_the_end_only(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_CLOSED);

    put(pair.peer, "hello");
    stage_expect(stage, &reg, RDY_INTEREST_CLOSED, 0);
    check(shutdown(pair.peer, SHUT_WR) == 0);
    stage_expect(stage, &reg, RDY_INTEREST_CLOSED, RDY_READ_CLOSED);
    rdy_deregister(&reg);
    close_pair(&pair);

    pair = pair_tcp();
    reg = stage_register(stage, pair.ours, RWE | RDY_INTEREST_PRIORITY);
    put(pair.peer, "hello");
    stage_expect(stage, &reg, RDY_INTEREST_CLOSED, 0);
    hang_up(pair.peer);
    pair.peer = -1;
    stage_expect(stage, &reg, RDY_INTEREST_CLOSED, RDY_READ_CLOSED);
    rdy_deregister(&reg);
    close_pair(&pair);
}

static void interest_in_errors_sees_errors_only(struct stage *stage)
{
    int fd = udp_to_nobody();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_ERROR);

    stage_expect(stage, &reg, RDY_INTEREST_ERROR, 0);
    put(fd, "anybody?");

    stage_expect(stage, &reg, RDY_INTEREST_ERROR, RDY_ERROR);

    rdy_deregister(&reg);
    close(fd);
}

/* --- other files --- */

static void event_descriptor_is_writable_and_readable_once_written(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RW);

    stage_expect(stage, &reg, RW, RDY_WRITABLE);
    event_write(fd);

    stage_expect(stage, &reg, RW, BOTH_READY);

    rdy_deregister(&reg);
    close(fd);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(fresh_tcp_is_writable, ON_ALL),
        SCENARIO(data_from_the_peer_makes_readable, ON_ALL),
        SCENARIO(data_before_the_registration_is_seen, ON_ALL),
        SCENARIO(half_close_by_the_peer_ends_reading_only, ON_ALL),
        SCENARIO(half_close_by_both_ends_both, ON_ALL),
        SCENARIO(own_shutdown_of_reading_ends_reading_only, ON_ALL),
        SCENARIO(reset_ends_both_with_an_error, ON_ALL),
        SCENARIO(reset_ends_writing_for_one_who_only_writes, ON_ALL),
        SCENARIO(unconnected_tcp_is_not_closed_and_can_connect, ON_ALL),
        SCENARIO(refused_connect_ends_both_with_an_error, ON_ALL),
        SCENARIO(urgent_data_is_a_priority, ON_ALL),
        SCENARIO(plain_data_is_no_priority, ON_ALL),
        SCENARIO(partial_read_gives_no_new_event, ON_ALL),
        SCENARIO(new_data_after_draining_is_a_new_event, ON_ALL),
        SCENARIO(full_socket_is_writable_again_when_the_peer_reads, ON_ALL),
        SCENARIO(accepting_one_of_two_gives_no_new_event, ON_ALL),
        SCENARIO(pipe_reader_sees_data_and_then_the_end, ON_ALL),
        SCENARIO(empty_pipe_without_writer_is_only_closed, ON_ALL),
        SCENARIO(pipe_writer_without_reader_is_closed, ON_ALL),
        SCENARIO(full_pipe_without_reader_is_closed, ON_ALL),
        SCENARIO(unix_peer_gone_ends_both, ON_ALL),
        SCENARIO(unix_peer_gone_with_unread_data_is_an_error_too, ON_ALL),
        SCENARIO(icmp_error_is_transient, ON_ALL),
        SCENARIO(icmp_error_reaches_one_who_only_reads, ON_ALL),
        SCENARIO(interest_in_errors_sees_errors_only, ON_ALL),
        SCENARIO(interest_in_the_end_sees_the_end_only, ON_ALL),
        SCENARIO(event_descriptor_is_writable_and_readable_once_written, ON_ALL),
    };

    return scenarios_run("truth_table", rows, sizeof(rows) / sizeof(rows[0]));
}
