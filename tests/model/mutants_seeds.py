# SPDX-License-Identifier: MIT
"""The seeded bugs of mutants.py: what is replaced, by what, and which targets must notice."""
from collections import namedtuple

import mutants_lane

Seed = namedtuple("Seed", "name path old new targets why only", defaults=(None,))

ENTRY = "engine/scheduled_io.c"
WAIT = "engine/readiness.c"
WORD = "engine/word.h"
LOCK = "engine/lock.h"
DRIVER = "engine/driver.c"
DISPATCH = "engine/dispatch.c"
REGISTER = "engine/registration.c"
SLAB = "engine/slab.c"
TASK = "engine/task.c"
REMOTE = "engine/task_remote.c"
WHEEL = "engine/wheel.c"
LANE = "engine/lane.c"
RECV = "engine/lane_recv.c"

# Which files of the engine see a change of a header: those that its targets run.
CORE = (ENTRY, WAIT, "engine/io.c", "engine/lock.c", "engine/driver.c", "engine/registration.c",
        "engine/dispatch.c")


def lock_seeds():
    yield Seed(
        "lock-release-relaxed", LOCK,
        "rdy_a32_swap_acq_rel(&lock->state, 0) == 2",
        "RDY_ATOMIC_SWAP(&lock->state, uint32_t, 0, __ATOMIC_RELAXED) == 2",
        ("two_pollers",), "what was written under the lock is not handed over", CORE)
    yield Seed(
        "lock-acquire-relaxed", LOCK,
        "!rdy_a32_cas_acq_rel(&lock->state, &seen, 1)",
        "!rdy_model_cas(&lock->state.v, 4, &(uintptr_t){seen}, 1, __ATOMIC_RELAXED)",
        ("two_pollers",), "what was written under the lock is not taken over", CORE)
    yield Seed(
        "lock-sleeper-unmarked", "engine/lock.c",
        "rdy_a32_swap_acq_rel(&lock->state, 2)", "rdy_a32_swap_acq_rel(&lock->state, 1)",
        ("lock_two", "lock_three"), "a sleeper that nobody knows of is never woken")
    yield Seed(
        "lock-spin-takes-relaxed", "engine/lock.c",
        "rdy_a32_cas_acq_rel(&lock->state, &seen, 1))",
        "rdy_model_cas(&lock->state.v, 4, &(uintptr_t){seen}, 1, __ATOMIC_RELAXED))",
        ("lock_two",), "the spinner does not acquire")
    yield Seed(
        "lock-unlock-silent", "engine/lock.c",
        "rdy_sys_futex_wake(&lock->state.v, 1);", "(void)lock;",
        ("lock_two",), "the release wakes nobody")


def word_seeds():
    yield Seed(
        "word-clear-stale", WORD,
        "if (((word ^ seen.word) & RDY_WORD_READ_TICK) == 0)", "if (true)",
        ("set_clear_poll",), "a clear takes away what came since", CORE)
    yield Seed(
        "word-set-no-tick", WORD,
        "        word = rdy_word_bump(word, RDY_WORD_READ_TICK);", "        (void)0;",
        ("set_clear_poll",), "an event does not stamp its direction", CORE)
    yield Seed(
        "word-clear-rebuilds", WORD,
        "return word & ~(drop & ~(uint64_t)RDY_FINAL);",
        "return drop ? seen.word & ~(drop & ~(uint64_t)RDY_FINAL) : word;",
        ("end_vs_clear", "two_pollers"), "a clear writes back bits that it does not name", CORE)
    yield Seed(
        "word-end-clears", WORD,
        "return word | RDY_WORD_END;", "return RDY_WORD_END << 1 >> 1;",
        ("end_vs_waiters",), "the end is not marked", CORE)


