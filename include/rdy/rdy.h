/* SPDX-License-Identifier: MIT */
/* Everything that rdy offers: include this, link with -lrdy. */
#ifndef RDY_RDY_H
#define RDY_RDY_H

#include <rdy/async_fd.h>
#include <rdy/base.h>
#include <rdy/blocking.h>
#include <rdy/buffer.h>
#include <rdy/completion.h>
#include <rdy/connector.h>
#include <rdy/copy.h>
#include <rdy/datagram.h>
#include <rdy/datagram_completion.h>
#include <rdy/datagram_many.h>
#include <rdy/driver.h>
#include <rdy/embed.h>
#include <rdy/endpoint.h>
#include <rdy/engine.h>
#include <rdy/event.h>
#include <rdy/metrics.h>
#include <rdy/net.h>
#include <rdy/pipe.h>
#include <rdy/process.h>
#include <rdy/reader.h>
#include <rdy/ready.h>
#include <rdy/registration.h>
#include <rdy/resolve.h>
#include <rdy/runtime.h>
#include <rdy/serve.h>
#include <rdy/shutdown.h>
#include <rdy/signal.h>
#include <rdy/socket.h>
#include <rdy/split.h>
#include <rdy/stream_io.h>
#include <rdy/sync.h>
#include <rdy/task.h>
#include <rdy/timer.h>
#include <rdy/unix.h>
#include <rdy/waker.h>

#endif
