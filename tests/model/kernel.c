/* SPDX-License-Identifier: MIT */
#include "tests/model/kernel.h"

#include "engine/sys.h"
#include "tests/model/checker.h"

struct kernel kernel[1];

/* --- waits --------------------------------------------------------------------------------- */

void model_wait(const struct model_wait *wait)
{
    struct op op = {
        .kind = OP_WAIT,
        .writes = true, /* what it waited for may be taken: two who wait do not commute */
        .at = wait->object,
        .size = 4,
        .pc = __builtin_return_address(0),
        .is_ready = wait->is_ready,
        .is_due = wait->is_due,
        .arg = wait->arg,
        .what = wait->what,
    };

    if (self != 0)
        (void)fiber_step(&op);
    else if (wait->is_ready && !wait->is_ready(wait->arg))
        model_fail("a wait outside of fibers, for %s", wait->what);
}

void model_touch(const void *object, const char *what)
{
    struct op op = {
        .kind = OP_TOUCH,
        .writes = true,
        .at = object,
        .size = 4,
        .pc = __builtin_return_address(0),
        .what = what,
    };

    if (self != 0)
        (void)fiber_step(&op);
}

static void alarm_ring(void *arg, uint64_t data)
{
    struct model_alarm *alarm = arg;

    (void)data;
    (void)rdy_a32_add_seq_cst(&alarm->rings, 1);
}

struct rdy_waker model_alarm_waker(struct model_alarm *alarm)
{
    return (struct rdy_waker){.fn = alarm_ring, .arg = alarm};
}

static bool has_rung(const void *arg)
{
    const struct model_alarm *alarm = arg;

    return !memory_equals(&alarm->rings.v, sizeof(alarm->rings.v), 0);
}

static bool is_alarm_due(const void *arg)
{
    const struct model_alarm *alarm = arg;

    return alarm->is_due && alarm->is_due(alarm->arg);
}

void model_alarm_sleep(struct model_alarm *alarm)
{
    struct model_wait wait = {
        .object = &alarm->rings,
        .is_ready = has_rung,
        .is_due = is_alarm_due,
        .arg = alarm,
        .what = "its waker",
    };

    model_wait(&wait);
    alarm->total += rdy_a32_swap_acq_rel(&alarm->rings, 0);
}

bool model_alarm_is_silent(const struct model_alarm *alarm)
{
    return !has_rung(alarm);
}

void model_unwatched_add(uint32_t *count, uint32_t n)
{
    *count += n;
}

bool model_unwatched_take(uint32_t *count)
{
    if (*count == 0)
        return false;
    --*count;
    return true;
}

/* --- files ---------------------------------------------------------------------------------- */

static struct kernel_file *file_of(int fd)
{
    if (fd < KERNEL_FD || fd >= KERNEL_FD + KERNEL_FILES)
        model_fail("no such descriptor: %d", fd);
    return &kernel->file[fd - KERNEL_FD];
}

int rdy_sys_close(int fd)
{
    struct kernel_file *file = file_of(fd);

    model_touch(&kernel->state_word, "close");
    if (!file->is_open)
        model_fail("descriptor %d is closed twice", fd);
    file->is_open = false;
    return 0;
}

int rdy_sys_file_kind(int fd, enum rdy_file_kind *kind)
{
    *kind = RDY_FILE_STREAM;
    return file_of(fd)->is_open ? 0 : -EBADF;
}

bool kernel_is_closed(int fd)
{
    return !file_of(fd)->is_open;
}

void kernel_open_file(int fd)
{
    file_of(fd)->is_open = true;
}

void kernel_event(int fd, uint32_t events)
{
    model_touch(&kernel->state_word, "event");
    file_of(fd)->ready |= events;
}

/* --- the backend --------------------------------------------------------------------------- */

static int kernel_open(struct rdy_backend **out, const struct rdy_backend_ops *ops)
{
    *kernel = (struct kernel){.backend.ops = ops};
    model_name(&kernel->state_word, sizeof(kernel->state_word), "kernel");
    kernel->is_open = true;
    *out = &kernel->backend;
    return 0;
}

static int ring_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                     size_t why_len)
{
    (void)opts;
    (void)why;
    (void)why_len;
    return kernel_open(out, &kernel_ring_ops);
}

static int epoll_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                      size_t why_len)
{
    (void)opts;
    (void)why;
    (void)why_len;
    return kernel_open(out, &kernel_epoll_ops);
}