def entry_seeds():
    yield Seed(
        "set-not-atomic", ENTRY,
        "    while (!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_set(word, ready)))\n        ;",
        "    rdy_a64_store_release(&io->word, rdy_word_set(word, ready));",
        ("end_vs_set", "set_clear_poll"), "a set writes over a change that came in between")
    yield Seed(
        "set-relaxed", ENTRY,
        "!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_set(word, ready))",
        "!rdy_model_cas(&io->word.v, 8, &word, rdy_word_set(word, ready), __ATOMIC_RELAXED)",
        ("set_publishes",), "an event does not publish what was written before it")
    yield Seed(
        "clear-not-atomic", ENTRY,
        "    } while (!rdy_a64_cas_acq_rel(&io->word, &word, next));\n    return !rdy",
        "        rdy_a64_store_release(&io->word, next);\n    } while (false);\n    return !rdy",
        ("set_clear_poll",), "a clear writes over an event that came in between")
    yield Seed(
        "slot-no-recheck", ENTRY,
        "    rdy_lock_acquire(&io->waitq.lock);\n    word = rdy_a64_load_acquire(&io->word);\n"
        "    is_ready = rdy_word_is_ended(word) || (word & mask) != 0;",
        "    word = rdy_a64_load_acquire(&io->word);\n    rdy_lock_acquire(&io->waitq.lock);\n"
        "    is_ready = rdy_word_is_ended(word) || (word & mask) != 0;",
        ("set_clear_poll",), "the slot is filled without another look under the lock")
    yield Seed(
        "slot-not-emptied", ENTRY,
        "        reader->fn = NULL;", "        (void)0;",
        ("set_clear_poll",), "a waker stays in its slot and runs twice")
    yield Seed(
        "link-no-recheck", ENTRY,
        "is_ready = rdy_word_is_ended(word) || (word & rdy_interest_mask(wait->interest)) != 0;\n"
        "    if (!is_ready)",
        "is_ready = 0;\n    (void)word;\n    if (!is_ready)",
        ("two_waits",), "a wait is linked without another look under the lock")
    yield Seed(
        "end-relaxed", ENTRY,
        "!rdy_a64_cas_acq_rel(&io->word, &word, rdy_word_end(word))",
        "!rdy_model_cas(&io->word.v, 8, &word, rdy_word_end(word), __ATOMIC_RELAXED)",
        ("end_vs_waiters",), "the end does not publish its error")
    yield Seed(
        "end-error-late", ENTRY,
        "        rdy_a32_store_release(&queue->error, (uint32_t)-error);",
        "        (void)error;",
        ("end_vs_waiters",), "the end is marked without its error")
    yield Seed(
        "due-told-before-copied", ENTRY,
        "        rdy_wakes_add(wakes, &wait->waker);\n",
        "        rdy_a32_store_release(&wait->is_ready, 1);\n"
        "        rdy_wakes_add(wakes, &wait->waker);\n",
        ("two_waits", "wake_cancel_drop"), "a wait is touched after it was told")
    yield Seed(
        "due-told-relaxed", ENTRY,
        "rdy_a32_store_release(&wait->is_ready, 1);", "rdy_a32_store_relaxed(&wait->is_ready, 1);",
        ("replace_waker",), "the wait's result is not published")
    yield Seed(
        "wake-under-lock", ENTRY,
        "    rdy_lock_release(&io->waitq.lock);\n    return rdy_wakes_run(&wakes);",
        "    ready = rdy_wakes_run(&wakes);\n    rdy_lock_release(&io->waitq.lock);\n"
        "    return ready;",
        ("wake_reenters",), "a waker runs with the lock held")
    yield Seed(
        "rewake-unlocked", ENTRY,
        "    if (is_waiting)\n        wait->waker = *waker;\n    rdy_lock_release",
        "    rdy_lock_release(&io->waitq.lock);\n    if (is_waiting)\n"
        "        wait->waker = *waker;\n    rdy_lock_acquire(&io->waitq.lock);\n"
        "    rdy_lock_release",
        ("replace_waker",), "a waker is replaced while it is being copied")
    yield Seed(
        "unlink-unlocked", ENTRY,
        "    if (is_waiting)\n        rdy_list_unlink(&wait->link);\n    rdy_lock_release",
        "    rdy_lock_release(&io->waitq.lock);\n    if (is_waiting)\n"
        "        rdy_list_unlink(&wait->link);\n    rdy_lock_acquire(&io->waitq.lock);\n"
        "    rdy_lock_release",
        ("wake_cancel_drop",), "a wait leaves the list without the lock")


