#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Has the simulation teeth? Puts one bug after the other into the engine; each must fail a seed.

A mutant is a substitution in one file, whose text must occur there exactly once, and the sources
that are compiled anew with it. They are linked in front of the library, so nothing else is built.
Prints how many seeds it took to catch each.

    mutants.py --build DIR [--seeds N] [NAME...]   all, or those with one of these in their name
    mutants.py --list
"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SEEDS = 20000  # a mutant that survives so many is not caught
WHY_MAX = 90  # characters
SIM_OBJECTS = "tests/sim/CMakeFiles/sim.dir"


class Mutant:
    def __init__(self, name, path, old, new, compiled=None):
        self.name = name
        self.path = path
        self.old = old
        self.new = new
        self.compiled = compiled or [path]


MUTANTS = [
    Mutant(
        "poll that overflow ended is not armed again",
        "engine/dispatch.c",
        "rdy_driver_request(io, RDY_REQUEST_ARM); /* when there is room: see begin_arms() */",
        "",
    ),
    Mutant(
        "poll that the kernel ended is not armed again",
        "engine/dispatch.c",
        "        return;\n    }\n    rdy_driver_arm(driver, io);\n}\n\n/* A fact for an entry",
        "        return;\n    }\n}\n\n/* A fact for an entry",
    ),
    Mutant(
        "LAST of a poll is ignored",
        "engine/dispatch.c",
        "if (rdy_unlikely(fact->flags & RDY_FACT_LAST))\n        handle_last(driver, io, fact);",
        "",
    ),
    Mutant(
        "fact of an earlier arming is taken",
        "engine/dispatch.c",
        "if (rdy_unlikely(fact->token != rdy_scheduled_io_token(io))) {",
        "if (rdy_unlikely((fact->token ^ rdy_scheduled_io_token(io)) & RDY_TOKEN_SLAB)) {",
    ),
    Mutant(
        "entry is given back when it was asked to stop, not when it has",
        "engine/dispatch.c",
        "        io->kernel = RDY_KERNEL_CANCELLING;\n"
        "        rdy_a64_bump(&driver->count.cancels_pending, 1);\n"
        "        return false;",
        "        io->kernel = RDY_KERNEL_IDLE;\n        return true;",
    ),
    Mutant(
        "any fact of a cancelled watch counts as its last",
        "engine/dispatch.c",
        "    if ((fact->flags & RDY_FACT_LAST) == 0)\n        return;\n    io->kernel",
        "    io->kernel",
    ),
    Mutant(
        "entry is given back with operations in the ring",
        "engine/dispatch.c",
        "io->kernel == RDY_KERNEL_IDLE &&\n"
        "        ((io->flags & RDY_IO_LANE) == 0 || rdy_lane_is_idle(io)))",
        "io->kernel == RDY_KERNEL_IDLE)",
    ),
    Mutant(
        "arm without room is forgotten",
        "engine/dispatch.c",
        "    else if (rc == -EBUSY)\n        put_off(driver, io, RDY_REQUEST_ARM);",
        "    else if (rc == -EBUSY)\n        return;",
    ),
    Mutant(
        "poll that ended with a passing error is not armed again",
        "engine/dispatch.c",
        "        put_off(driver, io, RDY_REQUEST_ARM);\n        return;\n    case 0:",
        "        return;\n    case 0:",
    ),
    Mutant(
        "clear looks at no tick",
        "engine/word.h",
        "if (((word ^ seen.word) & RDY_WORD_READ_TICK) == 0)",
        "if (true)",
        ["engine/scheduled_io.c"],
    ),
    Mutant(
        "event takes flags away",
        "engine/word.h",
        "    return word | ready;\n}\n\n/* Somebody guesses",
        "    return (word & ~RDY_WORD_READY) | ready;\n}\n\n/* Somebody guesses",
        ["engine/scheduled_io.c"],
    ),
    Mutant(
        "short read counts as drained at an urgent mark",
        "engine/stream_ops.h",
        "    if (stream->flags & RDY_SOCKET_STATES)\n        return true;\n"
        "    return (stream->flags & (RDY_SOCKET_KEYS | RDY_SOCKET_UNSURE)) == "
        "RDY_SOCKET_KEYS &&\n"
        "           rdy_stream_events(stream, event) <= 1;",
        "    return (stream->flags & (RDY_SOCKET_STATES | RDY_SOCKET_KEYS)) != 0;",
        ["engine/stream.c"],
    ),
    Mutant(
        "short read counts as drained on a Unix socket",
        "engine/stream_ops.h",
        "    if (stream->flags & RDY_SOCKET_STATES)\n        return true;\n"
        "    return (stream->flags",
        "    if (true)\n        return true;\n    return (stream->flags",
        ["engine/stream.c"],
    ),
    Mutant(
        "full socket is tried again and again",
        "engine/stream_ops.h",
        "if (count == -EAGAIN || (count >= 0 && (size_t)count < full))\n"
        "        rdy_clear_readiness(&stream->reg, event);",
        "",
        ["engine/stream.c"],
    ),
    Mutant(
        "what a ring had received hides what the socket has, in bulk",
        "engine/completion.c",
        "if (!lane->received.first && lane->recv != RDY_RECV_ENDED && !lane->is_bulk)",
        "if (!lane->received.first && lane->recv != RDY_RECV_ENDED)",
    ),
    Mutant(
        "call sends in bulk what a ring is sending",
        "engine/lane_plain.c",
        "if (rdy_lane_is_sending(lane))\n        return;",
        "",
    ),
    Mutant(
        "stream in bulk is not watched",
        "engine/lane_bulk.c",
        "io->flags &= (uint8_t)~RDY_IO_UNWATCHED;",
        "",
    ),
    Mutant(
        "starved receive is not begun again",
        "engine/lane_recv.c",
        "        completion->count.recv_starved++;\n        break;",
        "        completion->count.recv_starved++;\n        return 0;",
    ),
    Mutant(
        "receive that ended with a passing error is not begun again",
        "engine/lane_recv.c",
        "    case -ENOMEM:\n        break;\n    default:",
        "    case -ENOMEM:\n        return 0;\n    default:",
    ),
    Mutant(
        "paused receive does not go on when its queue is emptied",
        "engine/lane_recv.c",
        "if (rdy_unlikely(lane->recv == RDY_RECV_IDLE) && !lane->recv_error && !lane->is_bulk &&\n"
        "            lane->received_count <= queue_max(completion, lane) / 2)\n"
        "            rdy_recv_want(completion, lane);",
        "",
    ),
    Mutant(
        "end of a stream overtakes its data",
        "engine/lane_recv.c",
        "    if (piece) {\n        rdy_piece_end",
        "    if (piece && lane->recv != RDY_RECV_ENDED) {\n        rdy_piece_end",
    ),
    Mutant(
        "receive on any socket waits for an event first",
        "engine/lane_recv.c",
        "is_data_there || (lane->flags & RDY_LANE_PATIENT) == 0;",
        "is_data_there;",
    ),
    Mutant(
        "buffers of a leaving stream are not given back",
        "engine/lane_recv.c",
        "    if (fact->result < head || (lane->flags & RDY_LANE_LEAVING) || lane->recv_error) {\n"
        "        rdy_block_release(block);\n",
        "    if (fact->result < head || (lane->flags & RDY_LANE_LEAVING) || lane->recv_error) {\n",
    ),
    Mutant(
        "what a part of a send left over is dropped",
        "engine/lane_send.c",
        "rdy_send_advance(completion, lane, (size_t)result < bytes ? (size_t)result : bytes);",
        "rdy_send_advance(completion, lane, bytes);",
    ),
    Mutant(
        "send that met a full socket is not sent on",
        "engine/lane_send.c",
        "    else\n        wait_for_peer(completion, lane);",
        "    else\n        go_on(completion, lane);",
    ),
    Mutant(
        "silence is taken for success before all was submitted",
        "engine/lane.c",
        "if (completion->trying.first && rdy_driver_backend(completion->driver)->is_settled)",
        "if (completion->trying.first)",
    ),
    Mutant(
        "silent send holds up what stands behind it",
        "engine/lane_send.c",
        "if (piece || (lane->flags & RDY_LANE_SHUTTING))",
        "if (lane->flags & RDY_LANE_SHUTTING)",
    ),
    Mutant(
        "silent send holds up the shutdown behind it",
        "engine/lane_send.c",
        "if (piece || (lane->flags & RDY_LANE_SHUTTING))",
        "if (piece)",
    ),
    Mutant(
        "what a kernel without memory left waits for somebody's event",
        "engine/lane.c",
        "    if ((completion->is_doubtful || completion->stalled.first) &&\n",
        "    if (completion->stalled.first &&\n",
    ),
    Mutant(
        "reader does not hear of a send that was lost with the ring",
        "engine/lane.c",
        "    if (!is_intact || is_holed)\n        break_off(lane);",
        "    if (is_holed)\n        break_off(lane);",
    ),
    Mutant(
        "shutdown overtakes what was handed over",
        "engine/completion.c",
        "    if (is_flushed(lane) || lane->send_error)\n        return RDY_SHUT_NOW;",
        "    if (true)\n        return RDY_SHUT_NOW;",
    ),
    Mutant(
        "write goes out behind what a lost ring did not send",
        "engine/completion.h",
        "rdy_stream_is_native(stream) || lane->unsent.first || lane->send_error;",
        "rdy_stream_is_native(stream) || lane->unsent.first;",
        ["engine/stream.c", "engine/completion.c", "engine/copy.c", "engine/stream_io.c"],
    ),
    Mutant(
        "bytes that a dead ring has lost are skipped",
        "engine/dispatch.c",
        "    driver->completion->is_holed = backend->has_lost;\n",
        "",
    ),
    Mutant(
        "send whose fate is unknown is made again",
        "engine/lane.c",
        "    return lane->send == RDY_SEND_TRYING && "
        "!lane->io->driver->completion->is_doubtful &&\n",
        "    return lane->send == RDY_SEND_TRYING &&\n",
    ),
    Mutant(
        "connect that the ring gave up is not gone on with",
        "engine/lane_connect.c",
        "        if (go_on_by_call(lane)) {",
        "        if (false) {",
    ),
    Mutant(
        "connect that was woken too early counts as failed",
        "engine/lane_connect.c",
        "    case -EALREADY:\n    case -EINPROGRESS:\n    case -EAGAIN:",
        "    case -EINPROGRESS:\n    case -EAGAIN:",
    ),
    Mutant(
        "connect that failed counts as a connection",
        "engine/lane_connect.c",
        "        answer(lane, result);",
        "        answer(lane, 0);",
    ),
    Mutant(
        "connect without room is forgotten",
        "engine/lane_connect.c",
        "    if (rc != 0)\n        return false;\n    lane->send",
        "    if (rc != 0)\n        return true;\n    lane->send",
    ),
    Mutant(
        "connect is not gone on with when the ring is lost",
        "engine/lane_connect.c",
        "    if (was_asked && !rdy_lane_is_unwanted(lane))\n        (void)go_on_by_call(lane);",
        "    (void)was_asked;",
    ),
    Mutant(
        "connect that nobody waits for is not cancelled",
        "engine/lane.c",
        "    if (lane->send == RDY_SEND_WAITING || lane->send == RDY_SEND_CONNECTING)",
        "    if (lane->send == RDY_SEND_WAITING)",
    ),
    Mutant(
        "receive of datagrams that ended is not begun again",
        "engine/lane_message.c",
        "    if (lane->received_count < completion->message_queue_max)\n"
        "        rdy_recv_want(completion, lane);\n",
        "",
    ),
    Mutant(
        "news of the network is told again",
        "engine/lane_message.c",
        "    lane->recv_error = 0;\n    if (lane->recv == RDY_RECV_ENDED)",
        "    if (lane->recv == RDY_RECV_ENDED)",
    ),
    Mutant(
        "datagram that met a full socket is taken for sent",
        "engine/lane_message.c",
        "        return FATE_FULL;\n    default:",
        "        return FATE_SENT;\n    default:",
    ),
    Mutant(
        "news of others costs the datagram that met it",
        "engine/lane_message.c",
        "    if (rdy_datagram_is_news(error) && !letter->refused) {",
        "    if (false) {",
    ),
    Mutant(
        "news that cost no datagram is not told",
        "engine/lane_message.c",
        "        if (letter->refused && lane->send_error == 0)\n"
        "            lane->send_error = (int16_t)letter->refused;\n",
        "",
    ),
    Mutant(
        "datagram that was refused is told of by nobody",
        "engine/lane_message.c",
        "    if (lane->send_error == 0)\n        lane->send_error = (int16_t)error;\n"
        "    return FATE_REFUSED;",
        "    return FATE_REFUSED;",
    ),
    Mutant(
        "fact of a datagram is taken for the first one's",
        "engine/lane_message.c",
        "    uint32_t place = (uint32_t)(fact->token >> RDY_TOKEN_ARMING_SHIFT) % "
        "RDY_TOKEN_ARMINGS;",
        "    uint32_t place = 0;",
    ),
    Mutant(
        "datagrams beyond one turn's wait for somebody's event",
        "engine/lane_message.c",
        "    if (letter)\n        completion->is_impatient = true;\n",
        "",
    ),
    Mutant(
        "datagram for which the ring had no room is forgotten",
        "engine/lane_message.c",
        "        rdy_send_make_dirty(completion, lane);\n        return;",
        "        return;",
    ),
    Mutant(
        "datagrams that a lost ring received are skipped",
        "engine/message.h",
        "    return !rdy_lane_is_plain(lane) || lane->received.first || lane->recv_error;",
        "    return !rdy_lane_is_plain(lane);",
        ["engine/datagram_completion.c"],
    ),
    Mutant(
        "datagram cut off by a buffer counts as whole",
        "engine/datagram_completion.c",
        "    if (iov->iov_len > opened->payload_len)\n"
        "        iov->iov_len = opened->payload_len;\n    if (iov->iov_len > 0)\n"
        "        memcpy(iov->iov_base, opened->payload, iov->iov_len);",
        "    memcpy(iov->iov_base, opened->payload,\n"
        "           opened->payload_len < iov->iov_len ? opened->payload_len : iov->iov_len);",
    ),
    Mutant(
        "empty datagram counts as none",
        "engine/lane_recv.c",
        "lane->message ? (int32_t)RDY_MESSAGE_HEAD_SIZE : 1;",
        "lane->message ? (int32_t)RDY_MESSAGE_HEAD_SIZE + 1 : 1;",
    ),
    Mutant(
        "descriptor is closed while the ring has it",
        "engine/registration.c",
        "    rdy_driver_request(io, request);\n    if (rdy_driver_is_own_thread(driver))\n",
        "    if (request & RDY_REQUEST_CLOSE)\n        (void)rdy_sys_close(io->fd);\n"
        "    rdy_driver_request(io, request & ~RDY_REQUEST_CLOSE);\n"
        "    if (rdy_driver_is_own_thread(driver))\n",
    ),
    Mutant(
        "wake-up while a task is polled is lost",
        "engine/task.c",
        "    rdy_assert(seen == RDY_TASK_WOKEN);\n"
        "    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_QUEUED);\n"
        "    rdy_task_queue_push(&runtime->ready, task);",
        "    rdy_assert(seen == RDY_TASK_WOKEN);\n"
        "    (void)rdy_a32_swap_acq_rel(&task->state, RDY_TASK_IDLE);",
    ),
    Mutant(
        "wait forgets the timers",
        "engine/runtime.c",
        "    if (earliest_ns == RDY_WHEEL_NEVER)\n        return -1;",
        "    if (earliest_ns >= 0)\n        return -1;",
    ),
    Mutant(
        "waiter of a list is not woken",
        "engine/scheduled_io.c",
        "        if (rdy_interest_mask(wait_of(link)->interest) & ready) {",
        "        if (rdy_interest_mask(wait_of(link)->interest) & ready & RDY_WRITABLE) {",
    ),
    Mutant(
        "buffer goes back to the kernel twice",
        "engine/buffer_pool.c",
        "        pool->backend->ops->refill(pool->backend, block->id);\n    else",
        "        pool->backend->ops->refill(pool->backend, block->id ^ (pool->count > 1));\n"
        "    else",
    ),
    Mutant(
        "socket that has left completion mode is counted on",
        "engine/lane.c",
        "    io->driver->completion->lanes_count--;\n",
        "",
    ),
]


