/* SPDX-License-Identifier: MIT */
/*
 * The text for Prometheus, line by line. That it is one that a strict reader takes is for
 * tests/apps/test_metrics.py, which has such a reader.
 */
#include "tests/support/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rdy/metrics.h>

#include "engine/poll_time.h"

#define TEXT_MAX 65536

/* The numbers before is_timed stand side by side. */
#define FIRST         offsetof(struct rdy_metrics, spawned_tasks_count)
#define NUMBERS_COUNT ((offsetof(struct rdy_metrics, is_timed) - FIRST) / sizeof(uint64_t))

/* Each number of the snapshot is another one. */
static void fill(struct rdy_metrics *metrics, uint64_t from)
{
    memset(metrics, 0, sizeof(*metrics));
    metrics->backend = "epoll";
    for (size_t i = 0; i < NUMBERS_COUNT; i++) {
        uint64_t number = from + i;

        memcpy((char *)metrics + FIRST + i * sizeof(number), &number, sizeof(number));
    }
}

static const char *write_text(const struct rdy_metrics_set *sets, size_t sets_count)
{
    static char text[TEXT_MAX];
    ssize_t len = rdy_metrics_write_prometheus(sets, sets_count, text, sizeof(text));

    check(len >= 0 && (size_t)len < sizeof(text));
    assert_int_equal(strlen(text), len);
    return text;
}

static size_t occurrences(const char *text, const char *wanted)
{
    size_t count = 0;

    while ((text = strstr(text, wanted))) {
        count++;
        text += strlen(wanted);
    }
    return count;
}

static void assert_line(const char *text, const char *line)
{
    char whole[512];

    (void)snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (occurrences(text, whole) != 1)
        fail_msg("not there once: %s", line);
}

/* A field that the writer forgot, or wrote twice, shows as a number that is not there once. */
static void each_number_of_a_snapshot_is_written_once(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_set set = {.metrics = &metrics};
    const char *text;

    (void)state;
    fill(&metrics, 7000);
    text = write_text(&set, 1);
    for (size_t i = 0; i < NUMBERS_COUNT; i++) {
        char value[32];
        char seconds[32];

        (void)snprintf(value, sizeof(value), " %zu\n", 7000 + i);
        (void)snprintf(seconds, sizeof(seconds), " 0.%09zu\n", 7000 + i);
        assert_int_equal(occurrences(text, value) + occurrences(text, seconds), 1);
    }
    assert_int_equal(occurrences(text, "\n# TYPE "), NUMBERS_COUNT + 1);
    assert_int_equal(occurrences(text, "# HELP "), NUMBERS_COUNT + 1);
}

static void families_have_their_names_and_types(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_set set = {.metrics = &metrics};
    const char *text;

    (void)state;
    fill(&metrics, 7000);
    metrics.spawned_tasks_count = UINT64_MAX;
    metrics.alive_tasks = 12;
    metrics.spin_duration_ns = 12345;
    text = write_text(&set, 1);
    assert_line(text, "# TYPE rdy_spawned_tasks_total counter\n"
                      "rdy_spawned_tasks_total 18446744073709551615");
    assert_line(text, "# HELP rdy_alive_tasks Tasks spawned and not ended.\n"
                      "# TYPE rdy_alive_tasks gauge\n"
                      "rdy_alive_tasks 12");
    assert_line(text, "rdy_backend_info{backend=\"epoll\"} 1");
    assert_line(text, "# TYPE rdy_spin_seconds_total counter\n"
                      "rdy_spin_seconds_total 0.000012345");
    /* It was not timed: no other times but that one's, in HELP, TYPE and number. */
    assert_int_equal(occurrences(text, "seconds"), 3);
}

static void several_runtimes_share_a_head_and_differ_in_labels(void **state)
{
    struct rdy_metrics metrics[2];
    struct rdy_metrics_label labels[2][2] = {
        {{"app", "echo"}, {"runtime", "0"}},
        {{"app", "echo"}, {"runtime", "1"}},
    };
    struct rdy_metrics_set sets[2];
    const char *text;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fill(&metrics[i], 7000 + 100 * i);
        sets[i] = (struct rdy_metrics_set){&metrics[i], labels[i], 2};
    }
    metrics[1].is_timed = true;
    metrics[1].busy_duration_ns = 1500000000;
    text = write_text(sets, 2);
    assert_line(text, "# TYPE rdy_spawned_tasks_total counter\n"
                      "rdy_spawned_tasks_total{app=\"echo\",runtime=\"0\"} 7000\n"
                      "rdy_spawned_tasks_total{app=\"echo\",runtime=\"1\"} 7100");
    assert_line(text, "# TYPE rdy_busy_duration_seconds_total counter\n"
                      "rdy_busy_duration_seconds_total{app=\"echo\",runtime=\"1\"} 1.500000000");
    assert_int_equal(occurrences(text, "# TYPE rdy_poll_time_seconds histogram\n"), 1);
    assert_int_equal(occurrences(text, "rdy_poll_time_seconds_count{app=\"echo\",runtime=\"1\"}"),
                     1);
    assert_int_equal(occurrences(text, "rdy_poll_time_seconds_count{app=\"echo\",runtime=\"0\"}"),
                     0);
}