def wait_seeds():
    yield Seed(
        "wait-poll-relaxed", WAIT,
        "    if (rdy_a32_load_acquire(&wait->is_ready) == 0 &&",
        "    if (rdy_a32_load_relaxed(&wait->is_ready) == 0 &&",
        ("replace_waker",), "the wait's result is not acquired")
    yield Seed(
        "cancel-always-quiet", WAIT,
        "        is_quiet = rdy_scheduled_io_unlink(wait->io, wait);",
        "        (void)rdy_scheduled_io_unlink(wait->io, wait);",
        ("wake_cancel_drop",), "a cancel says that no waker will run, and one does")
    yield Seed(
        "cancel-stays-linked", WAIT,
        "        is_quiet = rdy_scheduled_io_unlink(wait->io, wait);",
        "        is_quiet = true;",
        ("wake_cancel_drop",), "a cancelled wait stays in the list")


    yield Seed(
        "wait-looks-too-late", WAIT,
        "    int rc = rdy_word_is_ended(word) ? rdy_scheduled_io_error(wait->io) : 0;\n\n"
        "    wait->state = WAIT_DONE;\n    if (rdy_unlikely(!entry_was_ours(wait)))",
        "    bool was_ours = entry_was_ours(wait);\n    int rc;\n\n"
        "    word = rdy_a64_load_acquire(&wait->io->word);\n"
        "    rc = rdy_word_is_ended(word) ? rdy_scheduled_io_error(wait->io) : 0;\n"
        "    wait->state = WAIT_DONE;\n    if (!was_ours)",
        ("deregister_vs_wait",), "a wait looks at an entry that may be another's by then")
    yield Seed(
        "wait-starts-unasked", WAIT,
        "    if (rdy_unlikely(!entry_was_ours(wait))) {", "    if (false) {",
        ("deregister_vs_new_wait",), "a wait is linked into the list of the slot's next entry")
    yield Seed(
        "slab-keeps-nothing", SLAB,
        "(uint32_t)sizeof(struct free_item) + opts->kept;", "(uint32_t)sizeof(struct free_item);",
        ("deregister_vs_wait",), "a free entry's word is written over")
    yield Seed(
        "init-word-relaxed", ENTRY,
        "    rdy_a64_store_release(&io->word, 0);", "    rdy_a64_store_relaxed(&io->word, 0);",
        ("deregister_vs_new_wait",), "a new entry's word may be seen with the old generation")


