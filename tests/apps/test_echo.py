# SPDX-License-Identifier: MIT
"""The echo server, on both backends: every byte, every way that a connection can end."""
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

from command import RDY, Echo, has_capability, limit_files, receive, run

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close() sends a reset
MODES = ("readiness", "completion")
BATCH = ("--batch", "16", "--batch-wait", "100us")


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def round_trip(test, client, data=b"hello"):
    client.sendall(data)
    test.assertEqual(receive(client, len(data)), data)


class EchoTests:
    """The tests; one class below for each backend."""

    def echo(self, *args, **options):
        server = Echo("--backend", self.backend, *args, **options)
        self.addCleanup(server.__exit__)
        return server

    def client(self, server):
        client = server.connect()
        self.addCleanup(client.close)
        return client

    def busy_client(self, server):
        """A client that has had turns among a load of 50 connections."""
        client = self.client(server)
        for _ in range(100_000):
            if server.files() > 50:
                break
            round_trip(self, client)
        self.assertGreater(server.files(), 50, "the load does not connect")
        for _ in range(100):
            round_trip(self, client)
        return client

    def test_the_line_names_address_backend_and_workers(self):
        server = self.echo("--workers", "2")
        self.assertEqual(server.backend, self.name)
        self.assertIn("workers=2", server.line)
        self.assertNotEqual(server.port, 0)

    def test_bytes_come_back_and_are_counted(self):
        server = self.echo()
        with self.client(server) as client:
            round_trip(self, client)
        summary = server.stop()
        self.assertEqual((summary["connections"], summary["bytes"]), (1, 5))
        self.assertGreater(summary["system_calls"], 3)

    def test_ipv6_listens_and_echoes(self):
        server = self.echo(listen="[::1]:0")
        round_trip(self, self.client(server))

    def half_closes(self, server):
        """Sends a MiB, ends its side, and gets all of it back and then the end."""
        client = self.client(server)
        data = os.urandom(MIB)
        sender = threading.Thread(
            target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        echoed = receive(client, MIB + 1)  # one more than there is: ends at the peer's end
        sender.join()
        self.assertEqual(echoed, data)

    def test_half_close_gets_the_rest_and_then_the_end(self):
        self.half_closes(self.echo())

    def test_batches_and_spins_lose_no_byte(self):
        learning = ("--batch-learn",)
        for flags in (BATCH, learning, ("--spin", "50"), BATCH + ("--spin", "50")):
            for mode in MODES if flags != learning else ("completion",):
                with self.subTest(flags=flags, mode=mode):
                    server = self.echo("--mode", mode, *flags)
                    clients = [self.client(server) for _ in range(20)]
                    for round_number in range(20):
                        for client in clients:
                            client.sendall(b"%05d" % round_number)
                        for client in clients:
                            self.assertEqual(receive(client, 5), b"%05d" % round_number)
                    self.half_closes(server)
                    summary = server.stop()
                    self.assertEqual(summary["bytes"], 20 * 20 * 5 + MIB)
                    self.assertEqual((summary["failures"], summary["bytes_dropped"]), (0, 0))

    def test_one_request_is_answered_though_its_batch_never_fills(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                server = self.echo("--mode", mode, "--batch", "4096", "--batch-wait", "1ms")
                client = self.client(server)
                for _ in range(10):
                    round_trip(self, client)
                self.assertEqual(server.stop()["bytes"], 50)

    def driver_calls_of_pairs(self, *flags, awaits_the_first):
        """The server's waits while two clients send one after the other, 20 times."""
        server = self.echo(*flags)
        clients = [self.client(server) for _ in range(2)]
        for _ in range(20):
            clients[0].sendall(b"first")
            if awaits_the_first:
                self.assertEqual(receive(clients[0], 5), b"first")
            else:
                time.sleep(0.005)  # a server that does not wait for the second answers by then
            clients[1].sendall(b"later")
            if not awaits_the_first:
                self.assertEqual(receive(clients[0], 5), b"first")
            self.assertEqual(receive(clients[1], 5), b"later")
        return server.stop()["driver_system_calls"]

    def test_a_batch_is_waited_for_where_the_kernel_can(self):
        can_wait = self.backend == "uring" and has_capability("min_timeout")
        batches = ("--batch", "2", "--batch-wait", "1s" if can_wait else "1us")
        for mode in MODES:
            with self.subTest(mode=mode):
                apart = self.driver_calls_of_pairs("--mode", mode, awaits_the_first=True)
                together = self.driver_calls_of_pairs("--mode", mode, *batches,
                                                      awaits_the_first=False)
                if can_wait:
                    self.assertLess(together, apart - 10)

    def test_batches_are_learnt_where_that_was_asked_for(self):
        can_wait = self.backend == "uring" and has_capability("min_timeout")
        for flags, has_waits in (((), False), (("--batch-learn",), can_wait)):
            with self.subTest(flags=flags):
                server = self.echo("--mode", "completion", *flags)
                clients = [self.client(server) for _ in range(20)]
                for client in clients:
                    round_trip(self, client)
                summary = server.stop()
                self.assertEqual(summary["batch_waits"] > 0, has_waits)
                self.assertLessEqual(summary["batch_fills"], summary["batch_waits"])

    def test_a_peer_that_does_not_read_costs_bounded_memory_and_loses_nothing(self):
        server = self.echo()
        client = self.client(server)
        round_trip(self, client)
        before = server.memory_bytes()
        data = os.urandom(64 * 1024)
        sent = bytearray()
        client.settimeout(0.3)  # no room for so long: the server has stopped reading
        try:
            while len(sent) < 64 * MIB:
                sent += data[:client.send(data)]
        except socket.timeout:
            pass
        self.assertLess(len(sent), 64 * MIB, "the server read on although nobody reads")
        # A few hundred KiB, of which ThreadSanitizer's shadow makes a MiB and more.
        self.assertLess(server.memory_bytes() - before, 4 * MIB)
        client.settimeout(30)
        self.assertEqual(receive(client, len(sent)), bytes(sent))
        round_trip(self, client)

    def test_resets_are_quiet_and_counted(self):
        server = self.echo()
        witness = self.client(server)
        for _ in range(10):
            client = self.client(server)
            round_trip(self, client)
            reset(client)
        round_trip(self, witness)
        summary = server.stop()
        self.assertEqual((summary["resets"], summary["failures"]), (10, 0))

    def test_a_reset_while_bytes_are_owed_ends_the_session(self):
        server = self.echo()
        client = self.client(server)
        client.settimeout(0.2)
        try:
            for _ in range(1024):
                client.sendall(bytes(64 * 1024))
        except socket.timeout:
            pass
        reset(client)
        round_trip(self, self.client(server))
        summary = server.stop()
        self.assertEqual(summary["resets"], 1)
        self.assertGreater(summary["bytes_dropped"], 0)

    def test_a_killed_load_leaves_the_server_working(self):
        server = self.echo()
        load = subprocess.Popen([RDY, "load", "--connect", server.address, "--connections", "50",
                                 "--size", "1k", "--duration", "60"])
        client = self.busy_client(server)
        load.kill()
        load.wait(timeout=30)
        round_trip(self, client)
        self.assertEqual(server.stop()["failures"], 0)

    def test_accepting_pauses_without_descriptors_and_resumes_without_a_spin(self):
        server = self.echo(preexec_fn=limit_files(40))
        clients = [self.client(server) for _ in range(60)]
        round_trip(self, clients[0])
        time.sleep(0.3)  # the time in which a spinning server would make its 100,000 calls
        for client in clients[:30]:
            client.close()
        for client in clients[30:]:
            round_trip(self, client)
        summary = server.stop()
        self.assertEqual(summary["connections"], 60)
        self.assertGreaterEqual(summary["accept_pauses"], 1)
        self.assertLess(summary["system_calls"], 2000)

    def test_two_workers_share_a_port(self):
        server = self.echo("--workers", "2", "--pin")
        clients = [self.client(server) for _ in range(32)]
        for client in clients:
            round_trip(self, client)
        summary = server.stop()
        self.assertEqual(summary["connections"], 32)
        self.assertEqual(len(summary["accepted"]), 2)
        self.assertEqual(sum(summary["accepted"]), 32)
        self.assertGreater(min(summary["accepted"]), 0)

    def test_the_balance_is_a_line_where_there_are_several_workers(self):
        for workers, lines in (("1", 3), ("3", 4)):
            process = subprocess.Popen([RDY, "echo", "--listen", "127.0.0.1:0", "--backend",
                                        self.backend, "--workers", workers],
                                       stdout=subprocess.PIPE, text=True)
            process.stdout.readline()
            process.terminate()
            summary = process.communicate(timeout=30)[0].splitlines()
            self.assertEqual(process.returncode, 0)
            self.assertEqual(len(summary), lines)
            self.assertEqual(summary[3:], ["accepted by each worker: 0 0 0"][:lines - 3])

    def ends_under_load(self, server, number):
        load = subprocess.Popen([RDY, "load", "--connect", server.address, "--connections", "50",
                                 "--size", "64", "--duration", "60", "--json"],
                                stdout=subprocess.DEVNULL)
        server.await_connections(50)
        self.busy_client(server)
        self.assertGreaterEqual(server.stop(number)["requests"], 100)
        self.assertEqual(load.wait(timeout=30), 1, "the load lost its server: a failure")

    def test_sigterm_under_load_ends_with_a_summary(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.ends_under_load(self.echo(), number)

    def test_sigterm_ends_batches_and_spins_under_load(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.ends_under_load(self.echo("--mode", mode, *BATCH), signal.SIGTERM)
                self.ends_under_load(self.echo("--mode", mode, "--spin", "10000"), signal.SIGTERM)

    def test_sigterm_ends_a_server_that_waits_for_a_batch_or_spins(self):
        for flags in (("--batch", "4096", "--batch-wait", "1s"), ("--spin", "10000")):
            for mode in MODES:
                with self.subTest(flags=flags, mode=mode):
                    server = self.echo("--mode", mode, *flags)
                    client = self.client(server)
                    server.await_connections(1)
                    server.stop()
                    self.assertEqual(receive(client, 1), b"")

    def test_a_taken_port_is_said_in_one_line(self):
        server = self.echo()
        for workers in ("1", "2"):
            result = run("echo", "--listen", server.address, "--workers", workers)
            self.assertEqual(result.returncode, 2)
            self.assertEqual(result.stderr,
                             f"rdy echo: cannot listen on {server.address}: address in use; "
                             "choose another port or stop the other server\n")

    def test_a_port_shared_by_workers_is_taken_for_others(self):
        server = self.echo("--workers", "2")
        self.assertEqual(run("echo", "--listen", server.address, "--workers", "2").returncode, 2)


class EchoOnUring(EchoTests, unittest.TestCase):
    backend = "uring"
    name = "io_uring"


class EchoOnEpoll(EchoTests, unittest.TestCase):
    backend = "epoll"
    name = "epoll"


if __name__ == "__main__":
    unittest.main()