static void histogram_is_cumulative_and_its_edges_are_inclusive(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_set set = {.metrics = &metrics};
    const uint64_t times_ns[] = {
        0, 1, 64, 65, 128, UINT64_C(1) << 34, (UINT64_C(1) << 34) + 1, UINT64_MAX};
    const char *text;

    (void)state;
    fill(&metrics, 7000);
    metrics.is_timed = true;
    metrics.poll_time_ns = 1;
    for (size_t i = 0; i < sizeof(times_ns) / sizeof(times_ns[0]); i++)
        metrics.poll_time_buckets[rdy_poll_time_bucket(times_ns[i])]++;
    text = write_text(&set, 1);
    assert_line(text, "rdy_poll_time_seconds_bucket{le=\"0.000000064\"} 3");
    assert_line(text, "rdy_poll_time_seconds_bucket{le=\"0.000000128\"} 5");
    assert_line(text, "rdy_poll_time_seconds_bucket{le=\"8.589934592\"} 5");
    assert_line(text, "rdy_poll_time_seconds_bucket{le=\"17.179869184\"} 6");
    assert_line(text, "rdy_poll_time_seconds_bucket{le=\"+Inf\"} 8");
    assert_line(text, "rdy_poll_time_seconds_sum 0.000000001");
    assert_line(text, "rdy_poll_time_seconds_count 8");
    assert_int_equal(occurrences(text, "rdy_poll_time_seconds_bucket{"), 34 - 6 + 2);
}

static void label_values_are_escaped(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_label label = {"name", "a\\b\"c\nd{}, \xc3\xa9"};
    struct rdy_metrics_set set = {&metrics, &label, 1};

    (void)state;
    fill(&metrics, 7000);
    assert_line(write_text(&set, 1),
                "rdy_spawned_tasks_total{name=\"a\\\\b\\\"c\\nd{}, \xc3\xa9\"} 7000");
    assert_int_equal(occurrences(write_text(&set, 1), "\nd{"), 0);
}

static void label_names_are_checked(void **state)
{
    static const char *const bad[] = {"", "1a", "a-b", "a b", "__a", "le", "backend", "\xc3\xa9"};
    static const char *const good[] = {"a", "_a", "A_9", "lee"};
    struct rdy_metrics metrics;
    char buf[16] = "untouched";

    (void)state;
    fill(&metrics, 7000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rdy_metrics_label label = {bad[i], "x"};
        struct rdy_metrics_set set = {&metrics, &label, 1};

        assert_int_equal(rdy_metrics_write_prometheus(&set, 1, buf, sizeof(buf)), -EINVAL);
    }
    assert_string_equal(buf, "untouched");
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct rdy_metrics_label label = {good[i], "x"};
        struct rdy_metrics_set set = {&metrics, &label, 1};

        check(rdy_metrics_write_prometheus(&set, 1, NULL, 0) > 0);
    }
}

static void label_name_that_stands_twice_is_refused(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_label labels[] = {{"a", "x"}, {"b", "x"}, {"a", "y"}};
    struct rdy_metrics_set set = {&metrics, labels, 3};

    (void)state;
    fill(&metrics, 7000);
    assert_int_equal(rdy_metrics_write_prometheus(&set, 1, NULL, 0), -EINVAL);
    set.labels_count = 2;
    check(rdy_metrics_write_prometheus(&set, 1, NULL, 0) > 0);
}

/* At every length: the same answer, as much of the text as fits, a NUL, and nothing behind it. */
static void buffer_that_is_too_small_gets_the_beginning(void **state)
{
    struct rdy_metrics metrics;
    struct rdy_metrics_set set = {.metrics = &metrics};
    char *whole;
    size_t len;

    (void)state;
    fill(&metrics, 7000);
    metrics.is_timed = true;
    whole = strdup(write_text(&set, 1));
    len = strlen(whole);
    for (size_t room = 0; room <= len + 1; room += room < 200 || room + 200 > len ? 1 : 97) {
        char *buf = malloc(room + 1);

        buf[room] = 'x';
        assert_int_equal(rdy_metrics_write_prometheus(&set, 1, buf, room), len);
        assert_int_equal(buf[room], 'x');
        if (room > 0) {
            assert_int_equal(buf[room - 1 < len ? room - 1 : len], '\0');
            assert_memory_equal(buf, whole, room - 1 < len ? room - 1 : len);
        }
        free(buf);
    }
    free(whole);
}

static void no_runtime_is_an_empty_text(void **state)
{
    (void)state;
    assert_string_equal(write_text(NULL, 0), "");
    assert_int_equal(rdy_metrics_write_prometheus(NULL, 0, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_number_of_a_snapshot_is_written_once),
        cmocka_unit_test(families_have_their_names_and_types),
        cmocka_unit_test(several_runtimes_share_a_head_and_differ_in_labels),
        cmocka_unit_test(histogram_is_cumulative_and_its_edges_are_inclusive),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(label_names_are_checked),
        cmocka_unit_test(label_name_that_stands_twice_is_refused),
        cmocka_unit_test(buffer_that_is_too_small_gets_the_beginning),
        cmocka_unit_test(no_runtime_is_an_empty_text),
    };

    return cmocka_run_group_tests_name("metrics_text", tests, NULL, NULL);
}
