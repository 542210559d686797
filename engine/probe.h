/* SPDX-License-Identifier: MIT */
/*
 * Static probes (USDT), which a tracer turns on in a running program: a nop each, and a note in the
 * ELF file that says where it is and where its arguments are. docs/probes.md lists them.
 *
 * An argument is evaluated whether or not somebody traces, so it is something at hand: a register
 * or a field. Without RDY_PROBES nothing is left of a probe.
 */
#ifndef RDY_ENGINE_PROBE_H
#define RDY_ENGINE_PROBE_H

#include "engine/base.h"

#ifdef RDY_PROBES
#include <sys/sdt.h>

/* That header's macros call a variadic one with nothing behind its last name, here where they are
 * used: so from here on. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif

#define rdy_probe2(name, a, b)    STAP_PROBE2(rdy, name, a, b)
#define rdy_probe3(name, a, b, c) STAP_PROBE3(rdy, name, a, b, c)
#else
#define rdy_probe2(name, a, b)    ((void)sizeof(a), (void)sizeof(b))
#define rdy_probe3(name, a, b, c) ((void)sizeof(a), (void)sizeof(b), (void)sizeof(c))
#endif

#endif
