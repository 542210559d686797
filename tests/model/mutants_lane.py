# SPDX-License-Identifier: MIT
"""The seeded bugs of completion mode: see mutants_seeds.py, which takes them in."""
LANE = "engine/lane.c"
SEND = "engine/lane_send.c"
ACCEPT = "engine/lane_accept.c"
CONNECT = "engine/lane_connect.c"
DISPATCH = "engine/dispatch.c"


def send_seeds(seed):
    yield seed(
        "send-not-idle", LANE,
        "    return lane->recv != RDY_RECV_ACTIVE && lane->recv != RDY_RECV_CANCELLING &&\n"
        "           lane->send == RDY_SEND_IDLE;",
        "    return lane->recv != RDY_RECV_ACTIVE && lane->recv != RDY_RECV_CANCELLING;",
        ("send_vs_close",), "a slot is given back while a send runs")
    yield seed(
        "send-freed-under-way", LANE,
        "    else if ((lane->flags & RDY_LANE_CONNECTS) == 0)\n"
        "        rdy_recv_drop(completion, lane);",
        "    else if ((lane->flags & RDY_LANE_CONNECTS) == 0)\n"
        "        rdy_recv_drop(completion, lane);\n"
        "    if (lane->send == RDY_SEND_WAITING) {\n"
        "        lane->sending = 0;\n        rdy_send_drop(completion, lane);\n    }",
        ("send_stop_put_off", "send_vs_close"), "a close frees what the kernel is sending")
    yield seed(
        "send-not-cancelled", LANE,
        "    if (lane->send == RDY_SEND_WAITING || lane->send == RDY_SEND_CONNECTING)",
        "    if (lane->send == RDY_SEND_CONNECTING)",
        ("send_vs_close_from_afar",), "a send that waits is not asked to stop")
    yield seed(
        "send-cancel-forgotten", LANE,
        "disarm(backend, io->fd, token) != -EBUSY;",
        "disarm(backend, io->fd, token) <= 1;",
        ("send_stop_put_off",), "a cancel for which there was no room is not made again")
    yield seed(
        "send-part-forgotten", SEND,
        "        rdy_send_advance(completion, lane, (size_t)result < bytes ? (size_t)result : "
        "bytes);",
        "        (void)bytes;",
        ("send_vs_close",), "what a try sent in part is sent again")
    yield seed(
        "send-part-is-all", SEND,
        "(size_t)result < bytes ? (size_t)result : bytes);", "bytes);",
        ("send_vs_close",), "a part that went out is taken for all")
    yield seed(
        "send-error-forgotten", SEND,
        "        lane->send_error = (int16_t)result;", "        (void)0;",
        ("send_vs_reset",), "the error of a send is not kept")
    yield seed(
        "send-leaves-unseen", SEND,
        "        rdy_lane_check_leaving(lane);\n        return;", "        return;",
        ("send_vs_close",), "the end of a send gives no slot back")
    yield seed(
        "send-queued-dropped", SEND,
        "            rdy_assert(lane->unsent.first);\n",
        "            rdy_assert(lane->unsent.first);\n"
        "            if (lane->flags & RDY_LANE_LEAVING) {\n"
        "                lane->send = RDY_SEND_IDLE;\n"
        "                rdy_lane_check_leaving(lane);\n                continue;\n            }\n",
        ("send_close_at_once",), "a close drops what was handed over before it")
    yield seed(
        "send-goes-on-at-the-end", SEND,
        "    if (lane->unsent.first && !rdy_lane_is_unwanted(lane))", "    if (lane->unsent.first)",
        ("send_vs_shutdown",), "a send that the driver's end has cancelled begins anew")
    yield seed(
        "send-settles-unsettled", LANE,
        "    if (completion->trying.first && rdy_driver_backend(completion->driver)->is_settled)",
        "    if (completion->trying.first)",
        ("send_ring_lost",), "silence is taken for success before all was submitted")


def lost_seeds(seed):
    yield seed(
        "lost-always-resends", LANE,
        "    return lane->send == RDY_SEND_TRYING && "
        "!lane->io->driver->completion->is_doubtful &&\n"
        "           (error == -EPERM || error == -ENOSYS || error == -EACCES);",
        "    return lane->send == RDY_SEND_TRYING && error != 0;",
        ("send_ring_lost",), "after a death a try that may have begun is made again")
    yield seed(
        "lost-never-doubts", LANE,
        "lane->send == RDY_SEND_TRYING && !lane->io->driver->completion->is_doubtful &&",
        "lane->send == RDY_SEND_TRYING &&",
        ("send_ring_refused_late",), "a try of an earlier turn is made again")
    yield seed(
        "lost-never-resends", LANE,
        "    bool is_intact = !was_sending || may_resend(lane, error);",
        "    bool is_intact = !was_sending;\n\n    (void)may_resend;\n    (void)error;",
        ("send_ring_refused",), "tries that never began count as lost")
    yield seed(
        "lost-sends-on", LANE,
        "    if (!is_intact)\n        rdy_send_fail(completion, lane, -EIO);",
        "    if (!is_intact)\n        (void)completion;",
        ("send_ring_lost",), "what a dead ring may have sent goes out again")
    yield seed(
        "lost-not-salvaged", DISPATCH,
        "    if (driver->completion)\n        salvage(driver);", "    (void)salvage;",
        ("accept_ring_lost",), "what a dead ring has to say is not heard")


