# SPDX-License-Identifier: MIT
"""The load generator: it must see what is wrong with a server, and count right what is right."""
import json
import signal
import socket
import subprocess
import threading
import time
import unittest

from command import RDY, Echo, Scripted, run


def echo_forever(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def load(address, *args, connections=1, size=64, duration="200ms"):
    """Runs a load and returns its exit status and its report."""
    result = run("load", "--connect", address, "--connections", str(connections), "--size",
                 str(size), "--duration", duration, "--json", *args)
    return result.returncode, json.loads(result.stdout) if result.stdout else result.stderr


class LoadTests:
    """Against `rdy echo`; one class below for each backend."""

    def setUp(self):
        self.server = Echo("--backend", self.backend)
        self.addCleanup(self.server.__exit__)

    def is_right(self, *args, duration="200ms", **options):
        # A busy machine, or a sanitizer, may need longer for the first megabyte.
        for long in (duration, "2s", "10s"):
            status, report = load(self.server.address, "--backend", self.backend, *args,
                                  duration=long, **options)
            self.assertEqual(sum(report["errors"].values()), 0, report)
            if report["requests"] > 0:  # without any the status is 1
                self.assertEqual(status, 0, report)
                return report
        self.fail("nothing was answered in ten seconds")

    def test_one_connection_of_one_byte(self):
        self.is_right(size=1)

    def test_messages_from_64_bytes_to_a_megabyte(self):
        for size in ("64", "1k", "64k", "1M"):
            self.is_right(size=size, connections=8)

    def test_sixteen_messages_in_flight(self):
        report = self.is_right("--depth", "16", connections=64)
        summary = self.server.stop()
        self.assertLess(summary["requests"], report["requests"], "no two messages shared a read")

    def test_connections_are_made_anew_after_so_many_requests(self):
        for mode in ("readiness", "completion"):
            report = self.is_right("--requests-per-connection", "3", "--depth", "2", "--mode", mode,
                                   connections=16)
            self.assertEqual(report["requests_per_connection"], 3)
            self.assertGreater(report["renewals"], 16)
            # Each renewal had three requests behind it, and at most three are under way.
            self.assertGreaterEqual(report["requests"], 3 * report["renewals"])
            self.assertLessEqual(report["requests"], 3 * (report["renewals"] + 16))

    def test_long_messages_in_flight_do_not_deadlock(self):
        self.is_right("--depth", "4", size="1M", connections=4)

    def test_a_thousand_connections(self):
        self.is_right(connections=1000)
        self.assertEqual(self.server.stop()["connections"] % 1000, 0)

    def test_percentiles_are_in_order(self):
        latency = self.is_right(connections=16)["latency_ns"]
        in_order = [latency[name] for name in ("p50", "p90", "p99", "p99_9", "max")]
        self.assertEqual(in_order, sorted(in_order))
        self.assertGreater(latency["p50"], 0)

    def test_the_open_loop_sends_what_the_rate_says(self):
        report = self.is_right("--rate", "2000", connections=10, duration="500ms")
        self.assertEqual(report["sends_scheduled"], 1000)
        self.assertEqual(self.server.stop()["bytes"], 64 * 1000)

    def test_both_ends_may_spin_in_either_mode(self):
        for mode in ("readiness", "completion"):
            with self.subTest(mode=mode):
                self.server = Echo("--backend", self.backend, "--mode", mode, "--spin", "10000")
                self.addCleanup(self.server.__exit__)
                self.is_right("--spin", "50", "--mode", mode, "--rate", "2000", connections=4)
                summary = self.server.stop()
                self.assertGreater(summary["spins"], 0)
                self.assertGreaterEqual(summary["spins"], summary["spin_hits"])
                self.assertGreater(summary["spin_ns"], 0)

    def test_without_the_flag_nothing_spins(self):
        self.is_right()
        summary = self.server.stop()
        self.assertEqual((summary["spins"], summary["spin_hits"], summary["spin_ns"]), (0, 0, 0))

    def test_a_name_with_two_addresses_finds_the_server(self):
        status, report = load(f"localhost:{self.server.port}")
        self.assertEqual(status, 0, report)


class LoadOnUring(LoadTests, unittest.TestCase):
    backend = "uring"


class LoadOnEpoll(LoadTests, unittest.TestCase):
    backend = "epoll"


class BadServers(unittest.TestCase):
    def serve(self, serve):
        server = Scripted(serve)
        self.addCleanup(server.__exit__)
        return server.address

    def test_a_wrong_byte_is_counted_and_fails(self):
        def flip_one_of_each_thousand(connection):
            position = 0
            while data := bytearray(connection.recv(65536)):
                for i in range(-position % 1000, len(data), 1000):
                    data[i] ^= 1
                position += len(data)
                connection.sendall(data)

        status, report = load(self.serve(flip_one_of_each_thousand), size=1000)
        self.assertEqual(status, 1)
        self.assertGreaterEqual(report["errors"]["mismatched_bytes"], report["requests"])

    def test_replies_of_another_connection_are_wrong_bytes(self):
        waiting = []
        both = threading.Barrier(2)

        def swap(connection):
            data = connection.recv(64, socket.MSG_WAITALL)
            waiting.append((connection, data))
            both.wait(timeout=30)
            other = next(d for c, d in waiting if c is not connection)
            connection.sendall(other)
            connection.recv(64)

        status, report = load(self.serve(swap), connections=2)
        self.assertEqual(status, 1)
        self.assertGreater(report["errors"]["mismatched_bytes"], 64)

    def test_bytes_that_were_never_sent_are_wrong_bytes(self):
        def add_one(connection):
            connection.sendall(connection.recv(64, socket.MSG_WAITALL) + b"x" * 64)
            connection.recv(64)

        status, report = load(self.serve(add_one))
        self.assertEqual(status, 1)
        self.assertGreater(report["errors"]["mismatched_bytes"], 0)

    def test_a_server_that_hangs_up_is_counted(self):
        def hang_up(connection):
            connection.recv(64, socket.MSG_WAITALL)

        status, report = load(self.serve(hang_up), connections=3)
        self.assertEqual(status, 1)
        self.assertEqual(report["errors"]["ended_early"] + report["errors"]["resets"], 3)
        self.assertEqual(report["errors"]["unanswered"], 3)

    def test_each_connection_has_so_many_requests_and_no_more(self):
        counts = []

        def count_and_echo(connection):
            counts.append(0)
            mine = len(counts) - 1
            while data := connection.recv(65536):
                counts[mine] += len(data)
                connection.sendall(data)

        for backend in ("uring", "epoll"):
            for mode in ("readiness", "completion"):
                with self.subTest(backend=backend, mode=mode):
                    counts.clear()
                    status, report = load(self.serve(count_and_echo), "--backend", backend,
                                          "--mode", mode, "--requests-per-connection", "5",
                                          size=100)
                    self.assertEqual(status, 0, report)
                    self.assertGreater(report["renewals"], 1)
                    self.assertEqual(len(counts), report["renewals"] + 1)
                    self.assertEqual(set(counts[:-1]), {500})
                    self.assertLessEqual(counts[-1], 500)

    def test_a_server_that_ends_before_the_requests_are_answered_is_counted(self):
        seen = []

        def end_the_third(connection):
            seen.append(connection)
            connection.sendall(connection.recv(64, socket.MSG_WAITALL))
            if len(seen) != 3:
                echo_forever(connection)

        for mode in ("readiness", "completion"):
            with self.subTest(mode=mode):
                seen.clear()
                status, report = load(self.serve(end_the_third), "--requests-per-connection", "2",
                                      "--mode", mode)
                self.assertEqual(status, 1)
                self.assertEqual((report["renewals"], report["requests"]), (2, 5))
                self.assertEqual(report["errors"]["ended_early"] + report["errors"]["resets"], 1)

    def test_a_server_that_takes_no_further_connection_is_counted(self):
        for backend in ("uring", "epoll"):
            with self.subTest(backend=backend):
                listener = socket.create_server(("127.0.0.1", 0))
                address = "127.0.0.1:%d" % listener.getsockname()[1]

                def serve_one():
                    connection, _ = listener.accept()
                    listener.close()
                    with connection:
                        echo_forever(connection)

                thread = threading.Thread(target=serve_one, daemon=True)
                thread.start()
                status, report = load(address, "--backend", backend, "--requests-per-connection",
                                      "3")
                thread.join(timeout=30)
                self.assertEqual(status, 1)
                self.assertEqual((report["renewals"], report["requests"]), (1, 3))
                self.assertEqual(report["errors"]["others"], 1)

    def test_a_silent_server_leaves_messages_unanswered(self):
        def listen_only(connection):
            while connection.recv(65536):
                pass

        status, report = load(self.serve(listen_only), "--depth", "4", connections=2)
        self.assertEqual(status, 1)
        self.assertEqual((report["requests"], report["errors"]["unanswered"]), (0, 8))

    def test_time_that_a_stalled_server_costs_counts_for_all_that_was_due(self):
        # The stall is half of the run. A generator that waits for replies before it sends would
        # report one slow message of many; here a third of all waited 100 ms or more.
        def stall(connection):
            data = connection.recv(64, socket.MSG_WAITALL)
            time.sleep(0.3)
            connection.sendall(data)
            echo_forever(connection)

        status, report = load(self.serve(stall), "--rate", "1000", duration="600ms")
        self.assertEqual(status, 0, report)
        self.assertGreater(report["latency_ns"]["p90"], 100_000_000)


class StartAndEnd(unittest.TestCase):
    def fails(self, address, *words):
        result = run("load", "--connect", address, "--connections", "4", "--size", "1",
                     "--duration", "1")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def test_a_refused_connection_is_said_in_one_line(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        self.fails(f"127.0.0.1:{port}", f"127.0.0.1:{port}", "refused")

    def test_a_host_that_does_not_resolve_is_named(self):
        self.fails("no..such..host:80", "no..such..host", "cannot resolve")

    def test_sigterm_ends_a_load_that_makes_its_connections_anew(self):
        for mode in ("readiness", "completion"):
            for backend in ("uring", "epoll"):
                with self.subTest(mode=mode, backend=backend), Echo() as server:
                    process = subprocess.Popen(
                        [RDY, "load", "--connect", server.address, "--connections", "8", "--size",
                         "64", "--requests-per-connection", "2", "--duration", "1m", "--json",
                         "--mode", mode, "--backend", backend], stdout=subprocess.PIPE, text=True)
                    server.await_connections(8)
                    time.sleep(0.2)  # for replies
                    process.send_signal(signal.SIGTERM)
                    output, _ = process.communicate(timeout=30)
                    self.assertEqual(process.returncode, 0, output)
                    report = json.loads(output)
                    self.assertTrue(report["is_interrupted"])
                    self.assertEqual(sum(report["errors"].values()), 0)
                    self.assertEqual(server.stop()["failures"], 0)

    def test_sigint_ends_early_with_a_report(self):
        has_begun = threading.Event()

        def serve(connection):
            connection.sendall(connection.recv(65536))
            connection.sendall(connection.recv(65536))  # so the first has been heard
            has_begun.set()
            echo_forever(connection)

        with Scripted(serve) as server:
            process = subprocess.Popen([RDY, "load", "--connect", server.address, "--connections",
                                        "2", "--size", "64", "--duration", "1m", "--json"],
                                       stdout=subprocess.PIPE, text=True)
            self.assertTrue(has_begun.wait(timeout=30))
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, output)
        self.assertTrue(json.loads(output)["is_interrupted"])

    def interrupted(self, address, until):
        """A load that is told to stop once @until() holds: its exit status and complaint."""
        process = subprocess.Popen([RDY, "load", "--connect", address, "--connections", "3",
                                    "--size", "64", "--duration", "1m", "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertTrue(until())
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=30)
        self.assertEqual(complaint.count("\n"), 1, complaint)
        return process.returncode, complaint

    def test_a_load_that_ends_before_it_began_says_so(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)  # one connection fits, no more: the others wait
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            first = []

            def has_one():
                first.append(listener.accept()[0])
                time.sleep(0.2)
                return True

            with socket.create_connection(listener.getsockname()) as held:
                status, complaint = self.interrupted(address, has_one)
                held.close()
        self.assertEqual(status, 2)
        self.assertIn("of 3 connections", complaint)

    def test_a_load_without_a_reply_has_failed(self):
        sent = threading.Semaphore(0)

        def swallow(connection):
            connection.recv(65536)
            sent.release()
            connection.recv(1)

        with Scripted(swallow) as server:
            status, complaint = self.interrupted(
                server.address, lambda: all(sent.acquire(timeout=30) for _ in range(3)))
        self.assertEqual(status, 1)
        self.assertIn("no reply came", complaint)


if __name__ == "__main__":
    unittest.main()
