# SPDX-License-Identifier: MIT
"""The text for Prometheus as a strict reader sees it, and that reader on texts that are wrong."""
import os
import re
import socket
import subprocess
import unittest
import urllib.request

from command import BACKENDS, LIMIT_S, Echo, receive, run
from exposition import Malformed, parse

HEAD = "# HELP a_total Help.\n# TYPE a_total counter\n"
HISTOGRAM = (
    "# HELP h Help.\n# TYPE h histogram\n"
    'h_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 2\nh_sum 1.5\nh_count 2\n'
)


class ReaderTests(unittest.TestCase):
    """The reader refuses what a scraper might take or not."""

    def test_takes_what_is_right(self):
        families = parse(HEAD + 'a_total{b="\\n\\"\\\\}{, ",c="d"} 7\na_total 1\n' + HISTOGRAM)
        self.assertEqual(families["a_total"].value(b='\n"\\}{, ', c="d"), 7)
        self.assertEqual(families["a_total"].value(), 1)
        self.assertEqual(families["h"].value("_count"), 2)
        self.assertEqual(parse(""), {})

    def test_refuses_what_is_wrong(self):
        for text in (
            "a_total 1\n",  # no head
            HEAD,  # no sample
            HEAD + "a_total 1",  # no end
            HEAD + "\na_total 1\n",  # an empty line
            HEAD + "a_total  1\n",
            HEAD + "a_total 1 \n",
            HEAD + "a_total 1\r\n",
            HEAD + "a_total -1\n",
            HEAD + "a_total{} 1\n",
            HEAD + 'a_total{b="c",} 1\n',
            HEAD + 'a_total{b="c" ,d="e"} 1\n',
            HEAD + 'a_total{b="c",b="d"} 1\n',
            HEAD + 'a_total{b="\\t"} 1\n',
            HEAD + 'a_total{b="c} 1\n',
            HEAD + 'a_total{1b="c"} 1\n',
            HEAD + "a_total 1\na_total 2\n",
            HEAD + "b_total 1\n",
            HEAD + "a_total 1\n" + HEAD + "a_total 2\n",
            HEAD.replace("counter", "gauge") + "a_total 1\n",
            HEAD.replace("a_total", "a") + "a 1\n",
            "# TYPE a_total counter\na_total 1\n",
            "# HELP a_total Help.\na_total 1\n",
            HISTOGRAM.replace("h_count 2", "h_count 3"),
            HISTOGRAM.replace("h_count 2\n", ""),
            HISTOGRAM.replace("h_sum 1.5\n", ""),
            HISTOGRAM.replace('h_bucket{le="+Inf"} 2\n', ""),
            HISTOGRAM.replace('h_bucket{le="0.5"} 1', 'h_bucket{le="0.5"} 3'),
            HISTOGRAM.replace('h_bucket{le="0.5"} 1', "h_bucket 1"),
            HISTOGRAM.replace("0.5", "x"),
        ):
            with self.subTest(text=text), self.assertRaises(Malformed):
                parse(text)


class ExampleTests(unittest.TestCase):
    """examples/metrics.c: two runtimes in one text."""

    def test_two_runtimes_are_one_text(self):
        for backend, name in zip(BACKENDS, ("io_uring", "epoll")):
            with self.subTest(backend=backend):
                result = subprocess.run(
                    [os.environ["RDY_EXAMPLE_METRICS"]], capture_output=True, text=True,
                    timeout=LIMIT_S, check=True, env={**os.environ, "RDY_BACKEND": backend})
                families = parse(result.stdout)
                spawned = families["rdy_spawned_tasks_total"]
                self.assertEqual(spawned.value(runtime="first"), 10)
                self.assertEqual(spawned.value(runtime="second"), 20)
                polls = families["rdy_poll_total"]
                self.assertEqual(polls.value(runtime="second"), 40)
                times = families["rdy_poll_time_seconds"]
                self.assertEqual(times.value("_count", runtime="second"), 40)
                self.assertGreater(times.value("_sum", runtime="second"), 0)
                self.assertNotIn((("runtime", "first"),), times.samples[times.name + "_count"])
                self.assertEqual(
                    families["rdy_backend_info"].value(runtime="first", backend=name), 1)
                self.assertTrue(all(name.startswith("rdy_") for name in families))