static void kernel_close(struct rdy_backend *backend)
{
    rdy_assert(backend == &kernel->backend);
    if (!kernel->is_open)
        model_fail("the backend is closed twice");
    kernel->is_open = false;
}

static void check_alive(const char *what)
{
    if (!kernel->is_open)
        model_fail("%s of a backend that was closed", what);
}

static void check_owner(const char *what)
{
    check_alive(what);
    if (self > 1)
        model_fail("%s of a ring on a thread that is not its own", what);
}

static int kernel_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    struct kernel_file *file = file_of(fd);

    (void)backend;
    (void)events;
    model_touch(&kernel->state_word, "arm");
    if (!file->is_open)
        return -EBADF;
    if (file->is_armed)
        return -EEXIST;
    if (kernel->arm_busy > 0) {
        kernel->arm_busy--;
        return -EBUSY;
    }
    file->is_armed = true;
    file->token = token;
    return 0;
}

static int ring_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    check_owner("an arm");
    return kernel_arm(backend, fd, token, events);
}

static int ring_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct kernel_file *file = file_of(fd);

    (void)backend;
    check_owner("a disarm");
    model_touch(&kernel->state_word, "disarm");
    if (!file->is_armed || file->token != token)
        return -ENOENT;
    file->is_cancelled = true;
    return 0;
}

static int epoll_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    struct kernel_file *file = file_of(fd);

    (void)backend;
    check_alive("a disarm");
    model_touch(&kernel->state_word, "disarm");
    if (!file->is_armed || file->token != token)
        return -ENOENT;
    file->is_armed = false;
    return RDY_DISARMED;
}

static bool has_fact(const struct kernel_file *file)
{
    return file->is_armed && (file->ready != 0 || file->is_cancelled);
}

static bool has_something(const void *arg)
{
    (void)arg;
    if (kernel->wakes > 0 || kernel->wait_error != 0)
        return true;
    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        if (has_fact(&kernel->file[i]))
            return true;
    }
    return false;
}

/* A ring's poll that ended has let go of its file: a last fact. */
static void tell(struct kernel_file *file, struct rdy_fact *fact)
{
    *fact = (struct rdy_fact){.token = file->token, .events = file->ready};
    file->ready = 0;
    if (file->is_cancelled) {
        fact->flags = RDY_FACT_LAST;
        fact->result = -ECANCELED;
        file->is_cancelled = false;
        file->is_armed = false;
    }
}

static int kernel_wait(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                       uint32_t facts_max)
{
    struct model_wait wait = {
        .object = &kernel->state_word,
        .is_ready = timeout_ns < 0 ? has_something : NULL,
        .what = "the kernel",
    };
    uint32_t count = 0;

    (void)backend;
    check_owner("a wait");
    model_wait(&wait);
    kernel->waits++;
    kernel->wakes = 0;
    if (kernel->wait_error != 0)
        return kernel->wait_error;
    for (uint32_t i = 0; i < KERNEL_FILES && count < facts_max; i++) {
        if (has_fact(&kernel->file[i]))
            tell(&kernel->file[i], &facts[count++]);
    }
    return (int)count;
}

static void kernel_wake(struct rdy_backend *backend)
{
    (void)backend;
    model_touch(&kernel->state_word, "wake");
    check_alive("a wake");
    kernel->wakes++;
}

static int kernel_fd(const struct rdy_backend *backend)
{
    (void)backend;
    return -EINVAL;
}

const struct rdy_backend_ops kernel_ring_ops = {
    .name = "ring",
    .open = ring_open,
    .close = kernel_close,
    .arm = ring_arm,
    .disarm = ring_disarm,
    .wait = kernel_wait,
    .wake = kernel_wake,
    .fd = kernel_fd,
};

const struct rdy_backend_ops kernel_epoll_ops = {
    .name = "epoll",
    .capabilities = RDY_BACKEND_ANY_THREAD | RDY_BACKEND_WHOLE_STATE,
    .open = epoll_open,
    .close = kernel_close,
    .arm = kernel_arm,
    .disarm = epoll_disarm,
    .wait = kernel_wait,
    .wake = kernel_wake,
    .fd = kernel_fd,
};

const struct rdy_backend_ops *const rdy_backend_epoll = &kernel_epoll_ops;
const struct rdy_backend_ops *const rdy_backend_uring = &kernel_ring_ops;
