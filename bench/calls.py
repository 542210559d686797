# SPDX-License-Identifier: MIT
"""Counts the system calls of a process from outside: the kernel's own tracepoint, through perf.

Whatever the process believes of itself does not matter here, and nothing is asked of it. While the
counter is there every system call of every process costs a little more, so processor time is not to
be measured meanwhile. It needs tracefs (mounted at /sys/kernel/tracing) and the right to use it.
"""
import ctypes
import os
import platform
import struct

EVENT = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id"
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
TYPE_TRACEPOINT = 2
ATTRIBUTE_BYTES = 64
FLAG_CLOEXEC = 8

_libc = ctypes.CDLL(None, use_errno=True)


def event_id():
    """The tracepoint's number, or None: it cannot be had here."""
    try:
        with open(EVENT, encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return None


def is_possible():
    return event_id() is not None and platform.machine() in PERF_EVENT_OPEN


class Calls:
    """A counter on every thread that the process has now. Close it."""

    def __init__(self, pid):
        # struct perf_event_attr as of its first version: type, size, config; it counts at once.
        attribute = struct.pack("<IIQ", TYPE_TRACEPOINT, ATTRIBUTE_BYTES, event_id())
        attribute = ctypes.create_string_buffer(attribute, ATTRIBUTE_BYTES)
        self.fds = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            fd = _libc.syscall(
                PERF_EVENT_OPEN[platform.machine()],
                attribute,
                int(thread),
                -1,
                -1,
                FLAG_CLOEXEC,
            )
            if fd < 0:
                error = ctypes.get_errno()
                self.close()
                raise OSError(error, os.strerror(error), "perf_event_open")
            self.fds.append(fd)

    def read(self):
        return sum(struct.unpack("<Q", os.read(fd, 8))[0] for fd in self.fds)

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []
