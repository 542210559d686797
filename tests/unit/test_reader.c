/* SPDX-License-Identifier: MIT */
/*
 * The buffered reader, each test on io_uring and on epoll: records however they are cut into
 * packets, and nothing lost when a call is given up.
 */
#include "tests/support/call.h"
#include "tests/support/pair.h"

#include <errno.h>

struct script {
    struct pair pair;
    struct rdy_reader reader;
    unsigned char buf[16];
    unsigned char delimiter;
    const unsigned char *data;
    unsigned char out[64];
    size_t out_len;
    size_t records;
};

static void script_open(struct script *script, void **state)
{
    memset(script, 0, sizeof(*script));
    pair_open(&script->pair, state);
    pair_accept(&script->pair);
    rdy_reader_init(&script->reader, script->buf, sizeof(script->buf));
    script->delimiter = '\n';
}

static ssize_t takes_record(void *test, struct rdy_task *task)
{
    struct script *script = test;

    return rdy_reader_poll_until(&script->reader, &script->pair.server, task, script->delimiter,
                                 &script->data);
}

static ssize_t fills(void *test, struct rdy_task *task)
{
    struct script *script = test;

    return rdy_reader_poll_fill(&script->reader, &script->pair.server, task);
}

static ssize_t reads(void *test, struct rdy_task *task)
{
    struct script *script = test;

    return rdy_reader_poll_read(&script->reader, &script->pair.server, task, script->out,
                                script->out_len);
}

static ssize_t run(struct script *script, call_fn *fn)
{
    return call_run(script->pair.runtime, fn, script);
}

static void expect_record(struct script *script, const char *record)
{
    assert_int_equal(run(script, takes_record), strlen(record));
    assert_memory_equal(script->data, record, strlen(record));
}

static void expect_buffered(const struct script *script, const char *text)
{
    const unsigned char *data;

    assert_int_equal(rdy_reader_peek(&script->reader, &data), strlen(text));
    assert_memory_equal(data, text, strlen(text));
}

static void records_come_one_by_one_out_of_one_packet(void **state)
{
    static struct script script;

    script_open(&script, state);
    say(script.pair.peer, "one\ntwo\n\nthr");

    expect_record(&script, "one\n");
    expect_record(&script, "two\n");
    expect_record(&script, "\n");
    expect_buffered(&script, "thr");
    say(script.pair.peer, "ee\nfour");
    expect_record(&script, "three\n");
    pair_close(&script.pair);
}

/* Cut at every place, through a buffer that has to move its content now and then. */
static void records_are_whole_however_they_are_cut(void **state)
{
    static const char text[] = "a\nbc\n\ndefghijklmnopq\nr\n0123456789abcde\ns\n";
    static struct script script;

    for (size_t piece = 1; piece <= sizeof(text) - 1; piece++) {
        struct call call;
        size_t sent = 0;
        size_t got = 0;

        script_open(&script, state);
        call_start(&call, script.pair.runtime, takes_record, &script);
        while (got < sizeof(text) - 1) {
            size_t len = sizeof(text) - 1 - sent;

            len = len < piece ? len : piece;
            if (len > 0)
                assert_int_equal(send(script.pair.peer, text + sent, len, 0), len);
            sent += len;
            take_turns(script.pair.runtime, 3);
            while (call.result != RDY_PENDING) {
                assert_true(call.result > 0);
                assert_memory_equal(script.data, text + got, (size_t)call.result);
                assert_int_equal(script.data[call.result - 1], '\n');
                assert_null(memchr(script.data, '\n', (size_t)call.result - 1));
                got += (size_t)call.result;
                if (got == sizeof(text) - 1)
                    break;
                call_start(&call, script.pair.runtime, takes_record, &script);
                take_turns(script.pair.runtime, 3);
            }
            assert_true(sent < sizeof(text) - 1 || got == sizeof(text) - 1);
        }
        pair_close(&script.pair);
    }
}

static void record_as_long_as_the_buffer_fits_and_a_longer_one_does_not(void **state)
{
    static struct script script;
    const unsigned char *data;

    script_open(&script, state);
    say(script.pair.peer, "0123456789abcde\n");
    expect_record(&script, "0123456789abcde\n");

    say(script.pair.peer, "0123456789abcdefgh\nx\n");
    assert_int_equal(run(&script, takes_record), -EMSGSIZE);
    assert_int_equal(run(&script, takes_record), -EMSGSIZE);
    assert_int_equal(run(&script, fills), -EMSGSIZE);
    /* Nothing was taken; the caller makes room, and finds the end of the record. */
    assert_int_equal(rdy_reader_peek(&script.reader, &data), 16);
    assert_memory_equal(data, "0123456789abcdef", 16);
    rdy_reader_consume(&script.reader, 16);
    expect_record(&script, "gh\n");
    expect_record(&script, "x\n");
    pair_close(&script.pair);
}

static void end_of_stream_tells_whether_a_rest_is_left(void **state)
{
    static struct script script;

    script_open(&script, state);
    say(script.pair.peer, "whole\nrest");
    assert_int_equal(shutdown(script.pair.peer, SHUT_WR), 0);
    expect_record(&script, "whole\n");

    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(&script, takes_record), -ENODATA);
        expect_buffered(&script, "rest");
    }
    rdy_reader_consume(&script.reader, 4);
    assert_int_equal(run(&script, takes_record), 0);
    assert_int_equal(run(&script, fills), 0);
    pair_close(&script.pair);
}

