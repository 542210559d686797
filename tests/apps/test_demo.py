# SPDX-License-Identifier: MIT
"""The demo: both backends side by side, and epoll alone where io_uring is forbidden."""
import ctypes
import struct
import unittest

from command import limit_files, run

ROWS = ("requests a second", "latency p99.9", "server CPU per request",
        "system calls per request", "memory, idle connection")

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
IO_URING_SETUP = 425  # the same number on every architecture


def forbid_io_uring():
    """Answers io_uring_setup with EPERM from here on, as container runtimes do."""
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
        (0x20, 0, 0, 0),               # load the system call's number
        (0x15, 0, 1, IO_URING_SETUP),  # skip one unless it is this
        (0x06, 0, 0, 0x00050001),      # errno EPERM
        (0x06, 0, 0, 0x7FFF0000),      # allow
    ))
    code = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError("no_new_privs")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header) != 0:
        raise OSError("seccomp")


class Demo(unittest.TestCase):
    def test_three_ways_stand_side_by_side(self):
        result = run("demo", "--duration", "200ms", "--connections", "8")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for word in ("io_uring", "epoll", "completion", "readiness"):
            self.assertIn(word, result.stdout)
        for row in ROWS:
            line = next(line for line in result.stdout.splitlines() if row in line)
            for cell in line.split()[-3:]:
                self.assertGreater(float(cell), 0, line)

    def test_without_io_uring_it_says_why_and_shows_epoll(self):
        result = run("demo", "--duration", "200ms", "--connections", "8",
                     preexec_fn=forbid_io_uring)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("io_uring does not run here: Operation not permitted", result.stdout)
        self.assertIn("requests a second", result.stdout)

    def test_too_few_files_are_refused_with_the_limit(self):
        for files in (60, 512):
            result = run("demo", "--duration", "200ms", "--connections", "8",
                         preexec_fn=limit_files(files))
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn("ulimit -n", result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_a_forced_backend_that_is_forbidden_is_an_error_and_auto_is_not(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--backend", "uring",
                     preexec_fn=forbid_io_uring)
        self.assertEqual(result.returncode, 2)
        self.assertIn("Operation not permitted", result.stderr)
        self.assertIn("--backend auto", result.stderr)
        result = run("info", preexec_fn=forbid_io_uring)
        self.assertIn("auto picks  epoll", result.stdout)


if __name__ == "__main__":
    unittest.main()
