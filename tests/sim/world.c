/* SPDX-License-Identifier: MIT */
/* Chance, time, and what is going to happen: see world.h. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct event {
    uint64_t at_ns;
    uint64_t order;
    sim_event_fn *fn;
    void *arg;
    uint64_t data;
};

struct sim_world sim;
const char *sim_command = "sim";

/* A heap: the event that comes first is the first. */
static struct event *events;
static size_t events_count;
static size_t events_size;
static uint64_t events_order;

/* --- chance: splitmix64 (Steele, Lea and Flood 2014) --- */

uint64_t sim_random(void)
{
    uint64_t z = sim.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t bound)
{
    return bound ? sim_random() % bound : 0;
}

uint64_t sim_between(uint64_t least, uint64_t most)
{
    return most > least ? least + sim_below(most - least + 1) : least;
}

bool sim_one_of(uint32_t one_of)
{
    return one_of != 0 && sim_below(one_of) == 0;
}

/* --- what is going to happen --- */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void events_swap(size_t a, size_t b)
{
    struct event kept = events[a];

    events[a] = events[b];
    events[b] = kept;
}

static struct event events_pop(void)
{
    struct event first = events[0];
    size_t i = 0;

    events[0] = events[--events_count];
    for (;;) {
        size_t least = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++) {
            if (child < events_count && is_before(&events[child], &events[least]))
                least = child;
        }
        if (least == i)
            return first;
        events_swap(i, least);
        i = least;
    }
}

void sim_after(uint64_t delay_ns, sim_event_fn *fn, void *arg, uint64_t data)
{
    size_t i = events_count++;

    if (events_count > events_size) {
        events_size = events_size ? events_size * 2 : 256;
        events = realloc(events, events_size * sizeof(*events));
        if (!events)
            abort();
    }
    events[i] = (struct event){sim.now_ns + delay_ns, events_order++, fn, arg, data};
    for (; i > 0 && is_before(&events[i], &events[(i - 1) / 2]); i = (i - 1) / 2)
        events_swap(i, (i - 1) / 2);
}

uint64_t sim_next_ns(void)
{
    return events_count ? events[0].at_ns : SIM_NEVER;
}

bool sim_run_due(void)
{
    bool was_something = false;

    while (events_count > 0 && events[0].at_ns <= sim.now_ns) {
        struct event event = events_pop();

        was_something = true;
        sim.happened++;
        event.fn(event.arg, event.data);
    }
    return was_something;
}

void sim_spend(void)
{
    sim.now_ns += 50 + sim_below(500);
    (void)sim_run_due();
}

/* --- the world --- */

void sim_begin(uint64_t seed, bool is_tracing)
{
    sim = (struct sim_world){
        .seed = seed,
        .random = seed * UINT64_C(0xd1342543de82ef95) + 1,
        .now_ns = 1000 * SIM_S,
        .digest = UINT64_C(0xcbf29ce484222325),
        .is_tracing = is_tracing,
    };
    events_order = 0;
    sim_draw_weather(&sim.weather);
}

void sim_end(void)
{
    free(events);
    events = NULL;
    events_count = 0;
    events_size = 0;
}

static void digest(uint64_t value)
{
    sim.digest = (sim.digest ^ value) * UINT64_C(0x100000001b3);
    sim.digest ^= sim.digest >> 29;
}

void sim_note(const char *what, int64_t a, int64_t b, int64_t c)
{
    for (const char *p = what; *p; p++)
        digest((unsigned char)*p);
    digest((uint64_t)a);
    digest((uint64_t)b);
    digest((uint64_t)c);
    digest(sim.now_ns);
    if (sim.is_tracing)
        (void)printf("%14.3f us  #%-5" PRIu64 " %s: %" PRId64 " %" PRId64 " %" PRId64 "\n",
                     (double)(sim.now_ns - 1000 * SIM_S) / 1000, sim.step, what, a, b, c);
}

void sim_fail(const char *format, ...)
{
    va_list arguments;

    (void)fflush(stdout);
    (void)fprintf(stderr, "sim: seed %" PRIu64 ", step %" PRIu64 ", after %.3f ms: ", sim.seed,
                  sim.step, (double)(sim.now_ns - 1000 * SIM_S) / (double)SIM_MS);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "\nsim: see it again with: %s --seed %" PRIu64 " --trace\n", sim_command,
                  sim.seed);
    _exit(1);
}
