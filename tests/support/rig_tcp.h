/* SPDX-License-Identifier: MIT */
/* For tests of completion mode over TCP: the peer can reset the connection. */
#ifndef RDY_TESTS_SUPPORT_RIG_TCP_H
#define RDY_TESTS_SUPPORT_RIG_TCP_H

#include "tests/support/rig.h"

/* A TCP connection. */
static inline void rig_connect_tcp(struct rig *rig)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &addr_len), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    rig->peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(rig->peer >= 0);
    assert_int_equal(rdy_stream_from_fd(&rig->stream, rig->runtime, fd), 0);
    assert_int_equal(close(listener), 0);
}

/* Its peer resets it. */
static inline void rig_reset_peer(struct rig *rig)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(rig->peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    rig_hang_up(rig);
}

#endif
