# SPDX-License-Identifier: MIT
"""The examples as their readers will run them: on a port of their own, on both backends."""
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from command import BACKENDS, LIMIT_S, receive

FOLDER = os.environ["RDY_EXAMPLES"]
HAS_LIBUV = os.environ["RDY_EXAMPLE_LIBUV"] == "yes"
SERVERS = ("echo", "http_hello", "chat", "embed_poll") + ("embed_libuv",) * HAS_LIBUV


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Example:
    """One of the examples, running at an address of its own until the end of the test."""

    def __init__(self, name, backend, *args, port=None, **options):
        self.port = port or free_port()
        args = args or (f"127.0.0.1:{self.port}",)
        environment = dict(os.environ, RDY_BACKEND=backend)
        self.process = subprocess.Popen([f"{FOLDER}/example_{name}", *args], env=environment,
                                        text=True, **options)

    def connect(self):
        """The example says nothing when it is ready, so this asks until it answers."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until and self.process.poll() is None:
            client = socket.socket()
            client.settimeout(LIMIT_S)
            try:
                client.bind(("127.0.0.2", 0))  # or it may connect to itself
                client.connect(("127.0.0.1", self.port))
                return client
            except ConnectionRefusedError:
                client.close()
                time.sleep(0.01)
        raise AssertionError(f"nobody listens; status {self.process.poll()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(LIMIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


class Case(unittest.TestCase):
    def on_both(self, check):
        for backend in BACKENDS:
            with self.subTest(backend=backend):
                check(backend)

    def check_echo(self, example):
        sent = bytes(range(256)) * 400
        with example.connect() as client, example.connect() as other:
            other.sendall(b"between")
            client.sendall(sent)
            for each, expected in ((client, sent), (other, b"between")):
                each.shutdown(socket.SHUT_WR)
                self.assertEqual(receive(each, len(expected) + 1), expected)

    def check_refuses(self, name, *args):
        run = subprocess.run([f"{FOLDER}/example_{name}", *args], capture_output=True, text=True,
                             timeout=LIMIT_S)
        self.assertEqual(run.returncode, 2, run)
        self.assertEqual(run.stdout, "")
        self.assertRegex(run.stderr, r"\A[^\n]+\n\Z")
        return run.stderr


class Arguments(Case):
    def test_wrong_arguments_get_one_line_and_status_2(self):
        for name in SERVERS:
            with self.subTest(name=name):
                self.assertIn("nonsense", self.check_refuses(name, "nonsense"))
                self.check_refuses(name, "127.0.0.1:65536")
                self.check_refuses(name, "")
        for args in ((), ("nonsense",), ("0",), ("65536",), ("7", "8"), ("7x",), ("",)):
            with self.subTest(name="udp_echo", args=args):
                self.assertIn("usage", self.check_refuses("udp_echo", *args))

    def test_port_in_use_gets_one_line_and_status_2(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            for name in SERVERS:
                with self.subTest(name=name):
                    self.assertIn("in use", self.check_refuses(name, address))
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind(("0.0.0.0", 0))
            line = self.check_refuses("udp_echo", str(taken.getsockname()[1]))
            self.assertIn("in use", line)


class Echo(Case):
    def test_echo_returns_every_byte_and_then_the_end_of_the_stream(self):
        def check(backend):
            with Example("echo", backend) as example:
                self.check_echo(example)

        self.on_both(check)


class UdpEcho(Case):
    def test_every_datagram_comes_back_to_its_sender(self):
        def check(backend):
            port = free_port(socket.SOCK_DGRAM)
            with Example("udp_echo", backend, str(port)) as example:
                with socket.socket(type=socket.SOCK_DGRAM) as one, \
                        socket.socket(type=socket.SOCK_DGRAM) as other:
                    self.greet(example, one, port)
                    self.greet(example, other, port)
                    for i in range(100):
                        one.send(b"one %d" % i)
                        other.send(b"other %d" % i if i % 3 else b"")
                        if i % 20 == 19:  # as much as any receive buffer holds
                            for j in range(i - 19, i + 1):
                                self.assertEqual(one.recv(100), b"one %d" % j)
                                self.assertEqual(other.recv(100), b"other %d" % j if j % 3 else b"")

        self.on_both(check)

    def greet(self, example, client, port):
        """Sends until the server is there; then all that is under way has come back."""
        client.connect(("127.0.0.1", port))
        client.settimeout(0.05)
        sent = 0
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until and example.process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                sent += 1
                client.send(b"greeting %d" % sent)
                while client.recv(100) != b"greeting %d" % sent:
                    pass
                client.settimeout(LIMIT_S)
                return
        raise AssertionError(f"nobody answers; status {example.process.poll()}")


class HttpHello(Case):
    def test_one_connection_serves_many_requests(self):
        def check(backend):
            with Example("http_hello", backend) as example:
                example.connect().close()
                client = http.client.HTTPConnection("127.0.0.1", example.port, timeout=LIMIT_S)
                for path in ("/", "/again", "/a?b=c"):
                    client.request("GET", path)
                    answer = client.getresponse()
                    self.assertEqual((answer.status, answer.read()), (200, b"hello\n"))
                    self.assertFalse(answer.will_close)
                client.request("GET", "/", headers={"Connection": "close"})
                answer = client.getresponse()
                self.assertEqual((answer.status, answer.read()), (200, b"hello\n"))
                self.assertTrue(answer.will_close)
                client.close()

        self.on_both(check)

    def talk(self, example, *pieces):
        """Sends the pieces one by one, and returns all that comes until the end."""
        with example.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                client.sendall(piece)
                if len(pieces) > 1:
                    time.sleep(0.002)  # so that most come alone; no matter if not
            client.shutdown(socket.SHUT_WR)
            return receive(client, 1 << 20).decode()

    def test_pipelined_requests_are_answered_in_order(self):
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

        def check(backend):
            with Example("http_hello", backend) as example:
                self.assertEqual(self.talk(example, request * 500).count("hello\n"), 500)
                text = self.talk(example, request * 3 + last + request)
                self.assertEqual(text.count("hello\n"), 4)
                self.assertEqual(text.count("Connection: close"), 1)
                pieces = [bytes([byte]) for byte in request * 2 + last]
                self.assertEqual(self.talk(example, *pieces).count("hello\n"), 3)

        self.on_both(check)

    def test_nonsense_is_answered_by_400_and_a_close(self):
        host = b"Host: x\r\n\r\n"
        nonsense = (
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",  # without a host
            b"GET / HTTP/1.0\r\n" + host,
            b"GET / HTTP/1.1 \r\n" + host,
            b"GET  / HTTP/1.1\r\n" + host,
            b"GET x HTTP/1.1\r\n" + host,
            b"get / HTTP/1.1\r\n" + host,
            b"POST / HTTP/1.1\r\n" + host,
            b"GET /\r\nX: HTTP/1.1\r\n" + host,
            b"GET /\x00 HTTP/1.1\r\n" + host,
            b"GET / HTTP/1.1\r\nX: \x00\r\n" + host,
            b"GET / HTTP/1.1\r\nContent-Length: 5\r\n" + host + b"hello",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + host,
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
            b"\x00\r\n\r\n",
        )

        def check(backend):
            with Example("http_hello", backend) as example:
                for text in nonsense:
                    with self.subTest(text=text):
                        answer = self.talk(example, text)
                        self.assertRegex(answer, r"\AHTTP/1\.1 400 [^\r]+\r\n")
                        self.assertIn("\r\nConnection: close\r\n", answer)
                        self.assertEqual(answer.count("HTTP/1.1"), 1)

        self.on_both(check)

    def test_fields_beyond_the_limit_are_answered_by_431(self):
        def check(backend):
            with Example("http_hello", backend) as example:
                head = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
                fits = head + b"x" * (4096 - len(head) - 4) + b"\r\n\r\n"
                self.assertEqual(len(fits), 4096)
                self.assertEqual(self.talk(example, fits * 2).count("hello\n"), 2)
                for text in (head + b"x" * 4096, head + b"x" * 1000000):
                    answer = self.talk(example, text)
                    self.assertRegex(answer, r"\AHTTP/1\.1 431 ")

        self.on_both(check)

    def test_connection_that_says_nothing_more_is_over(self):
        def check(backend):
            with Example("http_hello", backend) as example:
                self.assertEqual(self.talk(example, b"GET / HT"), "")
                self.assertEqual(self.talk(example), "")

        self.on_both(check)


class Chat(Case):
    def enter(self, example, name):
        """Connects and waits until it hears itself, and so what others say from now on."""
        member = example.connect()
        member.sendall(b"%s enters\n" % name)
        self.hear(member, b"%s enters\n" % name)
        return member

    def hear(self, member, line):
        self.assertEqual(receive(member, len(line)), line)

    def test_everybody_hears_whole_lines_in_one_order(self):
        def check(backend):
            with Example("chat", backend) as example:
                with self.enter(example, b"ann") as ann, self.enter(example, b"bob") as bob:
                    self.hear(ann, b"bob enters\n")
                    ann.sendall(b"half a ")
                    bob.sendall(b"hi\n")
                    for member in (ann, bob):
                        self.hear(member, b"hi\n")
                    ann.sendall(b"line\nand another\n")
                    for member in (ann, bob):
                        self.hear(member, b"half a line\nand another\n")
                    with self.enter(example, b"cid"):
                        for member in (ann, bob):
                            self.hear(member, b"cid enters\n")
                    bob.sendall(b"bye\n")
                    for member in (ann, bob):
                        self.hear(member, b"bye\n")

        self.on_both(check)

    def test_line_without_an_end_ends_the_connection(self):
        def check(backend):
            with Example("chat", backend) as example:
                with self.enter(example, b"ann") as ann, self.enter(example, b"bob") as bob:
                    self.hear(ann, b"bob enters\n")
                    ann.sendall(b"x" * 512)
                    self.assertEqual(receive(ann, 1), b"")
                    bob.sendall(b"hi\n")
                    self.hear(bob, b"hi\n")

        self.on_both(check)

    def test_member_who_does_not_listen_is_put_out_and_holds_nobody_up(self):
        def check(backend):
            with Example("chat", backend) as example:
                with self.enter(example, b"deaf") as deaf, self.enter(example, b"ann") as ann:
                    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    for i in range(20000):
                        line = b"%d %s\n" % (i, b"x" * 400)
                        ann.sendall(line)
                        self.hear(ann, line)
                    self.hear(deaf, b"ann enters\n")
                    self.assertLess(len(receive(deaf, 1 << 30)), 20000 * 400)

        self.on_both(check)


class PassFd(Case):
    def test_file_that_is_handed_over_is_read_by_whoever_connects(self):
        def check(backend):
            text = "".join(f"line {i}\n" for i in range(5000))
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(text)
                file.flush()
                name = f"@rdy pass_fd {os.getpid()} {backend}"
                with Example("pass_fd", backend, name, file.name) as example:
                    for _ in range(3):
                        self.assertEqual(self.take(example, name, backend), text)

        self.on_both(check)

    def take(self, example, name, backend):
        """The example says nothing when it is ready, so this asks until it answers."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until and example.process.poll() is None:
            run = subprocess.run([f"{FOLDER}/example_pass_fd", name], capture_output=True,
                                 text=True, timeout=LIMIT_S, check=False,
                                 env=dict(os.environ, RDY_BACKEND=backend))
            if run.returncode == 0:
                self.assertEqual(run.stderr, "")
                return run.stdout
            self.assertEqual((run.returncode, run.stdout), (2, ""))
            time.sleep(0.01)
        raise AssertionError(f"nobody hands anything over; status {example.process.poll()}")

    def test_what_cannot_be_handed_over_gets_one_line_and_status_2(self):
        self.assertIn("usage", self.check_refuses("pass_fd"))
        self.assertIn("usage", self.check_refuses("pass_fd", "@a", "b", "c"))
        self.assertIn("nonsense", self.check_refuses("pass_fd", "nonsense"))
        self.assertIn("/nowhere", self.check_refuses("pass_fd", "@a", "/nowhere"))
        self.check_refuses("pass_fd", "@rdy pass_fd nobody is here")
        with socket.create_server(("127.0.0.1", 0)) as server:  # no Unix socket
            self.check_refuses("pass_fd", "127.0.0.1:%d" % server.getsockname()[1])


