# SPDX-License-Identifier: MIT
"""Drives the rdy command: runs it to its end, or keeps an echo server for the time of a test.

Everything is on loopback and every wait has a limit, after which the test fails.
"""
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

RDY = os.environ["RDY_COMMAND"]
BACKENDS = ("uring", "epoll")
LIMIT_S = 30
LISTENING = r"listening on (\S+):(\d+) backend=(\S+) mode=(readiness|completion) workers=(\d+)\n"


def run(*args, **options):
    """Runs `rdy ARGS` to its end and returns status, stdout and stderr as text."""
    return subprocess.run([RDY, *args], capture_output=True, text=True, timeout=LIMIT_S, **options)


def has_capability(name):
    """What `rdy info` says of it."""
    found = json.loads(run("info", "--json").stdout)["capabilities"]
    return any(one["name"] == name and one["present"] for one in found)


def limit_files(count):
    """For preexec_fn: at most @count open files, and no way to raise that."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


class Echo:
    """`rdy echo` on a free port; stop() ends it and returns its summary."""

    def __init__(self, *args, listen="127.0.0.1:0", **options):
        command = [RDY, "echo", "--listen", listen, "--json", *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self.line = self.process.stdout.readline()
        match = re.match(LISTENING, self.line)
        if not match:
            self.process.kill()
            raise AssertionError(f"no listening line but {self.line!r}")
        self.host = match[1].strip("[]")
        self.port = int(match[2])
        self.backend = match[3]
        self.address = f"{match[1]}:{match[2]}"
        self.files_at_start = self.files()

    def connect(self):
        client = socket.create_connection((self.host, self.port), timeout=LIMIT_S)
        return client

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) * 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def await_connections(self, count):
        """Until so many are open; the server prints nothing about them while it runs."""
        until = time.monotonic() + LIMIT_S
        while self.files() - self.files_at_start < count:
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{self.files() - self.files_at_start} of {count} connected")
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=LIMIT_S)
        if self.process.returncode != 0:
            raise AssertionError(f"exit status {self.process.returncode}: {output}")
        return json.loads(output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=LIMIT_S)
        self.process.stdout.close()


class Scripted:
    """A server in a thread that serves each connection with @serve(connection)."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass  # the load is done with us

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def receive(client, count):
    """Exactly @count bytes, or fewer if the peer ends before."""
    parts = []
    while count > 0:
        part = client.recv(min(count, 1 << 20))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
