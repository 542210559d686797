# SPDX-License-Identifier: MIT
"""The examples as their readers will run them: on a port of their own, on both backends."""
import os
import signal
import socket
import subprocess
import time
import unittest

from command import BACKENDS, LIMIT_S

ECHO = os.environ["RDY_EXAMPLE_ECHO"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(port, process):
    """The example says nothing when it is ready, so this asks until it answers."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(f"nobody listens; status {process.poll()}")


def receive(client, count):
    data = b""
    while len(data) < count:
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data


class Echo(unittest.TestCase):
    def check_echo(self, backend):
        port = free_port()
        sent = bytes(range(256)) * 400
        environment = dict(os.environ, RDY_BACKEND=backend)
        process = subprocess.Popen([ECHO, str(port)], env=environment)
        try:
            with connect(port, process) as client, connect(port, process) as other:
                other.sendall(b"between")
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive(client, len(sent) + 1), sent)
                self.assertEqual(receive(other, 7), b"between")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)

    def test_echo_returns_every_byte_and_then_the_end_of_the_stream(self):
        for backend in BACKENDS:
            with self.subTest(backend=backend):
                self.check_echo(backend)


if __name__ == "__main__":
    unittest.main()