class EmbedPoll(Case):
    def test_stdin_and_connections_are_served_side_by_side(self):
        def check(backend):
            with Example("embed_poll", backend, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE) as example:
                self.check_echo(example)
                with example.connect() as one, example.connect() as other:
                    for client in (one, other):
                        client.sendall(b"x")
                        self.assertEqual(receive(client, 1), b"x")
                    self.assertEqual(self.ask(example), "2 connected\n")
                    other.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive(other, 1), b"")
                    self.assertEqual(self.ask(example), "1 connected\n")
                example.process.stdin.close()
                self.assertEqual(example.process.wait(LIMIT_S), 0)

        self.on_both(check)

    def ask(self, example):
        example.process.stdin.write("\n")
        example.process.stdin.flush()
        return example.process.stdout.readline()


# Without libuv there is no such example, and scripts/test does not build at all.
if HAS_LIBUV:

    class EmbedLibuv(Case):
        def test_connections_timers_and_signals_are_served_side_by_side(self):
            def check(backend):
                with Example("embed_libuv", backend) as example:
                    self.check_echo(example)
                    with example.connect() as client:
                        client.sendall(b"x")
                        self.assertEqual(receive(client, 2), b"x")  # and then the second is over
                    example.process.send_signal(signal.SIGTERM)
                    self.assertEqual(example.process.wait(LIMIT_S), 0)

            self.on_both(check)


if __name__ == "__main__":
    unittest.main()
