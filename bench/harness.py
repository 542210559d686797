# SPDX-License-Identifier: MIT
"""What compare.py, idle.py, latency.py and slices.py share: a pinned server that is watched, the
machine, the results.

A server's figures come from outside where they can: processor time and scheduling from
/proc/PID/task/*/schedstat (nanoseconds, all threads), memory from /proc/PID/status. From its own
summary, printed at SIGTERM, come the system calls that it counted.
"""
import argparse
import datetime
import glob
import json
import os
import platform
import resource
import select
import shlex
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
START_S = 10
STOP_S = 30
STOLEN_MAX = 0.01  # of an arm's time: more is a disturbed round


class Failure(Exception):
    """Something did not run as it should; the text says what, for one line on stderr."""


class Disturbed(Failure):
    """A round that cannot be used, and is no fault of what was measured."""


# The same for `rdy echo` in completion mode.
RDY_VARIANTS = {
    "learn": "--batch-learn",
    "learn-16": "--batch-learn --batch 16",
    "batch-16": "--batch 16 --batch-wait 50us",
    "batch-64": "--batch 64 --batch-wait 200us",
}


class Arm:
    """A server program to be measured."""

    def __init__(self, name, command, backend, is_variant=False):
        self.name = name
        self.command = command
        self.backend = backend  # the backend= that it must announce
        self.is_variant = is_variant  # measured only if it is named
        self.has_descriptors = "--files" not in command  # of its connections


# The raw io_uring loop with one optional feature more, or with another number of buffers.
VARIANTS = {
    "bundles": "--bundles",
    "incremental": "--incremental --buffers 16 --buffer-size 65536",
    "files": "--files",
    "zero-copy": "--zero-copy-from 1",
    "zero-copy-16k": "--zero-copy-from 16384",
    "ring-fd": "--ring-fd",
    "wait-20us": "--wait-for 16 --wait-us 20",
    "wait-50us": "--wait-for 16 --wait-us 50",
    "wait-200us": "--wait-for 64 --wait-us 200",
    "full-64": "--wait-after-full 64",
    "full-256": "--wait-after-full 256",
    "gap-64": "--buffer-gap 64",
    "64-buffers": "--buffers 64",
    "1024-buffers": "--buffers 1024",
    "256-bytes": "--buffer-size 256",
    "16k-bytes": "--buffer-size 16384",
    "64-of-64k": "--buffers 64 --buffer-size 65536",
}


def arms_of(build):
    """The arms by name; the first one is what the others are compared with."""
    rdy = os.path.join(build, "rdy")
    raw = os.path.join(build, "bench", "raw_epoll")
    raw_uring = os.path.join(build, "bench", "raw_uring")
    listen = ["--listen", "127.0.0.1:0"]
    arms = [
        Arm("raw-epoll", [raw, *listen], "raw-epoll"),
        Arm("raw-uring", [raw_uring, *listen], "raw-uring"),
    ]
    for name, flags in VARIANTS.items():
        command = [raw_uring, *listen, *flags.split()]
        arms.append(Arm("raw-uring." + name, command, "raw-uring", is_variant=True))
    for name, backend, mode, announced in (
        ("epoll", "epoll", "readiness", "epoll"),
        ("uring", "uring", "readiness", "io_uring"),
        ("completion", "uring", "completion", "io_uring"),
        ("epoll-completion", "epoll", "completion", "epoll"),
    ):
        command = [rdy, "echo", *listen, "--backend", backend, "--mode", mode, "--json"]
        arms.append(Arm("rdy-" + name, command, announced))
        if name == "completion":
            for variant, flags in RDY_VARIANTS.items():
                full = f"rdy-completion.{variant}"
                arms.append(Arm(full, command + flags.split(), announced, is_variant=True))
    for path in (rdy, raw, raw_uring):
        if not os.access(path, os.X_OK):
            raise Failure(f"{path} is not there: build first, or name the folder with --build")
    return {arm.name: arm for arm in arms}


def spinning(arm, spin_us):
    """The arm of `rdy echo` with --spin."""
    command = [*arm.command, "--spin", str(spin_us)]
    return Arm(f"{arm.name}-spin{spin_us}", command, arm.backend)


def pinned(cpu):
    """For preexec_fn: the child runs on @cpu, with as many descriptors as it may have."""

    def child():
        os.sched_setaffinity(0, {cpu})
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return child


class Competitor:
    """A process that never sleeps, on the server's processor: the server gets half of that, so that
    it is what is short, whatever the load can give. A context; with @cpu None of nothing."""

    def __init__(self, cpu):
        self.child = None
        if cpu is not None:
            command = [sys.executable, "-c", "while True: pass"]
            self.child = subprocess.Popen(command, preexec_fn=pinned(cpu))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.child:
            self.child.kill()
            self.child.wait()