def park_seeds():
    yield Seed(
        "park-ignores-notice", DRIVER,
        "        rdy_assert(seen == RDY_PARK_NOTIFIED);\n        return 0;",
        "        rdy_assert(seen == RDY_PARK_NOTIFIED);\n        return timeout_ns;",
        ("park_unpark",), "the driver sleeps over an unpark that came before")
    yield Seed(
        "unpark-not-atomic", DRIVER,
        "    was = rdy_a32_swap_seq_cst(&driver->park, RDY_PARK_NOTIFIED);",
        "    was = rdy_a32_load_seq_cst(&driver->park);\n"
        "    rdy_a32_store_release(&driver->park, RDY_PARK_NOTIFIED);",
        ("park_unpark",), "an unpark looks, then writes")
    yield Seed(
        "unpark-relaxed", DRIVER,
        "    was = rdy_a32_swap_seq_cst(&driver->park, RDY_PARK_NOTIFIED);",
        "    was = RDY_ATOMIC_SWAP(&driver->park, uint32_t, RDY_PARK_NOTIFIED, __ATOMIC_RELAXED);",
        ("park_unpark",), "an unpark does not publish what was left before it")
    yield Seed(
        "unpark-coalesces-parked", DRIVER,
        "    if (was == RDY_PARK_PARKED || (", "    if (was == RDY_PARK_NOTIFIED || (",
        ("park_unpark",), "the wrong state saves the system call")
    yield Seed(
        "park-end-relaxed", DRIVER,
        "was_notified = rdy_a32_swap_seq_cst(&driver->park, RDY_PARK_AWAKE) ==",
        "was_notified = RDY_ATOMIC_SWAP(&driver->park, uint32_t, RDY_PARK_AWAKE,"
        " __ATOMIC_RELAXED) ==",
        ("park_unpark",), "the driver does not acquire what an unpark published")
    yield Seed(
        "park-end-forgotten", DRIVER,
        "    if (timeout_ns != 0 || driver->is_embedded)\n        was_notified",
        "    if (driver->is_embedded)\n        was_notified",
        ("park_unpark",), "the state is not put back to awake")
    yield Seed(
        "move-no-wait", DRIVER,
        "    while (rdy_a32_load_seq_cst(&driver->wakers_inside) != 0)",
        "    while (false)",
        ("move_vs_unpark",), "a backend is closed under who wakes it")
    yield Seed(
        "move-watches-the-ended", DISPATCH,
        "    if (rdy_driver_arms_anywhere(driver) && "
        "rdy_word_is_ended(rdy_a64_load_acquire(&io->word)))\n        (void)disarm(driver, io);\n",
        "    (void)driver;\n",
        ("move_vs_deregister",), "an entry that ends while it is armed anew stays watched")
    yield Seed(
        "disarm-reads-arming", REGISTER,
        "disarm(backend, io->fd, rdy_slab_token(&io->head));",
        "disarm(backend, io->fd, rdy_scheduled_io_token(io));",
        ("move_vs_deregister",), "another thread reads what the driver's thread changes")
    yield Seed(
        "wake-counts-late", DRIVER,
        "    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, 1);\n"
        "    backend = rdy_aptr_load_seq_cst(&driver->backend);",
        "    backend = rdy_aptr_load_seq_cst(&driver->backend);\n"
        "    (void)rdy_a32_add_seq_cst(&driver->wakers_inside, 1);",
        ("move_vs_unpark",), "who wakes takes the backend before counting itself in")
    yield Seed(
        "wake-backend-acquire", DRIVER,
        "    backend = rdy_aptr_load_seq_cst(&driver->backend);",
        "    backend = rdy_aptr_load_acquire(&driver->backend);",
        ("move_vs_unpark",), "who wakes may still see the backend that was left")


def inbox_seeds():
    yield Seed(
        "inbox-twice", REGISTER,
        "    if (rdy_a32_or_acq_rel(&io->requests, request) != 0)\n        return;\n",
        "    (void)rdy_a32_or_acq_rel(&io->requests, request);\n",
        ("register_close",), "an entry stands in the inbox twice")
    yield Seed(
        "inbox-push-not-atomic", REGISTER,
        "    } while (!rdy_aptr_cas_seq_cst(&driver->inbox, &head, io));",
        "        rdy_aptr_store_release(&driver->inbox, io);\n    } while (false);",
        ("two_registers",), "a push writes over another's")
    yield Seed(
        "inbox-drain-not-atomic", DISPATCH,
        "    io = rdy_aptr_swap_acq_rel(&driver->inbox, NULL);",
        "    io = rdy_aptr_load_acquire(&driver->inbox);\n"
        "    rdy_aptr_store_release(&driver->inbox, NULL);",
        ("two_registers",), "a drain throws away what came in between")
    yield Seed(
        "inbox-push-relaxed", REGISTER,
        "!rdy_aptr_cas_seq_cst(&driver->inbox, &head, io)",
        "!rdy_model_cas(&driver->inbox.v, 8, (uintptr_t *)&head, (uintptr_t)io, __ATOMIC_RELAXED)",
        ("register_vs_turn_ring",), "a push does not publish the entry's link")
    yield Seed(
        "inbox-next-late", DISPATCH,
        "        struct rdy_scheduled_io *next = io->inbox_next;\n\n        carry_out(driver, io);",
        "        struct rdy_scheduled_io *next;\n\n        carry_out(driver, io);\n"
        "        next = io->inbox_next;",
        ("register_close",),
        "the inbox goes on from an entry that was given back")
    yield Seed(
        "register-silent", REGISTER,
        "        rdy_driver_request(io, RDY_REQUEST_ARM);\n        rdy_driver_unpark(driver);",
        "        rdy_driver_request(io, RDY_REQUEST_ARM);",
        ("register_vs_turn_ring",), "a registration from elsewhere wakes nobody")


