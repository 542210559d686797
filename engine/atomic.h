/* SPDX-License-Identifier: MIT */
/*
 * The only file that touches an atomic. An atomic is a struct, so that an access that does not name
 * its memory order does not compile. Each access is one of five primitives: the compiler's, or in a
 * build that explores interleavings (RDY_MODEL) those of the model checker, tests/model.
 *
 * The compiler's __atomic builtins rather than <stdatomic.h>: the structs also stand in public
 * headers, which C++ programs include.
 */
#ifndef RDY_ENGINE_ATOMIC_H
#define RDY_ENGINE_ATOMIC_H

#include "engine/base.h"

#ifdef RDY_MODEL

enum rdy_model_change {
    RDY_MODEL_SWAP,
    RDY_MODEL_OR,
    RDY_MODEL_ADD,
    RDY_MODEL_COUNT, /* an addition to a counter that nobody decides by */
};

uintptr_t rdy_model_load(const void *at, size_t size, int order);
void rdy_model_store(void *at, size_t size, uintptr_t v, int order);
uintptr_t rdy_model_change(void *at, size_t size, enum rdy_model_change how, uintptr_t v,
                           int order);
bool rdy_model_cas(void *at, size_t size, uintptr_t *seen, uintptr_t next, int order);

/* The next access is a compare-and-swap that can only succeed once *@at is @v: no look before. */
void rdy_model_await(const void *at, uint32_t v);

/* Which bytes are nobody's. */
void rdy_model_poison(const void *bytes, size_t size);
void rdy_model_unpoison(const void *bytes, size_t size);

#define RDY_ATOMIC_LOAD(a, type, order) ((type)rdy_model_load(&(a)->v, sizeof((a)->v), order))
#define RDY_ATOMIC_STORE(a, value, order)                                                          \
    rdy_model_store(&(a)->v, sizeof((a)->v), (uintptr_t)(value), order)
#define RDY_ATOMIC_SWAP(a, type, value, order)                                                     \
    ((type)rdy_model_change(&(a)->v, sizeof((a)->v), RDY_MODEL_SWAP, (uintptr_t)(value), order))
#define RDY_ATOMIC_OR(a, bits, order)                                                              \
    rdy_model_change(&(a)->v, sizeof((a)->v), RDY_MODEL_OR, bits, order)
#define RDY_ATOMIC_ADD(a, n, order)                                                                \
    rdy_model_change(&(a)->v, sizeof((a)->v), RDY_MODEL_ADD, n, order)
#define RDY_ATOMIC_COUNT(a, n, order)                                                              \
    rdy_model_change(&(a)->v, sizeof((a)->v), RDY_MODEL_COUNT, n, order)
#define RDY_ATOMIC_BUMP(a, n, order) ((void)RDY_ATOMIC_COUNT(a, n, order))
/* The body of a function. */
#define RDY_ATOMIC_CAS(a, type, seen, next, order, order_of_failure)                               \
    uintptr_t saw = (uintptr_t)(*(seen));                                                          \
    bool is_done = rdy_model_cas(&(a)->v, sizeof((a)->v), &saw, (uintptr_t)(next), order);         \
    *(seen) = (type)saw;                                                                           \
    return is_done

#else

#define rdy_model_await(at, v) ((void)0)

#define RDY_ATOMIC_LOAD(a, type, order)        __atomic_load_n(&(a)->v, order)
#define RDY_ATOMIC_STORE(a, value, order)      __atomic_store_n(&(a)->v, value, order)
#define RDY_ATOMIC_SWAP(a, type, value, order) __atomic_exchange_n(&(a)->v, value, order)
#define RDY_ATOMIC_OR(a, bits, order)          __atomic_fetch_or(&(a)->v, bits, order)
#define RDY_ATOMIC_ADD(a, n, order)            __atomic_fetch_add(&(a)->v, n, order)
#define RDY_ATOMIC_COUNT(a, n, order)          __atomic_fetch_add(&(a)->v, n, order)
#define RDY_ATOMIC_BUMP(a, n, order)                                                               \
    __atomic_store_n(&(a)->v, __atomic_load_n(&(a)->v, __ATOMIC_RELAXED) + (n), order)