class HttpTests(unittest.TestCase):
    """rdy echo --metrics: one path, one method, one request a connection."""

    def server(self, *args):
        server = Echo("--metrics", "127.0.0.1:0", *args)
        self.addCleanup(server.__exit__)
        line = server.process.stdout.readline()
        match = re.fullmatch(r"metrics on http://127\.0\.0\.1:(\d+)/metrics\n", line)
        self.assertTrue(match, line)
        server.metrics_port = int(match[1])
        return server

    def url(self, server, path="/metrics"):
        return f"http://127.0.0.1:{server.metrics_port}{path}"

    def scrape(self, server, path="/metrics"):
        with urllib.request.urlopen(self.url(server, path), timeout=LIMIT_S) as answer:
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["Content-Type"],
                             "text/plain; version=0.0.4; charset=utf-8")
            return parse(answer.read().decode())

    def test_every_worker_is_there_on_both_backends(self):
        for backend, name in zip(BACKENDS, ("io_uring", "epoll")):
            with self.subTest(backend=backend):
                server = self.server("--workers", "2", "--backend", backend)
                families = self.scrape(server)
                for worker in ("0", "1"):
                    self.assertEqual(
                        families["rdy_backend_info"].value(worker=worker, backend=name), 1)
                    self.assertEqual(
                        families["rdy_io_driver_fd_registered_total"].value(worker=worker), 1)
                self.assertEqual(server.stop()["connections"], 0)

    def test_a_connection_counts_and_a_scrape_does_not(self):
        server = self.server()
        before = self.scrape(server)
        with server.connect() as client:
            client.sendall(b"hello")
            self.assertEqual(receive(client, 5), b"hello")
            after = self.scrape(server, "/metrics?name[]=x")
        self.assertEqual(before["rdy_alive_tasks"].value(worker="0"), 1)
        self.assertEqual(after["rdy_alive_tasks"].value(worker="0"), 2)
        self.assertEqual(after["rdy_spawned_tasks_total"].value(worker="0"), 2)
        self.assertEqual(after["rdy_io_driver_fd_registered_total"].value(worker="0"), 2)
        self.assertEqual(server.stop()["connections"], 1)

    def test_everything_else_is_refused_with_a_line(self):
        server = self.server()
        for request, status, line in (
            (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found", "only /metrics is here\n"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
             "405 Method Not Allowed", "only GET is allowed\n"),
            (b"HEAD /metrics HTTP/1.0\r\n\r\n", "405 Method Not Allowed", "only GET is allowed\n"),
            (b"nonsense\r\n\r\n", "400 Bad Request", "not a request of HTTP/1.1\n"),
            (b"GET /metrics\r\nA: b c\r\n\r\n", "400 Bad Request", "not a request of HTTP/1.1\n"),
            (b"GET /metrics SMTP/1.1\r\n\r\n", "400 Bad Request", "not a request of HTTP/1.1\n"),
            (b"GET /" + b"x" * 5000, "431 Request Header Fields Too Large",
             "a request has at most 4096 bytes\n"),
        ):
            with self.subTest(request=request[:40]):
                with socket.create_connection(
                        ("127.0.0.1", server.metrics_port), LIMIT_S) as client:
                    client.sendall(request)
                    client.shutdown(socket.SHUT_WR)
                    answer = receive(client, 1 << 20).decode()
                head, body = answer.split("\r\n\r\n", 1)
                self.assertEqual(head.split("\r\n")[0], f"HTTP/1.1 {status}")
                self.assertEqual(body, line)
                self.assertIn(f"Content-Length: {len(line)}\r\n", head)
        self.scrape(server)

    def test_a_request_in_pieces_and_a_peer_that_leaves_do_no_harm(self):
        server = self.server()
        for _ in range(40):  # more than may be there at once
            with socket.create_connection(("127.0.0.1", server.metrics_port), LIMIT_S) as client:
                client.sendall(b"GET /metr")
        with socket.create_connection(("127.0.0.1", server.metrics_port), LIMIT_S) as client:
            for piece in (b"GET /metr", b"ics HTTP/1.1\r", b"\nHost: x\r\n", b"\r\n"):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            self.assertIn("200 OK", receive(client, 1 << 20).decode())

    def test_an_open_scrape_does_not_hold_the_end_up(self):
        server = self.server()
        with socket.create_connection(("127.0.0.1", server.metrics_port), LIMIT_S) as client:
            client.sendall(b"GET /metr")
            self.scrape(server)  # so the other was accepted
            server.stop()

    def test_an_address_that_is_taken_is_bad_input(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run("echo", "--listen", "127.0.0.1:0", "--metrics", f"127.0.0.1:{port}")
        self.assertEqual(result.returncode, 2)
        self.assertEqual(result.stdout, "")
        self.assertIn("cannot serve metrics on 127.0.0.1", result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