def last_json(text):
    """The last line of @text that is a JSON object, or None."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                return None
    return None


class Sample:
    """What was known of a server at one moment."""

    def __init__(self, pid):
        self.time_s = time.monotonic()
        self.cpu_ns = 0
        self.times_run = 0  # how often a thread of it was put on a processor
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            with open(path, encoding="ascii") as file:
                ran_ns, _, times = (int(word) for word in file.read().split())
            self.cpu_ns += ran_ns
            self.times_run += times
        self.fds = descriptors_of(pid)


def descriptors_of(pid):
    """Since Linux 6.2 the size of the folder is the number of open descriptors."""
    return os.stat(f"/proc/{pid}/fd").st_size


def memory_kb(pid):
    """(whole resident set, the anonymous part of it)."""
    found = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key in ("VmRSS", "RssAnon"):
                found[key] = int(value.split()[0])
    return found["VmRSS"], found["RssAnon"]


class Server:
    """A running arm. Use it as a context: it is killed at the end if it was not stopped."""

    def __init__(self, arm, cpu):
        self.arm = arm
        self.child = subprocess.Popen(
            arm.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=pinned(cpu),
        )
        self.pid = self.child.pid
        self.line = self._first_line()
        words = self.line.split()
        if len(words) < 3 or words[:2] != ["listening", "on"]:
            self._give_up(f"said '{self.line}' instead of where it listens")
        if f"backend={arm.backend}" not in words:
            self._give_up(f"runs on another backend: '{self.line}'")
        self.address = words[2]
        self.port = int(words[2].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()

    def _give_up(self, why):
        self.child.kill()
        self.child.communicate()
        raise Failure(f"{self.arm.name} {why}")

    def _first_line(self):
        if not select.select([self.child.stdout], [], [], START_S)[0]:
            self._give_up(f"did not say where it listens within {START_S} s")
        line = self.child.stdout.readline().decode().strip()
        if not line:
            why = self.child.communicate()[1].decode().strip()
            raise Failure(f"{self.arm.name} did not start: {why}")
        return line

    def sample(self):
        return Sample(self.pid)

    def stop(self):
        """Ends it and returns its summary."""
        self.child.send_signal(signal.SIGTERM)
        try:
            out, err = self.child.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.arm.name} did not end within {STOP_S} s of SIGTERM") from None
        if self.child.returncode != 0:
            raise Failure(f"{self.arm.name} ended with {self.child.returncode}: {err.decode()}")
        summary = last_json(out.decode())
        if summary is None:
            raise Failure(f"{self.arm.name} printed no summary in JSON")
        return summary


def text_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def output_of(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def cpu_model():
    for line in (text_of("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def command_line():
    """How this script was called; of a path outside the tree only the last part."""
    words = [os.path.basename(sys.argv[0])]
    for word in sys.argv[1:]:
        if os.path.isabs(word):
            is_inside = os.path.commonpath([word, ROOT]) == ROOT
            word = os.path.relpath(word, ROOT) if is_inside else os.path.basename(word)
        words.append(word)
    return shlex.join(words)


def machine(build):
    """What a reader of the results must know of where they were taken."""
    folder = "/sys/devices/system/cpu/vulnerabilities/"
    rdy = os.path.join(build, "rdy")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command_line(),
        "commit": output_of("git", "describe", "--always", "--dirty"),
        "kernel": f"{platform.release()} {platform.version()}",
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg(),
        "mitigations": {
            os.path.basename(path): text_of(path) for path in sorted(glob.glob(folder + "*"))
        },
        "rdy_info": last_json((output_of(rdy, "info", "--json") or "").replace("\n", " ")),
    }


def machine_lines(about):
    active = [
        f"{name}: {text}" for name, text in about["mitigations"].items() if text != "Not affected"
    ]
    yield f"{about['date']}  {about['command']}"
    yield f"commit {about['commit'] or 'unknown'}, kernel {about['kernel']}"
    yield f"{about['cpus']} x {about['cpu']}, load before {about['load_before'][0]:.2f}"
    yield "mitigations: " + ("; ".join(active) or "none")
    auto = (about["rdy_info"] or {}).get("auto", {})
    yield f"auto picks {auto.get('backend', 'nobody knows what')}: {auto.get('reason', '')}"


def save(folder, name, record, lines):
    """Writes DATE-NAME.json and .txt; returns their common path."""
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, f"{record['machine']['date'][:10]}-{name}")
    with open(base + ".json", "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    with open(base + ".txt", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return base


class Report:
    """What is printed and, unless --no-save, kept in the result files."""

    def __init__(self, options):
        self.options = options
        self.about = machine(options.build)
        self.lines = []
        self.say(machine_lines(self.about))

    def say(self, lines):
        added = list(lines)
        self.lines += added
        print("\n".join(added), flush=True)

    def save(self, record):
        if self.options.no_save:
            return
        record = {"machine": self.about, **record}
        base = save(self.options.results, self.options.name, record, self.lines)
        print("saved as " + base + ".*")


def run_script(main):
    """A script's whole life; what did not run as it should is one line. Servers end with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main())
    except Failure as failure:
        name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        print(f"{name}: {failure}", file=sys.stderr)
        sys.exit(1)


