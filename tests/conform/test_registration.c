/* SPDX-License-Identifier: MIT */
/*
 * The life of a registration, on every backend: given back early, late, from within a waker, from
 * another thread, after the shutdown. Each stage ends by seeing that no slot and no descriptor was
 * left, so the tests themselves need not say so.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "engine/driver.h"
#include "tests/support/stage.h"

#define RW           (RDY_INTEREST_READ | RDY_INTEREST_WRITE)
#define TURNS_MAX    200
#define MANY         1000
#define RACES_MAX    2000
#define RACE_OUTCOME 2

static int poll_read(struct rdy_registration *reg, struct bell *bell)
{
    struct rdy_waker waker = bell_waker(bell);
    struct rdy_event event;

    return rdy_poll_readiness(reg, RDY_DIRECTION_READ, &waker, &event);
}

static void turn_until_rung(struct stage *stage, const struct bell *bell)
{
    for (int i = 0; i < TURNS_MAX && bell_rings(bell) == 0; i++)
        (void)stage_turn(stage, 10 * RDY_NS_PER_MS);
    assert_int_equal(bell_rings(bell), 1);
}

/* --- what is refused --- */

static void bad_interest_is_refused(struct stage *stage)
{
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(rdy_register(stage->driver, fd, 0, &reg), -EINVAL);
    assert_int_equal(rdy_register(stage->driver, fd, RDY_INTEREST_ALL + 1, &reg), -EINVAL);

    close(fd);
}

static void failed_registration_writes_nothing(struct stage *stage)
{
    struct rdy_registration reg = {.serial = 42};

    check(rdy_register(stage->driver, 1 << 20, RW, &reg) < 0);

    assert_null(reg.driver);
    assert_int_equal(reg.serial, 42);
}

static void what_was_never_registered_cannot_be_released(struct stage *stage)
{
    struct rdy_registration reg = {0};

    (void)stage;
    assert_int_equal(rdy_deregister(&reg), -EBADF);
    assert_int_equal(rdy_close(&reg), -EBADF);
}

static void released_twice_is_refused_the_second_time(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RW);
    struct rdy_registration alias = reg;

    assert_int_equal(rdy_deregister(&reg), 0);
    assert_null(reg.io);
    assert_int_equal(rdy_deregister(&reg), -EBADF);
    assert_int_equal(rdy_close(&alias), -EBADF);

    event_write(fd); /* not closed by the alias */
    close(fd);
}

/* The slot has a new tenant; the copy still names the old one. */
static void stale_copy_does_not_release_the_slots_next_registration(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct rdy_registration stale = reg;
    struct bell bell = {0};

    assert_int_equal(rdy_deregister(&reg), 0);
    stage_settle(stage);
    reg = stage_register(stage, fd, RDY_INTEREST_READ);
    assert_ptr_equal(reg.io, stale.io);

    assert_int_equal(rdy_close(&stale), -EBADF);

    assert_int_equal(stage_stats(stage).stale_tokens, 1);
    assert_int_equal(poll_read(&reg, &bell), RDY_PENDING);
    event_write(fd);
    turn_until_rung(stage, &bell);
    rdy_close(&reg);
}

/* --- releasing --- */

static void descriptor_can_be_registered_again_at_once(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);

    stage_settle(stage);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rdy_deregister(&reg), 0);
        reg = stage_register(stage, fd, RDY_INTEREST_READ);
    }
    event_write(fd);

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    rdy_close(&reg);
}

/* The cancel may still be on its way when the number is another file's. */
static void number_used_again_belongs_to_the_new_file(struct stage *stage)
{
    struct pair old = pair_unix();
    struct rdy_registration reg = stage_register(stage, old.ours, RDY_INTEREST_READ);
    struct pair fresh;
    int number = old.ours;

    stage_settle(stage);
    assert_int_equal(rdy_deregister(&reg), 0);
    close(old.ours);
    fresh = pair_unix();
    if (fresh.ours != number) {
        assert_int_equal(dup3(fresh.ours, number, O_CLOEXEC), number);
        close(fresh.ours);
        fresh.ours = number;
    }
    reg = stage_register(stage, number, RDY_INTEREST_READ);
    stage_expect(stage, &reg, RDY_INTEREST_READ, 0);
    put(fresh.peer, "for the new one");

    stage_expect(stage, &reg, RDY_INTEREST_READ, RDY_READABLE);
    rdy_deregister(&reg);
    close_pair(&fresh);
    close(old.peer);
}