#define RDY_ATOMIC_CAS(a, type, seen, next, order, order_of_failure)                               \
    return __atomic_compare_exchange_n(&(a)->v, seen, next, false, order, order_of_failure)

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
        return RDY_ATOMIC_LOAD(a, value, __ATOMIC_RELAXED);                                        \
    }                                                                                              \
    static inline value rdy_##name##_load_acquire(const struct type *a)                            \
    {                                                                                              \
        return RDY_ATOMIC_LOAD(a, value, __ATOMIC_ACQUIRE);                                        \
    }                                                                                              \
    static inline value rdy_##name##_load_seq_cst(const struct type *a)                            \
    {                                                                                              \
        return RDY_ATOMIC_LOAD(a, value, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    static inline void rdy_##name##_store_relaxed(struct type *a, value v)                         \
    {                                                                                              \
        RDY_ATOMIC_STORE(a, v, __ATOMIC_RELAXED);                                                  \
    }                                                                                              \
    static inline void rdy_##name##_store_release(struct type *a, value v)                         \
    {                                                                                              \
        RDY_ATOMIC_STORE(a, v, __ATOMIC_RELEASE);                                                  \
    }                                                                                              \
    static inline value rdy_##name##_swap_acq_rel(struct type *a, value v)                         \
    {                                                                                              \
        return RDY_ATOMIC_SWAP(a, value, v, __ATOMIC_ACQ_REL);                                     \
    }                                                                                              \
    static inline value rdy_##name##_swap_seq_cst(struct type *a, value v)                         \
    {                                                                                              \
        return RDY_ATOMIC_SWAP(a, value, v, __ATOMIC_SEQ_CST);                                     \
    }                                                                                              \
    static inline bool rdy_##name##_cas_acq_rel(struct type *a, value *seen, value next)           \
    {                                                                                              \
        RDY_ATOMIC_CAS(a, value, seen, next, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);                  \
    }                                                                                              \
    static inline bool rdy_##name##_cas_seq_cst(struct type *a, value *seen, value next)           \
    {                                                                                              \
        RDY_ATOMIC_CAS(a, value, seen, next, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                  \
    }

RDY_ATOMIC_OPS(a32, rdy_a32, uint32_t)
RDY_ATOMIC_OPS(a64, rdy_a64, uint64_t)
RDY_ATOMIC_OPS(aptr, rdy_aptr, void *)

static inline uint32_t rdy_a32_or_acq_rel(struct rdy_a32 *a, uint32_t bits)
{
    return (uint32_t)RDY_ATOMIC_OR(a, bits, __ATOMIC_ACQ_REL);
}

static inline uint32_t rdy_a32_add_seq_cst(struct rdy_a32 *a, uint32_t n)
{
    return (uint32_t)RDY_ATOMIC_ADD(a, n, __ATOMIC_SEQ_CST);
}

static inline uint64_t rdy_a64_add_relaxed(struct rdy_a64 *a, uint64_t n)
{
    return RDY_ATOMIC_COUNT(a, n, __ATOMIC_RELAXED);
}

/*
 * A counter with one writer: a load and a store, no locked instruction. Readers on other threads
 * see whole values.
 */
static inline void rdy_a64_bump(struct rdy_a64 *a, uint64_t n)
{
    RDY_ATOMIC_BUMP(a, n, __ATOMIC_RELAXED);
}

/* The same, and whoever acquires the new value sees all that was counted before. */
static inline void rdy_a64_bump_release(struct rdy_a64 *a, uint64_t n)
{
    RDY_ATOMIC_BUMP(a, n, __ATOMIC_RELEASE);
}

#endif
