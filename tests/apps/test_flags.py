# SPDX-License-Identifier: MIT
"""Flags, complaints, help and output: what a person gets for what he types."""
import json
import os
import subprocess
import unittest

from command import RDY, run

LOAD = ("load", "--connect", "127.0.0.1:1", "--connections", "1", "--size", "1", "--duration", "1")


def without_link_order():
    """For stdbuf, whose library stands before a sanitizer's."""
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {**os.environ, "ASAN_OPTIONS": options.lstrip(":")}


class BadInput(unittest.TestCase):
    def refused(self, *args, names):
        result = run(*args)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for name in names:
            self.assertIn(name, result.stderr)

    def test_no_command_is_refused_and_the_commands_are_named(self):
        self.refused(names=["info", "echo", "load", "demo"])

    def test_a_backend_in_the_environment_that_does_not_exist_is_named(self):
        for command in (("info",), ("echo", "--listen", "127.0.0.1:0"), LOAD, ("demo",)):
            result = run(*command, env=dict(os.environ, RDY_BACKEND="kqueue"))
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn("RDY_BACKEND=kqueue", result.stderr)

    def test_an_unknown_command_is_named(self):
        self.refused("serve", names=["serve", "--help"])

    def test_an_unknown_flag_is_named(self):
        for command in ("info", "echo", "load", "demo"):
            self.refused(command, "--frob", names=["--frob", f"rdy {command} --help"])

    def test_a_missing_required_flag_is_named(self):
        self.refused("echo", names=["--listen", "HOST:PORT"])
        self.refused("load", "--connect", "127.0.0.1:1", names=["--connections"])

    def test_a_missing_value_is_said(self):
        self.refused("demo", "--size", names=["--size", "needs a value"])

    def test_a_value_for_a_switch_is_refused(self):
        self.refused("info", "--json=yes", names=["--json", "no value"])

    def test_a_stray_word_is_named(self):
        self.refused("info", "now", names=["now"])

    def test_numbers_out_of_range_name_flag_value_and_range(self):
        self.refused("echo", "--listen", "127.0.0.1:0", "--workers", "0",
                     names=["--workers 0", "1 to 256"])
        self.refused(*LOAD, "--depth", "5000", names=["--depth 5000", "1 to 4096"])
        self.refused("echo", "--listen", "127.0.0.1:0", "--spin", "10001",
                     names=["--spin 10001", "0 to 10000", "microseconds"])
        self.refused(*LOAD, "--spin", "20k", names=["--spin 20k", "0 to 10000", "microseconds"])
        self.refused("demo", "--size", "65M", names=["--size 65M", "1 to 64M"])

    def test_batches_that_cannot_be_are_refused(self):
        echo = ("echo", "--listen", "127.0.0.1:0")
        for text in ("0", "4097", "", "-1", "1x"):
            self.refused(*echo, "--batch", text, names=["--batch", "1 to 4096" if text in
                                                        ("0", "4097") else "--batch"])
        for text in ("0", "999ns", "1001ms", "2s", "", "us", "-1us"):
            self.refused(*echo, "--batch", "2", "--batch-wait", text, names=["--batch-wait"])
        for text in ("0us", "1001ms"):
            self.refused(*echo, "--batch", "2", "--batch-wait", text, names=["1us to 1s"])
        self.refused(*echo, "--batch", names=["--batch", "needs a value"])
        for batch in ((), ("--batch", "1")):
            self.refused(*echo, *batch, "--batch-wait", "1ms",
                         names=["--batch-wait", "add --batch N"])
        self.refused(*echo, "--batch", "1", "--batch-learn", names=["--batch 1", "--batch-learn"])
        self.refused(*echo, "--mode", "readiness", "--batch-learn",
                     names=["--batch-learn", "--mode completion"])

    def test_requests_a_connection_that_cannot_be_are_refused(self):
        for text in ("", "-1", "1x", "0x10", "101M", "99999999999999999999"):
            self.refused(*LOAD, "--requests-per-connection", text,
                         names=["--requests-per-connection"])
        self.refused(*LOAD, "--requests-per-connection", "101M",
                     names=["--requests-per-connection 101M", "1 to 100M"])
        self.refused(*LOAD, "--requests-per-connection",
                     names=["--requests-per-connection", "needs a value"])

    def test_numbers_that_are_none_are_refused(self):
        for text in ("", "-1", "1x", "0x10", "1e3", "99999999999999999999"):
            self.refused("demo", "--connections", text, names=["--connections"])
            self.refused("echo", "--listen", "127.0.0.1:0", "--spin", text, names=["--spin"])

    def test_durations_that_are_none_are_refused(self):
        for text in ("", "s", "1h", "1.s", ".5", "-1s", "nan"):
            self.refused("demo", "--duration", text, names=["--duration"])

    def test_addresses_that_are_none_are_refused(self):
        for text in ("", "127.0.0.1", ":80", "host:", "host:65536", "::1:80", "[::1]80", "host:x"):
            self.refused("echo", "--listen", text, names=["--listen", "HOST:PORT"])

    def test_port_0_is_for_listening_only(self):
        self.refused("load", "--connect", "127.0.0.1:0", names=["--connect 127.0.0.1:0"])

    def test_an_unknown_backend_is_refused_with_the_known_ones(self):
        self.refused("echo", "--listen", "127.0.0.1:0", "--backend", "kqueue",
                     names=["--backend kqueue", "auto, uring or epoll"])

    def test_depth_and_rate_exclude_each_other(self):
        self.refused(*LOAD, "--depth", "2", "--rate", "10", names=["--depth", "--rate"])

    def test_requests_per_connection_and_rate_exclude_each_other(self):
        self.refused(*LOAD, "--requests-per-connection", "2", "--rate", "10",
                     names=["--requests-per-connection", "--rate"])
        self.refused(*LOAD, "--requests-per-connection", "0",
                     names=["--requests-per-connection 0", "1 to 100M"])

    def test_more_connections_than_files_are_refused_with_the_limit(self):
        self.refused("load", "--connect", "127.0.0.1:1", "--connections", "1M", "--size", "1",
                     "--duration", "1", names=["--connections 1000000", "ulimit -n"])