static void release_forgets_the_wakers_in_the_slots(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct bell bell = {0};

    stage_settle(stage);
    assert_int_equal(poll_read(&reg, &bell), RDY_PENDING);
    event_write(fd);
    assert_int_equal(rdy_deregister(&reg), 0);
    stage_settle(stage);

    assert_int_equal(bell_rings(&bell), 0);
    close(fd);
}

/* The slot is given back and poisoned before the waiter looks: it must not look there. */
static void waiter_of_a_released_entry_is_cancelled_and_looks_nowhere(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct bell bell = {0};
    struct rdy_waker waker = bell_waker(&bell);
    struct rdy_readiness wait;
    struct rdy_readiness cancelled;
    struct rdy_event event;

    rdy_readiness_init(&wait, &reg, RDY_INTEREST_READ);
    rdy_readiness_init(&cancelled, &reg, RDY_INTEREST_READ);
    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), RDY_PENDING);
    assert_int_equal(rdy_readiness_poll(&cancelled, &waker, &event), RDY_PENDING);
    assert_int_equal(rdy_close(&reg), 0);
    assert_int_equal(bell_rings(&bell), 2);
    stage_settle(stage);
    assert_int_equal(stage_stats(stage).entries_live, 0);

    assert_int_equal(rdy_readiness_poll(&wait, &waker, &event), -ECANCELED);
    check(!rdy_readiness_cancel(&cancelled));
}

static void release_all_at_once_leaves_nothing(struct stage *stage)
{
    static struct rdy_registration reg[MANY];
    uint32_t count = stage->on & ON_KERNEL ? MANY : 100;

    for (uint32_t i = 0; i < count; i++)
        reg[i] = stage_register(stage, event_fd(), RW);
    stage_settle(stage);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(rdy_close(&reg[i]), 0);
    stage_empty(stage);

    assert_int_equal(stage_stats(stage).registered, count);
    assert_int_equal(stage_stats(stage).deregistered, count);
}

/* --- from within a waker --- */

static void release_reg(void *arg)
{
    assert_int_equal(rdy_deregister(arg), 0);
}

static void waker_may_release_its_own_registration(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct bell bell = {.then = release_reg, .arg = &reg};

    assert_int_equal(poll_read(&reg, &bell), RDY_PENDING);
    event_write(fd);
    turn_until_rung(stage, &bell);
    stage_settle(stage);

    assert_int_equal(stage_stats(stage).entries_live, 0);
    close(fd);
}

struct duel {
    struct rdy_registration reg[2];
    struct bell bell[2];
};

static void release_the_second(void *arg)
{
    struct duel *duel = arg;

    assert_int_equal(rdy_deregister(&duel->reg[1]), 0);
}

static void release_the_first(void *arg)
{
    struct duel *duel = arg;

    assert_int_equal(rdy_deregister(&duel->reg[0]), 0);
}

/* Both are ready in one batch; whoever is woken first releases the other, who must hear nothing. */
static void entry_released_earlier_in_the_batch_hears_nothing(struct stage *stage)
{
    int fd[2] = {event_fd(), event_fd()};
    struct duel duel = {
        .bell = {{.then = release_the_second, .arg = &duel},
                 {.then = release_the_first, .arg = &duel}},
    };

    for (int i = 0; i < 2; i++)
        duel.reg[i] = stage_register(stage, fd[i], RDY_INTEREST_READ);
    stage_settle(stage);
    for (int i = 0; i < 2; i++)
        assert_int_equal(poll_read(&duel.reg[i], &duel.bell[i]), RDY_PENDING);
    for (int i = 0; i < 2; i++)
        event_write(fd[i]);
    for (int i = 0; i < TURNS_MAX && bell_rings(&duel.bell[0]) + bell_rings(&duel.bell[1]) == 0;
         i++)
        (void)stage_turn(stage, 10 * RDY_NS_PER_MS);
    stage_settle(stage);

    assert_int_equal(bell_rings(&duel.bell[0]) + bell_rings(&duel.bell[1]), 1);
    rdy_deregister(&duel.reg[0]);
    rdy_deregister(&duel.reg[1]);
    for (int i = 0; i < 2; i++)
        close(fd[i]);
}

