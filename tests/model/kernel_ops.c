/* SPDX-License-Identifier: MIT */
/*
 * The operations of the model's ring: receives into buffers that were lent.
 *
 * A receive lasts until it is cancelled or finds no buffer; each fact takes one byte. What arrives
 * while the question to stop is under way may still come, with the last fact or before it. The
 * memory of a buffer is the kernel's from its refill to its fact.
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

int kernel_ops_recv(struct rdy_backend *backend, int fd, uint64_t token, bool is_data_there)
{
    struct kernel_file *file = kernel_file_of(fd);

    (void)backend;
    (void)is_data_there;
    model_touch(&kernel->state_word, "receive begins");
    if (!file->is_open)
        return -EBADF;
    if (file->op_token != 0)
        model_fail("two receives at once on descriptor %d", fd);
    file->op_token = token;
    file->is_op_cancelled = false;
    return 0;
}

/* Datagrams are not modelled. */
int kernel_ops_messages(struct rdy_backend *backend)
{
    (void)backend;
    return -EOPNOTSUPP;
}

/* No room: the engine closes by itself, as it always must be able to. */
int kernel_ops_close_file(struct rdy_backend *backend, int fd)
{
    (void)backend;
    (void)fd;
    return -EBUSY;
}

int kernel_ops_disarm(int fd, uint64_t token)
{
    struct kernel_file *file = kernel_file_of(fd);

    if (kernel->disarm_busy > 0) {
        kernel->disarm_busy--;
        return -EBUSY;
    }
    if (file->op_token != token)
        return -ENOENT;
    file->is_op_cancelled = true;
    return 0;
}

void kernel_end_receive(int fd)
{
    model_touch(&kernel->state_word, "receive ends");
    kernel_file_of(fd)->is_op_cancelled = true;
}

bool kernel_ops_has_fact(const struct kernel_file *file)
{
    return file->op_token != 0 && (file->bytes > 0 || file->is_op_cancelled);
}

/* One fact: data if there is some and a buffer for it, else the end. */
void kernel_ops_tell(struct kernel_file *file, struct rdy_fact *fact)
{
    *fact = (struct rdy_fact){.token = file->op_token};
    if (file->bytes > 0 && kernel->ops.free != 0) {
        fact->buffer = (uint32_t)__builtin_ctz(kernel->ops.free);
        fact->flags = RDY_FACT_BUFFER;
        fact->result = 1;
        kernel->ops.free &= ~(1u << fact->buffer);
        kernel->ops.memory[fact->buffer * kernel->ops.size] = 'x';
        file->bytes--;
        return;
    }
    fact->flags = RDY_FACT_LAST;
    fact->result = file->is_op_cancelled ? -ECANCELED : -ENOBUFS;
    file->op_token = 0;
}
