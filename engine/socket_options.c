/* SPDX-License-Identifier: MIT */
/* Setting and reading socket options by their rows; see the header. Any thread. */
#include "engine/socket_options.h"

#include <netinet/in.h>

#include "engine/sys.h"
#include "engine/sys_socket.h"

/* How @option is called on this family; not named if it has none such. */
static struct rdy_option_name option_name(const struct rdy_option *option, int family)
{
    if (rdy_option_is_named(option->any))
        return option->any;
    switch (family) {
    case AF_INET:
        return option->inet;
    case AF_INET6:
        return option->inet6;
    case AF_UNIX:
        return option->local;
    default:
        return (struct rdy_option_name){0};
    }
}

int rdy_option_set(const struct rdy_option *option, int fd, int family, int value)
{
    struct rdy_option_name name = option_name(option, family);
    int rc;

    rdy_assert(option->value_min < option->value_max);
    if (!rdy_option_is_named(name))
        return -EOPNOTSUPP;
    if (value < option->value_min || value > option->value_max)
        return -EINVAL;
    rc = rdy_sys_setsockopt_int(fd, name.level, name.name, value);
    /* An IPv6-only socket may refuse what it never uses. */
    if (rc == 0 && family == AF_INET6 && option->inet.level == IPPROTO_IP &&
        rdy_option_is_named(option->inet))
        (void)rdy_sys_setsockopt_int(fd, option->inet.level, option->inet.name, value);
    return rc;
}

int rdy_option_get(const struct rdy_option *option, int fd, int family, int *value)
{
    struct rdy_option_name name = option_name(option, family);
    int read_value = 0;
    int rc;

    if (!rdy_option_is_named(name))
        return -EOPNOTSUPP;
    rc = rdy_sys_getsockopt_int(fd, name.level, name.name, &read_value);
    if (rc == 0)
        *value = read_value;
    return rc;
}

int rdy_settings_apply(int fd, const struct rdy_setting *settings, size_t settings_count)
{
    int rc = 0;

    rdy_assert(fd >= 0);
    for (size_t i = 0; i < settings_count && rc == 0; i++)
        if (settings[i].is_wanted)
            rc = rdy_sys_setsockopt_int(fd, settings[i].level, settings[i].name, settings[i].value);
    return rc;
}

int rdy_settings_bind_device(int fd, const char *device)
{
    rdy_assert(fd >= 0);
    if (!device)
        return 0;
    return rdy_sys_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
}