static void reset_leaves_what_is_buffered(void **state)
{
    static struct script script;

    script_open(&script, state);
    say(script.pair.peer, "rest");
    assert_int_equal(run(&script, fills), 4);
    reset(script.pair.peer);
    script.pair.peer = -1;

    assert_int_equal(run(&script, takes_record), -ECONNRESET);
    expect_buffered(&script, "rest");
    pair_close(&script.pair);
}

/* Given up at RDY_PENDING, in the middle of a record: the next call goes on with it. */
static void call_that_was_given_up_loses_nothing(void **state)
{
    static struct script script;
    struct call call;

    script_open(&script, state);
    say(script.pair.peer, "hel");
    call_start(&call, script.pair.runtime, takes_record, &script);
    call_give_up(&call);
    expect_buffered(&script, "hel");
    call_start(&call, script.pair.runtime, fills, &script);
    call_give_up(&call);
    say(script.pair.peer, "lo\n");

    expect_record(&script, "hello\n");
    pair_close(&script.pair);
}

/* What was searched for one delimiter was not searched for another. */
static void delimiter_may_change_between_two_calls(void **state)
{
    static struct script script;
    struct call call;

    script_open(&script, state);
    say(script.pair.peer, "key=val");
    call_start(&call, script.pair.runtime, takes_record, &script);
    call_give_up(&call);

    script.delimiter = '=';
    expect_record(&script, "key=");
    script.delimiter = '\n';
    say(script.pair.peer, "ue\n");
    expect_record(&script, "value\n");
    pair_close(&script.pair);
}

/* A head by lines, then a body of known length. */
static void read_takes_what_is_buffered_before_the_socket(void **state)
{
    static struct script script;
    struct call call;

    script_open(&script, state);
    script.out_len = sizeof(script.out);
    say(script.pair.peer, "len 6\nabc");
    expect_record(&script, "len 6\n");
    say(script.pair.peer, "def");
    let_driver_turn(&script.pair);

    script.out_len = 2;
    assert_int_equal(run(&script, reads), 2);
    assert_memory_equal(script.out, "ab", 2);
    script.out_len = sizeof(script.out);
    assert_int_equal(run(&script, reads), 1);
    assert_memory_equal(script.out, "c", 1);
    assert_int_equal(run(&script, reads), 3);
    assert_memory_equal(script.out, "def", 3);

    call_start(&call, script.pair.runtime, reads, &script);
    call_give_up(&call);
    assert_int_equal(shutdown(script.pair.peer, SHUT_WR), 0);
    assert_int_equal(run(&script, reads), 0);
    pair_close(&script.pair);
}

static void fill_adds_behind_what_is_there(void **state)
{
    static struct script script;

    script_open(&script, state);
    say(script.pair.peer, "abc");
    assert_int_equal(run(&script, fills), 3);
    say(script.pair.peer, "def");
    assert_int_equal(run(&script, fills), 3);
    expect_buffered(&script, "abcdef");
    rdy_reader_consume(&script.reader, 4);
    expect_buffered(&script, "ef");
    rdy_reader_consume(&script.reader, 0);
    rdy_reader_consume(&script.reader, 2);
    expect_buffered(&script, "");
    pair_close(&script.pair);
}

/* Records that are buffered cost no system call, but they are answers. */
static ssize_t takes_all_records(void *test, struct rdy_task *task)
{
    struct script *script = test;
    ssize_t count;

    do {
        count = takes_record(script, task);
        script->records += count > 0;
    } while (count > 0);
    return count;
}

static void records_pay_from_the_budget(void **state)
{
    static struct script script;
    static unsigned char large[1024];
    static char newlines[1001];
    struct call call;

    script_open(&script, state);
    rdy_reader_init(&script.reader, large, sizeof(large));
    memset(newlines, '\n', sizeof(newlines) - 1);
    say(script.pair.peer, newlines);
    assert_int_equal(shutdown(script.pair.peer, SHUT_WR), 0);
    let_driver_turn(&script.pair);
    call_start(&call, script.pair.runtime, takes_all_records, &script);

    assert_int_equal(call_finish(&call), 0);

    assert_int_equal(script.records, 1000);
    assert_true(call.polls >= 1000 / 128 + 1);
    assert_true(runtime_stats(script.pair.runtime).budget_yields >= 1000 / 128);
    pair_close(&script.pair);
}

static void closed_stream_answers_ebadf_once_the_buffer_is_empty(void **state)
{
    static struct script script;

    script_open(&script, state);
    say(script.pair.peer, "one\n");
    assert_int_equal(run(&script, fills), 4);
    rdy_stream_close(&script.pair.server);

    expect_record(&script, "one\n");
    assert_int_equal(run(&script, takes_record), -EBADF);
    script.out_len = 1;
    assert_int_equal(run(&script, reads), -EBADF);
    pair_close(&script.pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(records_come_one_by_one_out_of_one_packet),
        ON_BOTH(records_are_whole_however_they_are_cut),
        ON_BOTH(record_as_long_as_the_buffer_fits_and_a_longer_one_does_not),
        ON_BOTH(end_of_stream_tells_whether_a_rest_is_left),
        ON_BOTH(reset_leaves_what_is_buffered),
        ON_BOTH(call_that_was_given_up_loses_nothing),
        ON_BOTH(delimiter_may_change_between_two_calls),
        ON_BOTH(read_takes_what_is_buffered_before_the_socket),
        ON_BOTH(fill_adds_behind_what_is_there),
        ON_BOTH(records_pay_from_the_budget),
        ON_BOTH(closed_stream_answers_ebadf_once_the_buffer_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