def accept_seeds(seed):
    yield seed(
        "accept-leaving-leaks", ACCEPT,
        "        (void)rdy_sys_close(fd);\n        return;\n    }\n    accepted = lane->accepted;",
        "        return;\n    }\n    accepted = lane->accepted;",
        ("accept_vs_close",), "a connection that comes for a lane that leaves stays open")
    yield seed(
        "accept-drop-leaks", ACCEPT,
        "        (void)rdy_sys_close(accepted_pop(accepted));",
        "        (void)accepted_pop(accepted);",
        ("accept_vs_close",), "a connection that nobody took stays open")
    yield seed(
        "accept-stays-active", ACCEPT,
        "        lane->recv = RDY_RECV_IDLE;\n        if (fact->result < 0",
        "        if (fact->result < 0",
        ("accept_vs_close",), "an accept that ended counts as running")
    yield seed(
        "accept-leaves-unseen", ACCEPT,
        "        rdy_lane_check_leaving(lane);\n        return 0;", "        return 0;",
        ("accept_vs_close",), "the last fact of an accept gives no slot back")
    yield seed(
        "accept-cancel-uncounted", ACCEPT,
        "        if (lane->recv == RDY_RECV_CANCELLING)\n", "        if (false)\n",
        ("accept_vs_close",), "a cancel that was answered counts as pending")
    yield seed(
        "accept-error-lost", ACCEPT,
        "            lane->recv_error = (int16_t)fact->result;", "            (void)0;",
        ("accept_vs_failure",), "the error that ended an accept is told to nobody")
    yield seed(
        "accept-error-sticks", ACCEPT,
        "    lane->recv_error = 0;\n    if (error)", "    if (error)",
        ("accept_vs_failure",), "it is told again and again, and nothing begins")
    yield seed(
        "accept-stopped-as-recv", LANE,
        "lane->flags & RDY_LANE_LISTENER ? RDY_ABOUT_ACCEPT : RDY_ABOUT_RECV", "RDY_ABOUT_RECV",
        ("accept_vs_close",), "another operation than the accept is asked to stop")


def connect_seeds(seed):
    yield seed(
        "connect-address-freed", LANE,
        "    else if ((lane->flags & RDY_LANE_CONNECTS) == 0)\n",
        "    else if (lane->flags & RDY_LANE_CONNECTS)\n        rdy_connect_end(lane);\n    else\n",
        ("connect_vs_close",), "a close frees the address that the kernel has")
    yield seed(
        "connect-not-cancelled", LANE,
        "    if (lane->send == RDY_SEND_WAITING || lane->send == RDY_SEND_CONNECTING)",
        "    if (lane->send == RDY_SEND_WAITING)",
        ("connect_vs_close_from_afar",), "a connect is not asked to stop")
    yield seed(
        "connect-stays-active", CONNECT,
        "        return 0;\n    lane->send = RDY_SEND_IDLE;\n", "        return 0;\n",
        ("connect_vs_close",), "a connect that ended counts as running")
    yield seed(
        "connect-begins-leaving", CONNECT,
        "    if (rdy_lane_is_unwanted(lane)) {\n        lane->send = RDY_SEND_IDLE;",
        "    if (false) {\n        lane->send = RDY_SEND_IDLE;",
        ("connect_vs_close_from_afar", "connect_vs_shutdown"),
        "a connect that nobody wants any more begins")
    yield seed(
        "connect-early-is-answer", CONNECT,
        "    case -EALREADY:\n", "",
        ("connect_too_early",), "a look that came too early is taken for the answer")
    yield seed(
        "connect-peer-unasked", CONNECT,
        "    if (result == 0 && !has_peer(io->fd))", "    (void)has_peer;\n    if (false)",
        ("connect_too_early",), "a success that came too early is taken for the answer")
    yield seed(
        "connect-not-watched", CONNECT,
        "            rdy_driver_arm(io->driver, io);", "            (void)io;",
        ("connect_too_early",), "nobody watches a connect that goes on without the ring")
    yield seed(
        "connect-lost-forgotten", CONNECT,
        "    if (was_asked && !rdy_lane_is_unwanted(lane))\n        (void)go_on_by_call(lane);",
        "    (void)was_asked;",
        ("connect_ring_lost",), "a connect ends with its ring, and nobody is told")
    yield seed(
        "connect-answer-silent", CONNECT,
        "    rdy_lane_stamp(lane, rdy_translate((enum rdy_file_kind)lane->io->kind, events));",
        "    (void)events;",
        ("connect_too_early",), "the answer wakes nobody")


def seeds(seed):
    return [*send_seeds(seed), *lost_seeds(seed), *accept_seeds(seed), *connect_seeds(seed)]
