/* SPDX-License-Identifier: MIT */
/*
 * The operations of the model's ring, and of them what comes in: receives into buffers that were
 * lent, and accepts.
 *
 * Such an operation lasts until it is cancelled, finds no buffer, or fails; each fact takes one
 * byte or connection. What arrives while the question to stop is under way may still come, with the
 * last fact or before it. The memory of a buffer is the kernel's from its refill to its fact.
 */
#include "engine/driver.h"
#include "tests/model/checker.h"
#include "tests/model/kernel.h"

int kernel_ops_lend(struct rdy_backend *backend, void *memory, uint32_t count, uint32_t size)
{
    (void)backend;
    rdy_assert(count <= 32);
    kernel->ops.memory = memory;
    kernel->ops.count = count;
    kernel->ops.size = size;
    return 0;
}

void kernel_ops_refill(struct rdy_backend *backend, uint32_t buffer)
{
    (void)backend;
    if (buffer >= kernel->ops.count || (kernel->ops.free & (1u << buffer)))
        model_fail("buffer %u is given back twice", buffer);
    kernel->ops.free |= 1u << buffer;
}

static int begin(int fd, uint64_t token)
{
    struct kernel_file *file = kernel_file_of(fd);

    if (!file->is_open || file->is_closing)
        return -EBADF;
    if (file->in.token != 0)
        model_fail("two operations at once that read descriptor %d", fd);
    file->in = (struct kernel_op){.token = token};
    return 0;
}

int kernel_ops_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    (void)backend;
    (void)is_data_there;
    kernel_touch("receive begins");
    return begin(fd, token);
}

int kernel_ops_accept(struct rdy_backend *backend, int fd, uint64_t token)
{
    (void)backend;
    kernel_touch("accept begins");
    return begin(fd, token);
}

/* Datagrams are not modelled. */
int kernel_ops_messages(struct rdy_backend *backend)
{
    (void)backend;
    return -EOPNOTSUPP;
}

/* Without closes_files there is no room: the engine closes by itself, as it must be able to. */
int kernel_ops_close_file(struct rdy_backend *backend, int fd)
{
    struct kernel_file *file = kernel_file_of(fd);

    (void)backend;
    if (!kernel->ops.closes_files)
        return -EBUSY;
    if (!file->is_open || file->is_closing)
        model_fail("descriptor %d is closed twice", fd);
    if (file->armed_by != 0 || file->in.token != 0 || file->out.token != 0)
        model_fail("descriptor %d is closed while the kernel has it", fd);
    file->is_closing = true;
    return 0;
}

int kernel_ops_disarm(int fd, uint64_t token)
{
    struct kernel_file *file = kernel_file_of(fd);

    if (kernel->disarm_busy > 0) {
        kernel->disarm_busy--;
        return -EBUSY;
    }
    if (file->in.token == token)
        file->in.is_cancelled = true;
    else if (file->out.token == token)
        file->out.is_cancelled = true;
    else
        return -ENOENT;
    return 0;
}

bool kernel_ops_wants_submit(void)
{
    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        const struct kernel_file *file = &kernel->file[i];

        if (file->is_closing || (file->out.token != 0 && !file->out.is_submitted))
            return true;
    }
    return false;
}

static void close_now(struct kernel_file *file)
{
    if (file->is_closing)
        file->is_open = false;
    file->is_closing = false;
}

void kernel_ops_end(struct kernel_file *file)
{
    close_now(file);
    if (file->in.token != 0 && file->backlog > file->backlog_late)
        file->backlog = file->backlog_late; /* accepted, and told to nobody */
    file->in = (struct kernel_op){0};
    file->out = (struct kernel_op){0};
}

void kernel_ops_submit(void)
{
    for (uint32_t i = 0; i < KERNEL_FILES; i++) {
        struct kernel_file *file = &kernel->file[i];

        close_now(file);
        if (file->out.token != 0 && !file->out.is_submitted)
            kernel_out_submit(file);
    }
}

void kernel_end_receive(int fd)
{
    kernel_touch("receive ends");
    kernel_file_of(fd)->in.is_cancelled = true;
}

void kernel_connection(int fd)
{
    kernel_touch("a connection");
    kernel_file_of(fd)->backlog++;
    kernel_file_of(fd)->backlog_late += kernel->backend[0].wait_error != 0;
    kernel_file_of(fd)->ready |= RDY_EV_IN;
}

void kernel_fail_accept(int fd, int error)
{
    kernel_touch("accepts fail");
    kernel_file_of(fd)->accept_error = error;
}

/* The next connection's descriptor. */
static int accept_one(struct kernel_file *file)
{
    for (int i = 0; i < KERNEL_FILES; i++) {
        if (kernel->file[i].is_used)
            continue;
        kernel_open_file(KERNEL_FD + i);
        file->backlog--;
        return KERNEL_FD + i;
    }
    model_fail("more connections than the model has files for");
}

int rdy_sys_accept(int fd)
{
    struct kernel_file *file = kernel_file_of(fd);
    int error = file->accept_error;

    kernel_touch("accept");
    if (!file->is_open)
        model_fail("an accept on descriptor %d, which is closed", fd);
    file->accept_error = 0;
    if (error != 0)
        return error;
    return file->backlog > 0 ? accept_one(file) : -EAGAIN;
}

static bool in_has_fact(const struct kernel_file *file)
{
    return file->in.token != 0 && (file->bytes > 0 || file->backlog > 0 ||
                                   file->accept_error != 0 || file->in.is_cancelled);
}

bool kernel_ops_has_fact(const struct kernel_file *file)
{
    return in_has_fact(file) || kernel_out_has_fact(file);
}

/* One fact: data if there is some and a buffer for it, a connection, else the end. */
static void in_tell(struct kernel_file *file, struct rdy_fact *fact)
{
    *fact = (struct rdy_fact){.token = file->in.token};
    if (file->bytes > 0 && kernel->ops.free != 0) {
        fact->buffer = (uint32_t)__builtin_ctz(kernel->ops.free);
        fact->flags = RDY_FACT_BUFFER;
        fact->result = 1;
        kernel->ops.free &= ~(1u << fact->buffer);
        kernel->ops.memory[fact->buffer * kernel->ops.size] = 'x';
        file->bytes--;
        return;
    }
    if (file->backlog > 0 && file->accept_error == 0) {
        fact->result = accept_one(file);
        return;
    }
    fact->flags = RDY_FACT_LAST;
    if (file->accept_error != 0)
        fact->result = file->accept_error;
    else
        fact->result = file->in.is_cancelled ? -ECANCELED : -ENOBUFS;
    file->accept_error = 0;
    file->in.token = 0;
}

/* Of what comes in one fact a wait, so that there may be more behind it. */
uint32_t kernel_ops_tell(struct kernel_file *file, struct rdy_fact *facts, uint32_t facts_max)
{
    uint32_t count = 0;

    if (count < facts_max && in_has_fact(file))
        in_tell(file, &facts[count++]);
    if (count < facts_max && kernel_out_has_fact(file))
        kernel_out_tell(file, &facts[count++]);
    return count;
}