def commands_of(build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file) if "/model/" not in entry["command"]]
    return {os.path.relpath(os.path.realpath(entry["file"]), ROOT): entry for entry in entries}


def compile_with(entry, overlay, path, output):
    """Compiles @path as the build does, with headers and the source itself from @overlay first."""
    words = shlex.split(entry["command"])
    mutated = os.path.join(overlay, path)
    source = mutated if os.path.exists(mutated) else os.path.join(ROOT, path)
    kept = [words[0]]
    skip = False
    for word in words[1:]:
        if skip:
            skip = False
        elif word in ("-o", "-MF", "-MT"):
            skip = True
        elif word not in ("-c", "-MD", "-Werror") and word != entry["file"]:
            kept.append(word)
    command = [*kept, "-w", "-I" + overlay, "-iquote", overlay, "-c", source, "-o", output]
    # The overlay has to come before the tree.
    command.insert(1, "-I" + overlay)
    subprocess.run(command, cwd=entry["directory"], check=True)


def link_command(build):
    """The link of the simulation as the build does it."""
    text = subprocess.run(
        ["ninja", "-C", build, "-t", "commands", "sim"], capture_output=True, text=True, check=True
    ).stdout
    line = [line for line in text.splitlines() if SIM_OBJECTS in line and " -o " in line][-1]
    words = shlex.split(line.split("&&")[1] if "&&" in line else line)
    return [word for word in words if word != ":"]


