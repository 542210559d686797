/* SPDX-License-Identifier: MIT */
#include "apps/numbers.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Reads digits from *text and moves it behind them. */
static int take_digits(const char **text, uint64_t *value)
{
    const char *at = *text;
    uint64_t sum = 0;

    if (*at < '0' || *at > '9')
        return -EINVAL;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum))
            return -ERANGE;
    }
    *text = at;
    *value = sum;
    return 0;
}

static const struct unit *unit_find(const struct unit *units, size_t count, const char *suffix)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].suffix, suffix) == 0)
            return &units[i];
    }
    return NULL;
}

static int parse_scaled(const char *text, const struct unit *units, size_t count, uint64_t *value)
{
    const struct unit *unit;
    uint64_t number;
    int rc = take_digits(&text, &number);

    if (rc < 0)
        return rc;
    unit = unit_find(units, count, text);
    if (!unit)
        return -EINVAL;
    return __builtin_mul_overflow(number, unit->factor, value) ? -ERANGE : 0;
}

int parse_count(const char *text, uint64_t *value)
{
    static const struct unit units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}};

    return parse_scaled(text, units, sizeof(units) / sizeof(units[0]), value);
}

int parse_size(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {{"", 1}, {"k", 1024}, {"K", 1024}, {"M", 1048576}};

    return parse_scaled(text, units, sizeof(units) / sizeof(units[0]), bytes);
}

/* The digits behind the point as billionths; those beyond the ninth are too fine to matter. */
static int take_fraction(const char **text, uint64_t *billionths)
{
    uint64_t place = NS_PER_S;

    *billionths = 0;
    if (**text != '.')
        return 0;
    (*text)++;
    if (**text < '0' || **text > '9')
        return -EINVAL;
    for (; **text >= '0' && **text <= '9'; (*text)++) {
        place /= 10;
        *billionths += place * (uint64_t)(**text - '0');
    }
    return 0;
}

int parse_duration(const char *text, uint64_t *duration_ns)
{
    static const struct unit units[] = {
        {"", NS_PER_S}, {"s", NS_PER_S}, {"ms", 1000000}, {"us", 1000}, {"m", 60 * NS_PER_S}};
    const struct unit *unit;
    uint64_t whole;
    uint64_t billionths;
    int rc = take_digits(&text, &whole);

    if (rc < 0)
        return rc;
    rc = take_fraction(&text, &billionths);
    if (rc < 0)
        return rc;
    unit = unit_find(units, sizeof(units) / sizeof(units[0]), text);
    if (!unit)
        return -EINVAL;
    if (__builtin_mul_overflow(whole, unit->factor, duration_ns))
        return -ERANGE;
    /* At most 60e9 times 1e9: still far from 2^64 after the division by parts. */
    billionths = unit->factor / 1000 * billionths / (NS_PER_S / 1000);
    return __builtin_add_overflow(*duration_ns, billionths, duration_ns) ? -ERANGE : 0;
}
