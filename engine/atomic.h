/* SPDX-License-Identifier: MIT */
/*
 * The only file that touches an atomic. An atomic is a struct, so that an access that does not name
 * its memory order does not compile. Every access passes rdy_model_step() first: nothing here, a
 * scheduling point in a build that explores interleavings.
 *
 * The compiler's __atomic builtins rather than <stdatomic.h>: the structs also stand in public
 * headers, which C++ programs include.
 */
#ifndef RDY_ENGINE_ATOMIC_H
#define RDY_ENGINE_ATOMIC_H

#include "engine/base.h"

#ifdef RDY_MODEL
void rdy_model_step(const void *where);
#else
#define rdy_model_step(where) ((void)(where))
#endif

struct rdy_a64 {
    uint64_t v;
};

struct rdy_aptr {
    void *v;
};

#define RDY_ATOMIC_OPS(name, type, value)                                                          \
    static inline value rdy_##name##_load_relaxed(const struct type *a)                            \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_load_n(&a->v, __ATOMIC_RELAXED);                                           \
    }                                                                                              \
    static inline value rdy_##name##_load_acquire(const struct type *a)                            \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_load_n(&a->v, __ATOMIC_ACQUIRE);                                           \
    }                                                                                              \
    static inline value rdy_##name##_load_seq_cst(const struct type *a)                            \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_load_n(&a->v, __ATOMIC_SEQ_CST);                                           \
    }                                                                                              \
    static inline void rdy_##name##_store_relaxed(struct type *a, value v)                         \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        __atomic_store_n(&a->v, v, __ATOMIC_RELAXED);                                              \
    }                                                                                              \
    static inline void rdy_##name##_store_release(struct type *a, value v)                         \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        __atomic_store_n(&a->v, v, __ATOMIC_RELEASE);                                              \
    }                                                                                              \
    static inline value rdy_##name##_swap_acq_rel(struct type *a, value v)                         \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_exchange_n(&a->v, v, __ATOMIC_ACQ_REL);                                    \
    }                                                                                              \
    static inline value rdy_##name##_swap_seq_cst(struct type *a, value v)                         \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_exchange_n(&a->v, v, __ATOMIC_SEQ_CST);                                    \
    }                                                                                              \
    static inline bool rdy_##name##_cas_acq_rel(struct type *a, value *seen, value next)           \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_compare_exchange_n(&a->v, seen, next, false, __ATOMIC_ACQ_REL,             \
                                           __ATOMIC_ACQUIRE);                                      \
    }                                                                                              \
    static inline bool rdy_##name##_cas_seq_cst(struct type *a, value *seen, value next)           \
    {                                                                                              \
        rdy_model_step(a);                                                                         \
        return __atomic_compare_exchange_n(&a->v, seen, next, false, __ATOMIC_SEQ_CST,             \
                                           __ATOMIC_SEQ_CST);                                      \
    }

RDY_ATOMIC_OPS(a32, rdy_a32, uint32_t)
RDY_ATOMIC_OPS(a64, rdy_a64, uint64_t)
RDY_ATOMIC_OPS(aptr, rdy_aptr, void *)

static inline uint32_t rdy_a32_or_acq_rel(struct rdy_a32 *a, uint32_t bits)
{
    rdy_model_step(a);
    return __atomic_fetch_or(&a->v, bits, __ATOMIC_ACQ_REL);
}

static inline uint32_t rdy_a32_add_seq_cst(struct rdy_a32 *a, uint32_t n)
{
    rdy_model_step(a);
    return __atomic_fetch_add(&a->v, n, __ATOMIC_SEQ_CST);
}

static inline uint64_t rdy_a64_add_relaxed(struct rdy_a64 *a, uint64_t n)
{
    rdy_model_step(a);
    return __atomic_fetch_add(&a->v, n, __ATOMIC_RELAXED);
}

/*
 * A counter with one writer: a load and a store, no locked instruction. Readers on other threads
 * see whole values.
 */
static inline void rdy_a64_bump(struct rdy_a64 *a, uint64_t n)
{
    __atomic_store_n(&a->v, __atomic_load_n(&a->v, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

/* The same, and whoever acquires the new value sees all that was counted before. */
static inline void rdy_a64_bump_release(struct rdy_a64 *a, uint64_t n)
{
    __atomic_store_n(&a->v, __atomic_load_n(&a->v, __ATOMIC_RELAXED) + n, __ATOMIC_RELEASE);
}

#endif
