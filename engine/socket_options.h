/* SPDX-License-Identifier: MIT */
/*
 * Socket options as rows of tables: how each is called on each family, and what values it takes.
 *
 * An IPv6 socket carries IPv4 traffic too, which has settings of its own; so there both are set,
 * and the IPv6 one is read.
 */
#ifndef RDY_ENGINE_SOCKET_OPTIONS_H
#define RDY_ENGINE_SOCKET_OPTIONS_H

#include <sys/socket.h>

#include "engine/base.h"

struct rdy_option_name {
    int level; /* 0 with name 0: this family has no such option */
    int name;
};

struct rdy_option {
    struct rdy_option_name any;   /* for every family, or none; TCP's: others refuse them */
    struct rdy_option_name inet;  /* IPv4, and IPv4 traffic of an IPv6 socket */
    struct rdy_option_name inet6; /* IPv6 */
    struct rdy_option_name local; /* Unix */
    int value_min;
    int value_max;
};

static inline bool rdy_option_is_named(struct rdy_option_name name)
{
    return name.level != 0 || name.name != 0;
}

/* True if a call has to know the socket's family. */
static inline bool rdy_option_needs_family(const struct rdy_option *option)
{
    return !rdy_option_is_named(option->any);
}

/* 0, -EOPNOTSUPP (not on this family), -EINVAL (not in range), or what the kernel says. */
int rdy_option_set(const struct rdy_option *option, int fd, int family, int value);
int rdy_option_get(const struct rdy_option *option, int fd, int family, int *value);

/* One of several options that a new socket gets before its first use, if it is wanted. */
struct rdy_setting {
    bool is_wanted;
    int level;
    int name;
    int value;
};

/* Sets those that are wanted, in order, up to the first that fails: its -errno, or 0. */
int rdy_settings_apply(int fd, const struct rdy_setting *settings, size_t settings_count);

/* SO_BINDTODEVICE; @device NULL: not wanted. */
int rdy_settings_bind_device(int fd, const char *device);

#endif