/* --- from another thread --- */

static void *close_elsewhere(void *arg)
{
    struct rdy_registration *reg = arg;

    while (rdy_a32_load_acquire(&reg->driver->park) != RDY_PARK_PARKED)
        rdy_sys_cpu_relax();
    check(rdy_close(reg) == 0);
    return NULL;
}

/* The driver sleeps; nothing but the close itself can bring the peer its end of stream. */
static void close_by_another_thread_reaches_the_peer(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RDY_INTEREST_READ);
    struct pollfd peer = {.fd = pair.peer, .events = POLLRDHUP};
    pthread_t thread;

    stage_settle(stage);
    check(pthread_create(&thread, NULL, close_elsewhere, &reg) == 0);
    for (int i = 0; i < TURNS_MAX && poll(&peer, 1, 0) == 0; i++)
        (void)stage_turn(stage, 50 * RDY_NS_PER_MS);
    pthread_join(thread, NULL);

    assert_int_equal(poll(&peer, 1, 0), 1);
    close(pair.peer);
}

/* --- shutdown --- */

static void registration_after_shutdown_is_refused(struct stage *stage)
{
    struct rdy_registration reg;
    int fd = event_fd();

    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);
    assert_int_equal(rdy_register(stage->driver, fd, RW, &reg), -ESHUTDOWN);
    assert_int_equal(rdy_driver_turn(stage->driver, -1), -ESHUTDOWN);

    close(fd);
}

static void shutdown_twice_wakes_once(struct stage *stage)
{
    int fd = event_fd();
    struct rdy_registration reg = stage_register(stage, fd, RDY_INTEREST_READ);
    struct bell bell = {0};

    assert_int_equal(poll_read(&reg, &bell), RDY_PENDING);
    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);
    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);

    assert_int_equal(bell_rings(&bell), 1);
    assert_int_equal(poll_read(&reg, &bell), -ESHUTDOWN);
    rdy_close(&reg);
    assert_int_equal(rdy_driver_turn(stage->driver, 0), -ESHUTDOWN);
}

/* After the shutdown no turn is needed for the kernel to let go: it did so in the shutdown. */
static void close_after_shutdown_reaches_the_peer(struct stage *stage)
{
    struct pair pair = pair_tcp();
    struct rdy_registration reg = stage_register(stage, pair.ours, RW);
    struct pollfd peer = {.fd = pair.peer, .events = POLLRDHUP};

    stage_settle(stage);
    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);
    assert_int_equal(rdy_close(&reg), 0);
    assert_int_equal(rdy_driver_turn(stage->driver, 0), -ESHUTDOWN);

    assert_int_equal(poll(&peer, 1, 1000), 1);
    close(pair.peer);
}

static void driver_closed_with_everything_outstanding_leaves_nothing(struct stage *stage)
{
    struct pair pair[8];
    struct rdy_registration reg[8];
    struct bell bell = {0};

    for (int i = 0; i < 8; i++) {
        pair[i] = pair_unix();
        reg[i] = stage_register(stage, pair[i].ours, RDY_INTEREST_READ);
        assert_int_equal(poll_read(&reg[i], &bell), RDY_PENDING);
        if (i == 3)
            stage_settle(stage); /* half of them armed, half only queued */
    }
    assert_int_equal(rdy_close(&reg[0]), 0);
    pair[0].ours = -1;
    assert_int_equal(rdy_deregister(&reg[1]), 0);

    rdy_driver_close(stage->driver);
    stage->driver = NULL;

    assert_int_equal(bell_rings(&bell), 6);
    for (int i = 0; i < 8; i++)
        close_pair(&pair[i]);
}

