/* SPDX-License-Identifier: MIT */
/* The accept loop that most servers want, over net.h. */
#ifndef RDY_SERVE_H
#define RDY_SERVE_H

#include <rdy/net.h>

RDY_BEGIN_DECLS

/**
 * rdy_serve() - spawn a task that accepts, and one more for each connection
 * @runtime:  borrowed
 * @listener: kept until the accept task ends (with the runtime, or by an abort)
 * @session:  borrowed; its name is kept until the last session has ended. Its struct must begin
 *            with a struct rdy_stream: the connection, set before the first poll, closed after
 *            @session->drop, when the task has ended
 * @id:       receives the accept task's name; may be NULL
 *
 * Out of descriptors, tasks or memory, or refused by a packet filter (-EPERM), it stops accepting
 * for 50 ms, or longer if that does not help; the connections wait in the listener's queue
 * meanwhile, one of them perhaps accepted and held (or, without memory to register it, closed). Any
 * other error is the listener's, and ends the accept task with it; the sessions go on.
 *
 * When the runtime shuts down (<rdy/shutdown.h>), it accepts what stands in the queue, closes the
 * listener, and ends with 0.
 *
 * Context: the runtime's thread.
 * Return:  0, or -errno as rdy_spawn(); -EINVAL if the struct is smaller than a stream, or so large
 *          that with 16 bytes of ours it is above 1 MiB.
 */
RDY_API RDY_NODISCARD int rdy_serve(struct rdy_runtime *runtime, struct rdy_listener *listener,
                                    const struct rdy_task_spec *session, struct rdy_task_id *id);

/**
 * rdy_serve_at() - listen at an address, and serve what connects
 * @runtime: borrowed
 * @address: borrowed, as for rdy_endpoint_parse(): "127.0.0.1:7777", "[::]:7777", "unix:/path",
 *           "@name". No host names: looking them up would block. Port 0: any
 * @session: kept as for rdy_serve()
 * @id:      receives the name of a task that owns the listener: an abort ends the serving, but not
 *           the sessions; joined, it tells what ended the accepting. May be NULL
 *
 * Context: the runtime's thread.
 * Return:  0; -EINVAL or -ENAMETOOLONG if @address is none; or -errno as rdy_listener_open()
 *          (-EADDRINUSE, -EACCES, ...) and rdy_serve(), with nothing left behind.
 */
RDY_API RDY_NODISCARD int rdy_serve_at(struct rdy_runtime *runtime, const char *address,
                                       const struct rdy_task_spec *session, struct rdy_task_id *id);

/**
 * rdy_serve_forever() - a whole server in one call, for a program that is one
 * @address: borrowed, as for rdy_serve_at()
 * @session: kept until the return
 *
 * Opens a runtime with the default options on this thread, and serves until a session, or another
 * thread that was given its rdy_task_runtime(), calls rdy_runtime_stop() or has it shut down.
 * Sessions that are left then are dropped.
 *
 * Return: 0 at that end; or -errno as rdy_runtime_open(), rdy_serve_at(), rdy_runtime_run(), or
 *         what ended the accepting.
 */
RDY_API RDY_NODISCARD int rdy_serve_forever(const char *address,
                                            const struct rdy_task_spec *session);

RDY_END_DECLS

#endif