def registration_seeds():
    yield Seed(
        "publish-forgotten", REGISTER,
        "            publish(*out);", "            (void)publish;",
        ("register_vs_turn_epoll",), "an entry reaches the driver by the kernel alone")
    yield Seed(
        "fact-not-acquired", DISPATCH,
        "    (void)rdy_a32_load_acquire(&io->head.generation);", "    (void)0;",
        ("register_vs_turn_epoll",), "the driver does not acquire a new entry")
    yield Seed(
        "claim-unlocked", REGISTER,
        "    if (is_ours)\n        io->is_claimed = true;\n    rdy_lock_release(&set->lock);",
        "    rdy_lock_release(&set->lock);\n    if (is_ours)\n        io->is_claimed = true;",
        ("close_twice",), "two copies of a registration are both taken for the first")
    yield Seed(
        "rearm-lost", DISPATCH,
        "    rdy_driver_arm(driver, io);\n}\n\n/* A fact for an entry whose",
        "}\n\n/* A fact for an entry whose",
        ("rearm",), "a poll that the kernel ended is not armed again")
    yield Seed(
        "busy-arm-lost", DISPATCH,
        "        put_off(driver, io, RDY_REQUEST_ARM);\n    else",
        "        (void)0;\n    else",
        ("arm_later",), "an arm for which there was no room is forgotten")
    yield Seed(
        "give-before-last-fact", DISPATCH,
        "    if (io->kernel == RDY_KERNEL_IDLE || disarm(driver, io))",
        "    bool is_off = disarm(driver, io);\n    io->kernel = RDY_KERNEL_IDLE;\n"
        "    if (is_off || io->kernel == RDY_KERNEL_IDLE)",
        ("close_twice",),
        "a slot is given back, and its file closed, before the kernel let go")
    yield Seed(
        "end-not-refusing", DISPATCH,
        "    driver->set.ended = error;", "    (void)error;",
        ("shutdown_vs_register_ring",), "a registration after the end is accepted")
    yield Seed(
        "end-wakes-nobody", DISPATCH,
        "    rdy_scheduled_io_end(io, error);\n"
        "    rdy_a64_bump(&driver->count.waker_calls, rdy_scheduled_io_wake(io, RDY_READY_ALL));",
        "    rdy_scheduled_io_end(io, error);\n    (void)driver;",
        ("shutdown_vs_everything",), "the end tells nobody")


def slab_seeds():
    yield Seed(
        "slab-give-no-generation", SLAB,
        "    (void)generation_add(&item->head, 1);\n    *item_next(slab, item) = chunk->free;",
        "    *item_next(slab, item) = chunk->free;",
        ("slab_stale_token",), "an item that is given back keeps its token")
    yield Seed(
        "slab-find-any", SLAB,
        "    return rdy_a32_load_relaxed(&head->generation) == generation ? head : NULL;",
        "    return rdy_a32_load_relaxed(&head->generation) != 0 ? head : NULL;",
        ("slab_stale_token",), "a lookup does not compare generations")
    yield Seed(
        "slab-group-relaxed", SLAB,
        "    rdy_aptr_store_release(&slab->groups[group], chunks);",
        "    rdy_aptr_store_relaxed(&slab->groups[group], chunks);",
        ("slab_map_vs_find",), "new pages are not published")
    yield Seed(
        "slab-group-unacquired", SLAB,
        "    return rdy_aptr_load_acquire(&slab->groups[index >> GROUP_BITS]);",
        "    return rdy_aptr_load_relaxed(&slab->groups[index >> GROUP_BITS]);",
        ("slab_map_vs_find",), "a lookup does not acquire the pages that it finds")
    yield Seed(
        "slab-pop-keeps", SLAB,
        "    chunk->free = *item_next(slab, item);\n    if (chunk->live++ == 0) {",
        "    if (chunk->live++ == 0) {",
        ("slab_stale_token",), "an item is handed out twice")


