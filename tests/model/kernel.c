/* SPDX-License-Identifier: MIT */
#include "tests/model/kernel.h"

#include "engine/scheduled_io.h"
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

/* --- files --------------------------------------------------------------------------------- */

void kernel_reset(void)
{
    *kernel = (struct kernel){.now_ns = 1};
    model_name(&kernel->state_word, sizeof(kernel->state_word), "kernel");
}

struct kernel_file *kernel_file_of(int fd)
{
    if (fd < KERNEL_FD || fd >= KERNEL_FD + KERNEL_FILES)
        model_fail("no such descriptor: %d", fd);
    return &kernel->file[fd - KERNEL_FD];
}

void kernel_touch(const char *what)
{
    model_touch(&kernel->state_word, what);
    memory_pass_kernel();
}

int rdy_sys_close(int fd)
{
    struct kernel_file *file = kernel_file_of(fd);

    kernel_touch("close");
    if (!file->is_open)
        model_fail("descriptor %d is closed twice", fd);
    if (file->armed_by != 0 || file->in.token != 0 || file->out.token != 0)
        model_fail("descriptor %d is closed while the kernel watches it", fd);
    file->is_open = false;
    return 0;
}

int rdy_sys_file_kind(int fd, enum rdy_file_kind *kind)
{
    *kind = RDY_FILE_STREAM;
    return kernel_file_of(fd)->is_open ? 0 : -EBADF;
}

bool kernel_is_closed(int fd)
{
    return !kernel_file_of(fd)->is_open;
}

bool kernel_is_watched(int fd)
{
    return kernel_file_of(fd)->armed_by != 0;
}

bool kernel_has_bytes(int fd)
{
    return kernel_file_of(fd)->bytes > 0;
}

void kernel_open_file(int fd)
{
    kernel_file_of(fd)->is_used = true;
    kernel_file_of(fd)->is_open = true;
}

uint32_t kernel_open_files(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KERNEL_FILES; i++)
        count += kernel->file[i].is_open;
    return count;
}

void kernel_kill(int error)
{
    kernel_touch("the backend dies");
    kernel->backend[0].wait_error = error;
}

void kernel_event(int fd, uint32_t events)
{
    kernel_touch("data arrives");
    kernel_file_of(fd)->ready |= events;
    if (events & RDY_EV_IN)
        kernel_file_of(fd)->bytes++;
}

void kernel_end_poll(int fd)
{
    kernel_touch("poll ends");
    kernel_file_of(fd)->is_ended = kernel_file_of(fd)->armed_by != 0;
}

void kernel_pass_time(uint64_t ns)
{
    rdy_assert(kernel->is_timed);
    kernel_touch("time passes");
    kernel->now_ns += ns;
}

/* A step: what is read depends on whether it comes before the time has passed. */
uint64_t rdy_sys_now_ns(void)
{
    struct op op = {
        .kind = OP_TOUCH,
        .at = &kernel->state_word,
        .size = 4,
        .pc = __builtin_return_address(0),
        .what = "look at the clock",
    };

    if (self != 0 && kernel->is_timed)
        (void)fiber_step(&op);
    return kernel->now_ns;
}

ssize_t kernel_read(int fd, void *arg)
{
    struct kernel_file *file = kernel_file_of(fd);

    (void)arg;
    kernel_touch("read");
    if (!file->is_open)
        model_fail("a read of descriptor %d, which is closed", fd);
    if (file->bytes == 0)
        return -EAGAIN;
    file->bytes--;
    return 1;
}

/* --- the backend --------------------------------------------------------------------------- */

static struct kernel_backend *known(struct rdy_backend *backend)
{
    return rdy_container_of(backend, struct kernel_backend, backend);
}

static uint32_t number_of(struct rdy_backend *backend)
{
    return (uint32_t)(known(backend) - kernel->backend) + 1;
}