class Help(unittest.TestCase):
    def test_help_and_version_go_to_stdout_with_status_0(self):
        for args in (("--help",), ("--version",), ("info", "--help"), ("echo", "--help"),
                     ("load", "--help"), ("demo", "--help")):
            result = run(*args)
            self.assertEqual((result.returncode, result.stderr), (0, ""), args)
            self.assertIn("rdy", result.stdout)

    def test_help_names_every_flag(self):
        text = run("load", "--help").stdout
        for flag in ("connect", "connections", "size", "duration", "depth", "rate", "backend",
                     "mode", "spin", "requests-per-connection", "json"):
            self.assertIn(f"--{flag}", text)


class Output(unittest.TestCase):
    def test_info_says_what_auto_picks_and_why(self):
        text = run("info").stdout
        for word in ("kernel", "liburing", "jemalloc", "cache line", "entry", "auto picks"):
            self.assertIn(word, text)

    def test_info_as_json_has_a_reason_for_every_capability(self):
        info = json.loads(run("info", "--json").stdout)
        self.assertIn(info["auto"]["backend"], ("io_uring", "epoll"))
        self.assertTrue(info["auto"]["reason"])
        self.assertLessEqual(info["entry_bytes"], 128 if info["cache_line_bytes"] == 128 else 256)
        self.assertTrue(info["capabilities"])
        for capability in info["capabilities"]:
            self.assertTrue(capability["why"], capability)

    def test_info_names_what_completion_mode_stands_on(self):
        info = json.loads(run("info", "--json").stdout)
        names = [capability["name"] for capability in info["capabilities"]]
        for name in ("single_issuer", "buffer_rings", "op_accept", "op_connect", "op_send",
                     "op_recv", "op_close", "multishot_recvmsg"):
            self.assertEqual(names.count(name), 1, name)

    def test_a_reader_that_went_away_is_no_crash(self):
        process = subprocess.Popen([RDY, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        complaint = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(timeout=30), complaint), (0, b""))

    def test_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.run([RDY, "info"], stdout=full, stderr=subprocess.PIPE, text=True,
                                     timeout=30, check=False)
        self.assertEqual(process.returncode, 1)
        self.assertIn("No space left", process.stderr)

    def test_a_full_disk_is_one_without_a_buffer_too(self):
        environment = without_link_order()
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.run(["stdbuf", "-o0", RDY, "info"], stdout=full, text=True,
                                     stderr=subprocess.PIPE, timeout=30, check=False,
                                     env=environment)
        self.assertEqual(process.returncode, 1)
        self.assertIn("cannot write the output", process.stderr)

    def test_a_reader_that_went_away_is_none_without_a_buffer_either(self):
        environment = without_link_order()
        process = subprocess.Popen(["stdbuf", "-o0", RDY, "info"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment)
        process.stdout.close()
        complaint = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(timeout=30), complaint), (0, b""))


if __name__ == "__main__":
    unittest.main()