def task_seeds():
    yield Seed(
        "wake-skips-queued", TASK,
        "            count_stale(runtime);\n            return;\n        }\n    } while "
        "(!rdy_a32_cas_acq_rel(&task->state, &seen, state_after_wake(seen)));\n\n"
        "    if (seen != RDY_TASK_IDLE) {",
        "            count_stale(runtime);\n            return;\n        }\n"
        "        if (state_after_wake(seen) == seen)\n            return;\n    } while "
        "(!rdy_a32_cas_acq_rel(&task->state, &seen, state_after_wake(seen)));\n\n"
        "    if (seen != RDY_TASK_IDLE) {",
        ("task_wake_vs_poll",), "a wake that finds the task queued only looks")
    yield Seed(
        "poll-not-acquiring", TASK,
        "    was = rdy_a32_swap_acq_rel(&task->state, RDY_TASK_RUNNING);",
        "    was = RDY_ATOMIC_SWAP(&task->state, uint32_t, RDY_TASK_RUNNING, __ATOMIC_RELAXED);",
        ("task_wake_vs_poll",), "a poll does not acquire what its wakers wrote")
    yield Seed(
        "park-over-wake", TASK,
        "    if (rdy_a32_cas_acq_rel(&task->state, &seen, RDY_TASK_IDLE))\n        return;",
        "    seen = rdy_a32_swap_acq_rel(&task->state, RDY_TASK_IDLE);\n"
        "    if (seen != RDY_TASK_ENDED)\n        return;",
        ("task_wake_vs_poll",), "a task that was woken in its poll goes to sleep")
    yield Seed(
        "task-inbox-silent", TASK,
        "    if (!head)\n        rdy_driver_unpark(runtime->driver);",
        "    if (head)\n        rdy_driver_unpark(runtime->driver);",
        ("task_wake_vs_poll",), "the first into the inbox unparks nobody")
    yield Seed(
        "task-inbox-relaxed", TASK,
        "!rdy_aptr_cas_acq_rel(&runtime->shared.inbox, &head, task)",
        "!rdy_model_cas(&runtime->shared.inbox.v, 8, (uintptr_t *)&head, (uintptr_t)task, "
        "__ATOMIC_RELAXED)",
        ("task_wake_vs_poll", "stop_vs_run"), "a push does not publish the task's link")
    yield Seed(
        "wake-here-from-afar", TASK,
        "    else if (rdy_likely(rdy_runtime_current == runtime))", "    else if (runtime)",
        ("task_wake_vs_poll",), "another thread's wake takes the short way")
    yield Seed(
        "seal-no-wait", REMOTE,
        "    while (rdy_a32_load_seq_cst(&runtime->shared.spawners_inside) != 0)",
        "    while (false)",
        ("spawn_vs_end",), "the end does not wait for who is inside a spawn")
    yield Seed(
        "seal-relaxed", REMOTE,
        "    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);",
        "    rdy_a32_store_release(&runtime->shared.has_shut, 1);",
        ("spawn_vs_end",), "the end is marked without the handshake's order")
    yield Seed(
        "spawn-counts-late", REMOTE,
        "rdy_a32_load_seq_cst(&runtime->shared.has_shut) != 0)\n        return -ESHUTDOWN;\n    /*",
        "rdy_a32_load_acquire(&runtime->shared.has_shut) != 0)\n        return -ESHUTDOWN;\n    /*",
        ("spawn_vs_end",), "a spawner may overlook that the runtime has shut")
    yield Seed(
        "arrival-relaxed", REMOTE,
        "!rdy_aptr_cas_acq_rel(&runtime->shared.arrivals, &head, arrival)",
        "!rdy_model_cas(&runtime->shared.arrivals.v, 8, (uintptr_t *)&head, (uintptr_t)arrival, "
        "__ATOMIC_RELAXED)",
        ("spawn_vs_end",), "a push does not publish the arrival")
    yield Seed(
        "arrival-leaks", REMOTE,
        "            arrival_drop(runtime, arrival);\n        }\n        free(arrival);",
        "            arrival_drop(runtime, arrival);\n            continue;\n        }\n"
        "        free(arrival);",
        ("spawn_vs_end",), "an arrival that cannot begin is not freed")
    yield Seed(
        "shutdown-silent", "engine/shutdown.c",
        "    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);\n"
        "    rdy_driver_unpark(runtime->driver);",
        "    rdy_driver_unpark(runtime->driver);\n"
        "    (void)rdy_a32_swap_seq_cst(&runtime->shared.has_shut, 1);",
        ("shutdown_vs_task",), "the runtime is unparked before it is told why")
    yield Seed(
        "stop-early-unpark", "engine/runtime.c",
        "    rdy_a32_store_release(&runtime->shared.is_stopping, 1);\n"
        "    rdy_driver_unpark(runtime->driver);",
        "    rdy_driver_unpark(runtime->driver);\n"
        "    rdy_a32_store_release(&runtime->shared.is_stopping, 1);",
        ("stop_vs_run",), "the runtime is unparked before it is told to stop")