struct race {
    struct rdy_driver *driver;
    struct rdy_registration reg;
    struct bell bell;
    int fd;
    int result;
    struct rdy_a32 is_started;
};

static void *register_in_a_race(void *arg)
{
    struct race *race = arg;

    rdy_a32_store_release(&race->is_started, 1);
    race->result = rdy_register(race->driver, race->fd, RDY_INTEREST_READ, &race->reg);
    if (race->result == 0)
        race->result = poll_read(&race->reg, &race->bell) == RDY_PENDING ? RDY_PENDING : 0;
    return NULL;
}

/* Registered or not: whoever waits must be woken. Returns whether the registration came first. */
static bool race_once(struct stage *stage, uint32_t head_start)
{
    struct race race = {.driver = stage->driver, .fd = event_fd()};
    pthread_t thread;
    bool is_registered;

    check(pthread_create(&thread, NULL, register_in_a_race, &race) == 0);
    while (rdy_a32_load_acquire(&race.is_started) == 0)
        rdy_sys_cpu_relax();
    for (uint32_t i = 0; i < head_start; i++)
        rdy_sys_cpu_relax();
    assert_int_equal(rdy_driver_shutdown(stage->driver), 0);
    pthread_join(thread, NULL);

    is_registered = race.result != -ESHUTDOWN;
    if (race.result == RDY_PENDING)
        assert_int_equal(bell_rings(&race.bell), 1);
    if (is_registered) {
        assert_int_equal(poll_read(&race.reg, &race.bell), -ESHUTDOWN);
        assert_int_equal(rdy_deregister(&race.reg), 0);
    }
    close(race.fd);
    return is_registered;
}

static void registration_racing_shutdown_fails_or_is_woken(struct stage *stage)
{
    uint32_t seen[RACE_OUTCOME] = {0};

    for (uint32_t i = 0; i < RACES_MAX && (seen[0] < 20 || seen[1] < 20); i++) {
        seen[race_once(stage, (i % 64) * 50) ? 1 : 0]++;
        stage_reopen(stage);
    }

    check(seen[0] > 0);
    check(seen[1] > 0);
}

int main(void)
{
    static const struct scenario rows[] = {
        SCENARIO(bad_interest_is_refused, ON_ALL),
        SCENARIO(failed_registration_writes_nothing, ON_ALL),
        SCENARIO(what_was_never_registered_cannot_be_released, ON_ALL),
        SCENARIO(released_twice_is_refused_the_second_time, ON_ALL),
        SCENARIO(stale_copy_does_not_release_the_slots_next_registration, ON_ALL),
        SCENARIO(descriptor_can_be_registered_again_at_once, ON_ALL),
        SCENARIO(number_used_again_belongs_to_the_new_file, ON_ALL),
        SCENARIO(release_forgets_the_wakers_in_the_slots, ON_ALL),
        SCENARIO(waiter_of_a_released_entry_is_cancelled_and_looks_nowhere, ON_ALL),
        SCENARIO(release_all_at_once_leaves_nothing, ON_ALL),
        SCENARIO(waker_may_release_its_own_registration, ON_ALL),
        SCENARIO(entry_released_earlier_in_the_batch_hears_nothing, ON_ALL),
        SCENARIO(close_by_another_thread_reaches_the_peer, ON_ALL),
        SCENARIO(registration_after_shutdown_is_refused, ON_ALL),
        SCENARIO(shutdown_twice_wakes_once, ON_ALL),
        SCENARIO(close_after_shutdown_reaches_the_peer, ON_ALL),
        SCENARIO(driver_closed_with_everything_outstanding_leaves_nothing, ON_ALL),
        SCENARIO(registration_racing_shutdown_fails_or_is_woken, ON_ALL),
    };

    return scenarios_run("registration", rows, sizeof(rows) / sizeof(rows[0]));
}