static int open_with(struct rdy_backend **out, const struct rdy_backend_ops *ops)
{
    struct kernel_backend *made = &kernel->backend[kernel->backends_count];

    kernel_touch("open");
    rdy_assert(kernel->backends_count < KERNEL_BACKENDS);
    kernel->backends_count++;
    made->backend.ops = ops;
    made->is_open = true;
    *out = &made->backend;
    return 0;
}

static int ring_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                     size_t why_len)
{
    (void)opts;
    (void)why;
    (void)why_len;
    return open_with(out, &kernel_ring_ops);
}

static int completing_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                           size_t why_len)
{
    (void)opts;
    (void)why;
    (void)why_len;
    return open_with(out, &kernel_completing_ops);
}

static int epoll_open(struct rdy_backend **out, const struct rdy_backend_opts *opts, char *why,
                      size_t why_len)
{
    (void)opts;
    (void)why;
    (void)why_len;
    return open_with(out, &kernel_epoll_ops);
}

static void check_open(struct rdy_backend *backend, const char *what)
{
    if (!known(backend)->is_open)
        model_fail("%s of a backend that was closed", what);
}

static void check_owner(const char *what)
{
    if (self > KERNEL_SETUP_FIBER)
        model_fail("%s of a backend on a thread that is not its own", what);
}

static void kernel_close(struct rdy_backend *backend)
{
    kernel_touch("backend close");
    check_open(backend, "a close");
    known(backend)->is_open = false;
    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        if (kernel->file[i].armed_by == number_of(backend))
            kernel->file[i].armed_by = 0;
        if (known(backend)->backend.ops == &kernel_completing_ops)
            kernel_ops_end(&kernel->file[i]);
    }
}

/* The file's present state is news to a new watch. */
static int kernel_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    struct kernel_file *file = kernel_file_of(fd);

    (void)events;
    kernel_touch("arm");
    check_open(backend, "an arm");
    if (!file->is_open)
        return -EBADF;
    if (file->armed_by == number_of(backend))
        return -EEXIST;
    if (kernel->arm_busy > 0) {
        kernel->arm_busy--;
        return -EBUSY;
    }
    file->armed_by = number_of(backend);
    file->token = token;
    file->is_cancelled = false;
    file->is_ended = false;
    file->ready = file->bytes > 0 || file->backlog > 0 ? RDY_EV_IN : 0;
    file->ready |= kernel_out_state(file);
    return 0;
}

static int ring_arm(struct rdy_backend *backend, int fd, uint64_t token, uint32_t events)
{
    check_owner("an arm");
    return kernel_arm(backend, fd, token, events);
}

static bool is_watched(struct rdy_backend *backend, int fd, uint64_t token)
{
    return kernel_file_of(fd)->armed_by == number_of(backend) && kernel_file_of(fd)->token == token;
}

static int ring_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    check_owner("a disarm");
    kernel_touch("disarm");
    check_open(backend, "a disarm");
    if (rdy_token_about(token) != RDY_ABOUT_WATCH)
        return kernel_ops_disarm(fd, token);
    if (!is_watched(backend, fd, token))
        return -ENOENT;
    kernel_file_of(fd)->is_cancelled = true;
    return 0;
}

static int epoll_disarm(struct rdy_backend *backend, int fd, uint64_t token)
{
    kernel_touch("disarm");
    check_open(backend, "a disarm");
    /* By the descriptor; the token is for a look whether it is the caller's. */
    if (!is_watched(backend, fd, kernel_file_of(fd)->token))
        return -ENOENT;
    if (((kernel_file_of(fd)->token ^ token) & RDY_TOKEN_SLAB) != 0)
        model_fail("a disarm of another's watch");
    kernel_file_of(fd)->armed_by = 0;
    return RDY_DISARMED;
}

static bool has_fact(const struct kernel_backend *backend, const struct kernel_file *file)
{
    if (file->armed_by != (uint32_t)(backend - kernel->backend) + 1)
        return false;
    return file->ready != 0 || file->is_cancelled || file->is_ended;
}