def add_common(parser, name):
    """The options that all scripts know; @name is that of the result files."""
    last = max(os.sched_getaffinity(0))
    build = os.path.join(ROOT, "build")
    parser.add_argument("--build", type=os.path.abspath, default=build, help="the build folder")
    parser.add_argument("--name", default=name, help="of the result files")
    parser.add_argument("--arms", default="", help="names, comma between; else those that matter")
    parser.add_argument("--server-cpu", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--load-cpu", type=int, default=last)
    parser.add_argument("--results", default=os.path.join(ROOT, "bench", "results"))
    parser.add_argument("--no-save", action="store_true", help="print only")


def cells_parser(about, name, cell, metavar, duration_s):
    """The options of a script that measures cells, in rounds."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser, name)
    parser.add_argument("--cell", type=cell, action="append", metavar=metavar)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tries",
        type=int,
        default=0,
        metavar="N",
        help="up to N rounds, until enough had no time stolen by the hypervisor; those with the "
        "least count",
    )
    parser.add_argument(
        "--duration", type=int, default=duration_s, help="seconds for each arm and round"
    )
    return parser


def parse_cells(parser, cells):
    """The options as given, with these cells where none is named."""
    options = parser.parse_args()
    options.cell = options.cell or cells
    if options.rounds < 1 or options.duration < 1:
        parser.error("--rounds and --duration are at least 1")
    return options


def begin_cells(options):
    """Puts us where the load runs; the report, with where all that is."""
    os.sched_setaffinity(0, {options.load_cpu})
    report = Report(options)
    report.say([f"server on cpu {options.server_cpu}, load on cpu {options.load_cpu}"])
    return report


def chosen_arms(options):
    arms = arms_of(options.build)
    if not options.arms:
        return [arm for arm in arms.values() if not arm.is_variant]
    unknown = [name for name in options.arms.split(",") if name not in arms]
    if unknown:
        raise Failure(f"--arms: '{unknown[0]}' is none of {', '.join(arms)}")
    return [arms[name] for name in options.arms.split(",")]


def stolen_s(cpus):
    """Seconds that the hypervisor gave to others while one of @cpus had something to do."""
    lines = (text_of("/proc/stat") or "").splitlines()
    words = {line.split()[0]: line.split() for line in lines if line.startswith("cpu")}
    ticks = sum(int(words[f"cpu{cpu}"][8]) for cpu in set(cpus))
    return ticks / os.sysconf("SC_CLK_TCK")


def run_watched(options, arm, cell, run_arm):
    """One arm of a round, with the share of the time that was stolen from its processors."""
    cpus = {options.server_cpu, options.load_cpu}
    began, stolen = time.monotonic(), stolen_s(cpus)
    figures = run_arm(options, arm, cell)
    figures["stolen"] = (stolen_s(cpus) - stolen) / len(cpus) / (time.monotonic() - began)
    return figures


def run_round(options, arms, cell, number, run_arm):
    """Every other round goes through the arms backwards."""
    done = {}
    for arm in arms if number % 2 == 0 else list(reversed(arms)):
        print(f"  {cell}: round {number + 1}, {arm.name}", file=sys.stderr)
        done[arm.name] = run_watched(options, arm, cell, run_arm)
    return [done[arm.name] for arm in arms]


def stolen_of(figures):
    return max(arm["stolen"] for arm in figures)


class Rounds:
    """The rounds of a cell, interleaved: those that count, and those that were too disturbed."""

    def __init__(self, options, arms, cell, run_arm):
        tried = []
        last = max(options.rounds, options.tries) - 1
        for number in range(last + 1):
            try:
                tried.append(run_round(options, arms, cell, number, run_arm))
            except Disturbed:
                if number == last and not tried:
                    raise
            if sum(stolen_of(figures) <= STOLEN_MAX for figures in tried) >= options.rounds:
                break
        tried.sort(key=stolen_of)
        self.kept, self.left_out = tried[: options.rounds], tried[options.rounds :]

    def __str__(self):
        text = f"{len(self.kept)} rounds"
        if self.left_out:
            text += f" of {len(self.kept) + len(self.left_out)}, the least disturbed"
        return f"{text}; {100 * stolen_of(self.kept[-1]):.1f} % of an arm's time stolen at most"

    def record(self):
        return {"rounds": self.kept, "rounds_left_out": self.left_out}


def median_of(rounds, position, key):
    return statistics.median(figures[position][key] for figures in rounds)