def timer_seeds():
    yield Seed(
        "timer-cancel-linked", WHEEL,
        "    rdy_list_unlink(&timer->link);", "    (void)0;",
        ("timer_cancel_vs_fire", "timer_cancel_each_other"),
        "a cancelled timer stays in its list")
    yield Seed(
        "timer-fires-again", WHEEL,
        "    timer->state = RDY_TIMER_FIRED;", "    (void)0;",
        ("timer_cancel_vs_fire",), "a timer that fired counts as armed")


def lane_seeds():
    yield Seed(
        "lane-never-waits", LANE,
        "    return lane->recv != RDY_RECV_ACTIVE && lane->recv != RDY_RECV_CANCELLING &&\n"
        "           lane->send == RDY_SEND_IDLE;",
        "    return lane->send == RDY_SEND_IDLE;",
        ("op_cancel_vs_completion",), "a slot is given back while an operation runs")
    yield Seed(
        "lane-buffer-leaks", RECV,
        "    if (fact->result < head || (lane->flags & RDY_LANE_LEAVING) || lane->recv_error) {\n"
        "        rdy_block_release(block);\n",
        "    if (fact->result < head || (lane->flags & RDY_LANE_LEAVING) || lane->recv_error) {\n",
        ("op_cancel_vs_completion", "op_close_vs_completion"),
        "what comes for a lane that leaves is not given back")
    yield Seed(
        "lane-leaves-unseen", RECV,
        "        rdy_lane_check_leaving(lane);\n        return 0;", "        return 0;",
        ("op_cancel_vs_completion",), "the last fact of an operation gives no slot back")
    yield Seed(
        "lane-stays-active", RECV,
        "    rdy_recv_let_go(completion, lane);\n    if (lane->recv_error)",
        "    if (lane->recv_error)",
        ("op_cancel_vs_completion",), "an operation that ended counts as running")
    yield Seed(
        "lane-not-stopped", RECV,
        "    if (backend->ops->disarm(backend, io->fd, rdy_scheduled_io_op_token(io, about)) < 0)\n"
        "        return;",
        "    (void)backend;\n    (void)about;",
        ("op_cancel_vs_completion",), "the kernel is not asked to stop")
    yield Seed(
        "give-in-inbox", DISPATCH,
        "    if (rdy_a32_load_relaxed(&io->requests) == 0 && io->kernel == RDY_KERNEL_IDLE &&",
        "    if (io->kernel == RDY_KERNEL_IDLE &&",
        ("op_stop_put_off",),
        "an entry is given back that stands in the inbox")


def seeds():
    return [*lock_seeds(), *word_seeds(), *entry_seeds(), *wait_seeds(), *park_seeds(),
            *inbox_seeds(), *registration_seeds(), *slab_seeds(), *task_seeds(), *timer_seeds(),
            *lane_seeds(), *mutants_lane.seeds(Seed)]