static bool has_something(const void *arg)
{
    const struct kernel_backend *backend = arg;

    if (backend->wakes > 0 || backend->wait_error != 0 || kernel->now_ns >= backend->until_ns)
        return true;
    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        if (has_fact(backend, &kernel->file[i]) || kernel_ops_has_fact(&kernel->file[i]))
            return true;
    }
    return false;
}

/* A poll that ended lets go of its file with its last fact. */
static void tell(struct kernel_file *file, struct rdy_fact *fact)
{
    *fact = (struct rdy_fact){.token = file->token, .events = file->ready};
    file->ready = 0;
    if (file->is_cancelled || file->is_ended) {
        fact->flags = RDY_FACT_LAST;
        fact->result = file->is_cancelled ? -ECANCELED : 0;
        file->armed_by = 0;
    }
}

/* Tells what there is. */
static uint32_t tell_all(struct kernel_backend *backend, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        struct kernel_file *file = &kernel->file[i];

        if (count < facts_max && has_fact(backend, file))
            tell(file, &facts[count++]);
        count += kernel_ops_tell(file, &facts[count], facts_max - count);
    }
    return count;
}

/* A filter that came late refuses calls; one that is under way goes on. */
static bool is_refusal(int error)
{
    return error == -EPERM;
}

static int kernel_wait(struct rdy_backend *backend, int64_t timeout_ns, struct rdy_fact *facts,
                       uint32_t facts_max)
{
    struct kernel_backend *waited = known(backend);
    struct model_wait wait = {
        .object = &kernel->state_word,
        .is_ready = has_something,
        .is_due = kernel->is_due,
        .arg = waited,
        .what = "the kernel",
    };
    bool has_entered = kernel_ops_wants_submit();

    check_owner("a wait");
    if (has_entered) {
        kernel_touch("submit");
        if (waited->wait_error == 0 && kernel->submit_busy > 0) {
            kernel->submit_busy--;
            if (model_choose(2) == 1)
                kernel_ops_submit(); /* and has not said what became of it */
            backend->is_settled = false;
            return 0;
        }
        if (waited->wait_error != 0)
            return waited->wait_error;
        kernel_ops_submit();
    }
    if (timeout_ns <= RDY_NS_PER_MS)
        waited->until_ns = timeout_ns < 0 ? UINT64_MAX : 0;
    else
        waited->until_ns = kernel->now_ns + (uint64_t)timeout_ns;
    model_wait(&wait);
    memory_pass_kernel();
    check_open(backend, "a wait");
    waited->wakes = 0;
    if (waited->wait_error != 0 && !(has_entered && is_refusal(waited->wait_error)))
        return waited->wait_error;
    backend->is_settled = true;
    return (int)tell_all(waited, facts, facts_max);
}

static uint32_t kernel_salvage(struct rdy_backend *backend, struct rdy_fact *facts,
                               uint32_t facts_max)
{
    kernel_touch("salvage");
    if (!kernel->ops.is_losing)
        return tell_all(known(backend), facts, facts_max);
    for (uint32_t i = 0; i < KERNEL_FILES; i++)
        backend->has_lost = backend->has_lost || kernel_ops_has_fact(&kernel->file[i]);
    return 0;
}

static void kernel_wake(struct rdy_backend *backend)
{
    kernel_touch("wake");
    check_open(backend, "a wake");
    known(backend)->wakes++;
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

const struct rdy_backend_ops kernel_completing_ops = {
    .name = "completing",
    .capabilities = RDY_BACKEND_COMPLETES,
    .open = completing_open,
    .close = kernel_close,
    .arm = ring_arm,
    .disarm = ring_disarm,
    .wait = kernel_wait,
    .wake = kernel_wake,
    .fd = kernel_fd,
    .lend = kernel_ops_lend,
    .refill = kernel_ops_refill,
    .recv = kernel_ops_recv,
    .accept = kernel_ops_accept,
    .send = kernel_out_send,
    .connect = kernel_out_connect,
    .salvage = kernel_salvage,
    .messages = kernel_ops_messages,
    .close_file = kernel_ops_close_file,
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
