# SPDX-License-Identifier: MIT
"""The seeded bugs of mutants.py: what is replaced, by what, and which targets must notice."""
from collections import namedtuple

Seed = namedtuple("Seed", "name path old new targets why only", defaults=(None,))

ENTRY = "engine/scheduled_io.c"
WAIT = "engine/readiness.c"
WORD = "engine/word.h"
LOCK = "engine/lock.h"

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
        "    if (!rdy_word_is_ended(word))\n        queue->error = error;\n",
        "    bool is_first = !rdy_word_is_ended(word);\n",
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
        "        rdy_lock_release(&queue->lock);\n        return rdy_wakes_run(wakes);",
        "        uint32_t n = rdy_wakes_run(wakes);\n        rdy_lock_release(&queue->lock);\n"
        "        return n;",
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


def seeds():
    return [*lock_seeds(), *word_seeds(), *entry_seeds(), *wait_seeds()]