def build_mutant(mutant, build, commands, link, folder):
    overlay = os.path.join(folder, "overlay")
    target = os.path.join(overlay, mutant.path)
    os.makedirs(os.path.dirname(target))
    with open(os.path.join(ROOT, mutant.path), encoding="utf-8") as file:
        text = file.read()
    if text.count(mutant.old) != 1:
        return None
    with open(target, "w", encoding="utf-8") as file:
        file.write(text.replace(mutant.old, mutant.new))
    objects = []
    for i, path in enumerate(mutant.compiled):
        objects.append(os.path.join(folder, f"{i}.o"))
        compile_with(commands[path], overlay, path, objects[-1])
    program = os.path.join(folder, "sim")
    words = list(link)
    place = next(i for i, word in enumerate(words) if word.endswith(".o"))
    words[words.index("-o") + 1] = program
    subprocess.run([*words[:place], *objects, *words[place:]], cwd=build, check=True)
    return program


def seeds_until_caught(program, seeds):
    """The seeds that passed before one failed, and why it did; None if all passed."""
    result = subprocess.run(
        [program, "--seeds", str(seeds)], capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return None, ""
    passed = re.search(r"(\d+) seeds passed before it", result.stderr)
    why = re.search(r"sim: seed \d+(?:, step \d+, after [\d.]+ ms:)? (.*)", result.stderr)
    return int(passed.group(1)) + 1 if passed else 0, why.group(1) if why else "?"


def main():
    parser = argparse.ArgumentParser(description="Mutants of the engine, for the simulation.")
    parser.add_argument("--build", help="a build folder with the simulation in it")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="give up after so many")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("names", nargs="*", help="parts of the names of those that are wanted")
    options = parser.parse_args()
    wanted = [m for m in MUTANTS if not options.names or any(n in m.name for n in options.names)]
    if options.list:
        print("\n".join(mutant.name for mutant in wanted))
        return 0
    build = os.path.realpath(options.build)
    commands, link = commands_of(build), link_command(build)

    def run(mutant):
        with tempfile.TemporaryDirectory() as folder:
            program = build_mutant(mutant, build, commands, link, folder)
            if not program:
                return None, f"   -    {mutant.name}: its text is not in {mutant.path} once"
            count, why = seeds_until_caught(program, options.seeds)
        if count is None:
            return None, f" alive  {mutant.name}: survived {options.seeds} seeds"
        return count, f"{count:6}  {mutant.name}: {why[:WHY_MAX]}"

    failures = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for count, line in pool.map(run, wanted):
            print(line, flush=True)
            failures += 0 if count is not None else 1
    print(f"mutants: {len(wanted) - failures} of {len(wanted)} caught")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
