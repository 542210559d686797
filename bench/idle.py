#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What idle connections cost the echo servers: processor time, system calls, user memory.

Opens the connections, has each echo one message, and then leaves them alone. A thread that was
never put on a processor meanwhile has used no time and made no system call: /proc counts both.
Memory is the growth of the resident set over a server that has served one connection.
"""
import argparse
import os
import resource
import socket
import sys
import time

sys.dont_write_bytecode = True
import harness  # noqa: E402

MESSAGE = b"x" * 64
BATCH = 500
QUIET_S = 0.25
SETTLE_S = 10
BYTES_MAX = 600


def echo_all(sockets):
    for sock in sockets:
        sock.sendall(MESSAGE)
    for sock in sockets:
        missing = len(MESSAGE)
        while missing:
            data = sock.recv(missing)
            if not data:
                raise harness.Failure("the server closed a connection")
            missing -= len(data)


def open_some(port, count, sockets):
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        sockets.append(sock)
    echo_all(sockets[-count:])


def settle(server):
    """Waits until the server has done what the connections left it to do."""
    give_up_s = time.monotonic() + SETTLE_S
    before = server.sample()
    while time.monotonic() < give_up_s:
        time.sleep(QUIET_S)
        now = server.sample()
        if now.times_run == before.times_run:
            return
        before = now


def run_arm(options, arm):
    sockets = []
    with harness.Server(arm, options.server_cpu) as server:
        open_some(server.port, 1, sockets)
        settle(server)
        rss_before, anon_before = harness.memory_kb(server.pid)
        while len(sockets) <= options.connections:
            count = min(BATCH, options.connections + 1 - len(sockets))
            open_some(server.port, count, sockets)
        settle(server)
        rss_after, anon_after = harness.memory_kb(server.pid)
        before = server.sample()
        time.sleep(options.seconds)
        after = server.sample()
        # The connections still work: what was idle was not dead.
        echo_all(sockets)
        summary = server.stop()
    for sock in sockets:
        sock.close()
    return {
        "arm": arm.name,
        "announced": server.line,
        "cpu_ns": after.cpu_ns - before.cpu_ns,
        "times_run": after.times_run - before.times_run,
        "bytes_per_connection": (rss_after - rss_before) * 1024 / options.connections,
        "anonymous_bytes_per_connection": (anon_after - anon_before)
        * 1024
        / options.connections,
        "rss_kb": [rss_before, rss_after],
        "anonymous_kb": [anon_before, anon_after],
        "server": summary,
    }


def arm_lines(options, figures):
    columns = "{:<12} {:>14} {:>12} {:>16} {:>16}  {}"
    yield ""
    yield f"{options.connections} idle connections, {options.seconds} s"
    yield columns.format("arm", "cpu us", "times run", "user B/conn", "of it anonymous", "")
    for one in figures:
        is_kept = one["times_run"] == 0 and one["bytes_per_connection"] < BYTES_MAX
        calls = "no system call" if one["times_run"] == 0 else "NOT idle"
        verdict = f"{calls}, {'within' if is_kept else 'MISSED:'} 0 us and {BYTES_MAX} B"
        yield columns.format(
            one["arm"],
            f"{one['cpu_ns'] / 1e3:.1f}",
            one["times_run"],
            f"{one['bytes_per_connection']:.1f}",
            f"{one['anonymous_bytes_per_connection']:.1f}",
            verdict,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    harness.add_common(parser, "idle")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--seconds", type=int, default=5, help="how long to leave them alone")
    options = parser.parse_args()
    if options.connections < 1 or options.seconds < 1:
        parser.error("--connections and --seconds are at least 1")

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {options.load_cpu})
    report = harness.Report(options)
    figures = [run_arm(options, arm) for arm in harness.chosen_arms(options)]
    report.say(arm_lines(options, figures))
    report.save({"connections": options.connections, "arms": figures})
    return 0


if __name__ == "__main__":
    harness.run_script(main)
