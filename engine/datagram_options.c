/* SPDX-License-Identifier: MIT */
/*
 * A datagram socket's options, multicast membership, and what this kernel can. How each option is
 * called on each family stands in one table.
 */
#include "engine/datagram.h"

#include <netinet/in.h>
#include <netinet/udp.h>

#include "engine/socket_options.h"
#include "engine/sys.h"
#include "engine/sys_socket.h"

static const struct rdy_option options[] = {
    [RDY_DATAGRAM_SEND_BUF] = {.any = {SOL_SOCKET, SO_SNDBUF}, .value_max = INT32_MAX},
    [RDY_DATAGRAM_RECV_BUF] = {.any = {SOL_SOCKET, SO_RCVBUF}, .value_max = INT32_MAX},
    [RDY_DATAGRAM_BROADCAST] = {.inet = {SOL_SOCKET, SO_BROADCAST}, .value_max = 1},
    [RDY_DATAGRAM_TTL] = {.inet = {IPPROTO_IP, IP_TTL},
                          .inet6 = {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
                          .value_min = 1,
                          .value_max = 255},
    [RDY_DATAGRAM_TOS] = {.inet = {IPPROTO_IP, IP_TOS},
                          .inet6 = {IPPROTO_IPV6, IPV6_TCLASS},
                          .value_max = 255},
    [RDY_DATAGRAM_RECV_TOS] = {.inet = {IPPROTO_IP, IP_RECVTOS},
                               .inet6 = {IPPROTO_IPV6, IPV6_RECVTCLASS},
                               .value_max = 1},
    [RDY_DATAGRAM_MULTICAST_TTL] = {.inet = {IPPROTO_IP, IP_MULTICAST_TTL},
                                    .inet6 = {IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
                                    .value_max = 255},
    [RDY_DATAGRAM_MULTICAST_LOOP] = {.inet = {IPPROTO_IP, IP_MULTICAST_LOOP},
                                     .inet6 = {IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
                                     .value_max = 1},
    [RDY_DATAGRAM_GRO] = {.inet = {SOL_UDP, UDP_GRO}, .inet6 = {SOL_UDP, UDP_GRO}, .value_max = 1},
    [RDY_DATAGRAM_PASS_CREDENTIALS] = {.local = {SOL_SOCKET, SO_PASSCRED}, .value_max = 1},
};

#define OPTIONS_COUNT (sizeof(options) / sizeof(options[0]))

static_assert(OPTIONS_COUNT == RDY_DATAGRAM_PASS_CREDENTIALS + 1, "every option has its row");

static int family_of(const struct rdy_datagram *datagram)
{
    if (datagram->flags & RDY_DATAGRAM_INET)
        return AF_INET;
    if (datagram->flags & RDY_DATAGRAM_INET6)
        return AF_INET6;
    return datagram->flags & RDY_DATAGRAM_UNIX ? AF_UNIX : AF_UNSPEC;
}

int rdy_datagram_set(struct rdy_datagram *datagram, enum rdy_datagram_option which, int value)
{
    if (datagram->fd < 0)
        return -EBADF;
    if ((uint32_t)which >= OPTIONS_COUNT)
        return -EINVAL;
    return rdy_option_set(&options[which], datagram->fd, family_of(datagram), value);
}

int rdy_datagram_get(const struct rdy_datagram *datagram, enum rdy_datagram_option which,
                     int *value)
{
    if (datagram->fd < 0)
        return -EBADF;
    if ((uint32_t)which >= OPTIONS_COUNT)
        return -EINVAL;
    return rdy_option_get(&options[which], datagram->fd, family_of(datagram), value);
}

static int change_membership(struct rdy_datagram *datagram, const struct sockaddr *group,
                             socklen_t group_len, uint32_t interface_index, int name)
{
    struct group_req request = {.gr_interface = interface_index};
    socklen_t want_len;

    if (datagram->fd < 0)
        return -EBADF;
    if ((datagram->flags & (RDY_DATAGRAM_INET | RDY_DATAGRAM_INET6)) == 0)
        return -EOPNOTSUPP;
    if (group_len < sizeof(group->sa_family))
        return -EINVAL;
    if (group->sa_family != AF_INET && group->sa_family != AF_INET6)
        return -EINVAL;
    want_len =
        group->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (group_len < want_len)
        return -EINVAL;
    rdy_assert(want_len <= sizeof(request.gr_group));
    memcpy(&request.gr_group, group, want_len);
    return rdy_sys_setsockopt(datagram->fd, group->sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
                              name, &request, sizeof(request));
}

int rdy_datagram_join(struct rdy_datagram *datagram, const struct sockaddr *group,
                      socklen_t group_len, uint32_t interface_index)
{
    return change_membership(datagram, group, group_len, interface_index, MCAST_JOIN_GROUP);
}

int rdy_datagram_leave(struct rdy_datagram *datagram, const struct sockaddr *group,
                       socklen_t group_len, uint32_t interface_index)
{
    return change_membership(datagram, group, group_len, interface_index, MCAST_LEAVE_GROUP);
}

int rdy_datagram_set_multicast_interface(struct rdy_datagram *datagram, uint32_t interface_index)
{
    struct ip_mreqn request = {.imr_ifindex = (int)interface_index};

    if (datagram->fd < 0)
        return -EBADF;
    if (interface_index > INT32_MAX)
        return -ENODEV;
    if (datagram->flags & RDY_DATAGRAM_INET6)
        return rdy_sys_setsockopt_int(datagram->fd, IPPROTO_IPV6, IPV6_MULTICAST_IF,
                                      (int)interface_index);
    if (datagram->flags & RDY_DATAGRAM_INET)
        return rdy_sys_setsockopt(datagram->fd, IPPROTO_IP, IP_MULTICAST_IF, &request,
                                  sizeof(request));
    return -EOPNOTSUPP;
}

int rdy_datagram_probe(uint32_t *abilities)
{
    uint32_t found = 0;
    int value = 0;
    int fd = rdy_sys_socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0)
        return fd;
    if (rdy_sys_getsockopt_int(fd, SOL_UDP, UDP_SEGMENT, &value) == 0)
        found |= RDY_DATAGRAM_CAN_SEGMENT;
    if (rdy_sys_setsockopt_int(fd, SOL_UDP, UDP_GRO, 1) == 0)
        found |= RDY_DATAGRAM_CAN_GRO;
    (void)rdy_sys_close(fd);
    *abilities = found;
    return 0;
}
