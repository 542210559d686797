/* SPDX-License-Identifier: MIT */
/*
 * The memory model behind the atomics: C11's, as a machine of histories and views.
 *
 * Each atomic has the history of its values; each fiber a view, that is for each atomic the oldest
 * value that it may still see, and a vector clock. A load may take any value from there on, and the
 * search tries them all. A releasing store leaves the writer's view with the value, an acquiring
 * load joins it to the reader's. A read-modify-write takes the latest, and hands on the view of the
 * value that it replaces (a release sequence). A sequentially consistent load sees the last
 * sequentially consistent write at least: their order is that of execution.
 *
 * Weaker than x86, and than most of what ARM does. What C11 has and this has not: a store that goes
 * into the history before the last, a load that sees a store which is yet to come, a
 * compare-and-swap that fails over a stale value. No fences: engine/atomic.h has none.
 *
 * Outside of fibers (set-up, finish) the accesses are plain.
 */
#include "tests/model/checker.h"

#define MESSAGES_MAX 2048 /* values in one execution */
#define VALUES_MAX   96   /* of one atomic */
#define HASH_SIZE    512u

struct message {
    uint64_t value;
    uint32_t clock; /* of the writer, when it wrote */
    uint8_t fiber;
    struct view view; /* what comes with the value */
};

struct loc {
    const char *at; /* NULL: was plainly written, is no atomic any more */
    uint32_t size;
    uint32_t count;
    uint32_t seq_cst;      /* the last sequentially consistent write */
    uint32_t used[FIBERS]; /* the clock of each fiber's last access */
    uint16_t value[VALUES_MAX];
};

static struct message messages[MESSAGES_MAX];
static uint32_t messages_count;
static struct loc locs[LOCS_MAX];
static uint32_t locs_count;
static uint16_t hash[HASH_SIZE]; /* index plus one */
static uint16_t last_loaded[FIBERS];
static uint16_t kernel_at[LOCS_MAX];

void view_join(struct view *view, const struct view *other)
{
    for (uint32_t i = 0; i < FIBERS; i++) {
        if (other->clock[i] > view->clock[i])
            view->clock[i] = other->clock[i];
    }
    for (uint32_t i = 0; i < locs_count; i++) {
        if (other->at[i] > view->at[i])
            view->at[i] = other->at[i];
    }
}

void memory_reset(void)
{
    messages_count = 0;
    locs_count = 0;
    memset(hash, 0, sizeof(hash));
    memset(last_loaded, 0, sizeof(last_loaded));
    memset(kernel_at, 0, sizeof(kernel_at));
}

static uint32_t hash_of(const void *at)
{
    return (uint32_t)(((uintptr_t)at >> 2) * 0x9e3779b1u >> 8) % HASH_SIZE;
}

static uint64_t raw_load(const void *at, size_t size)
{
    uint64_t v = 0;

    memcpy(&v, at, size);
    return v;
}

static struct message *message_add(struct loc *loc, uint64_t value)
{
    struct message *message;

    if (messages_count == MESSAGES_MAX || loc->count == VALUES_MAX)
        model_fail("livelock: %u values of one atomic, %u in all", loc->count, messages_count);
    message = &messages[messages_count];
    loc->value[loc->count++] = (uint16_t)messages_count++;
    message->value = value;
    message->fiber = (uint8_t)self;
    message->clock = fibers[self].view.clock[self];
    memset(&message->view, 0, sizeof(message->view));
    return message;
}

static struct loc *loc_find(const void *at)
{
    uint32_t i = hash_of(at);

    for (; hash[i] != 0; i = (i + 1) % HASH_SIZE) {
        if (locs[hash[i] - 1].at == at)
            return &locs[hash[i] - 1];
    }
    return NULL;
}

/* The first touch by a fiber: what is there now is the whole history. */
static struct loc *loc_make(const void *at, size_t size)
{
    struct loc *loc = &locs[locs_count];
    struct message *first;
    uint32_t i = hash_of(at);

    if (locs_count == LOCS_MAX)
        model_fail("the target touches more than %u atomics", LOCS_MAX);
    *loc = (struct loc){.at = at, .size = (uint32_t)size};
    locs_count++;
    first = message_add(loc, raw_load(at, size));
    first->fiber = 0;
    first->clock = 0;
    while (hash[i] != 0)
        i = (i + 1) % HASH_SIZE;
    hash[i] = (uint16_t)locs_count;
    plain_mark_atomic(at);
    return loc;
}

static struct loc *loc_use(const void *at, size_t size, const void *pc)
{
    struct loc *loc;

    plain_check_atomic(at, size, pc);
    loc = loc_find(at);
    if (!loc)
        loc = loc_make(at, size);
    if (loc->size != size)
        model_fail("an atomic of %u bytes, used as one of %zu", loc->size, size);
    loc->used[self] = fibers[self].view.clock[self];
    return loc;
}

static uint32_t index_of(const struct loc *loc)
{
    return (uint32_t)(loc - locs);
}

static struct message *latest(const struct loc *loc)
{
    return &messages[loc->value[loc->count - 1]];
}

static bool is_acquire(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static bool is_release(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

bool memory_equals(const void *at, uint32_t size, uint64_t v)
{
    const struct loc *loc = loc_find(at);

    return (loc ? latest(loc)->value : raw_load(at, size)) == v;
}

void memory_check_read(const void *at, const void *pc)
{
    const struct loc *loc = loc_find(at);
    const struct message *message;

    (void)pc;
    if (!loc)
        return;
    message = latest(loc);
    if (message->clock > fibers[self].view.clock[message->fiber])
        model_fail("data race: a plain read of an atomic that fiber %u wrote", message->fiber);
}

/* A plain write over an atomic: whoever used it must be known to be done. */
void memory_forget(const void *at, const void *pc)
{
    struct loc *loc = loc_find(at);

    (void)pc;
    if (!loc)
        return;
    for (uint32_t i = 1; i < FIBERS; i++) {
        if (loc->used[i] > fibers[self].view.clock[i])
            model_fail("data race: a plain write or free of an atomic that fiber %u may be using",
                       i);
    }
    loc->at = NULL;
}

/*
 * What the kernel's own locks do: who comes second sees the values that the first one saw. It is no
 * happens-before of the language's: what is plain stays a race.
 */
void memory_pass_kernel(void)
{
    if (self == 0)
        return;
    for (uint32_t i = 0; i < locs_count; i++) {
        uint16_t *mine = &fibers[self].view.at[i];

        if (*mine > kernel_at[i])
            kernel_at[i] = *mine;
        *mine = kernel_at[i];
    }
}

/* --- the five primitives ------------------------------------------------------------------- */

static struct op op_make(enum op_kind kind, const void *at, size_t size, int order, const void *pc)
{
    return (struct op){
        .kind = kind,
        .writes = kind != OP_LOAD,
        .order = order,
        .at = at,
        .size = (uint32_t)size,
        .pc = pc,
    };
}

uintptr_t rdy_model_load(const void *at, size_t size, int order)
{
    const void *pc = __builtin_return_address(0);
    struct view *view = &fibers[self].view;
    struct op op = op_make(OP_LOAD, at, size, order, pc);
    const struct message *message;
    struct step *step;
    struct loc *loc;
    uint32_t oldest;
    uint32_t behind = 0;

    if (self == 0) {
        plain_check_atomic(at, size, pc);
        return (uintptr_t)raw_load(at, size);
    }
    step = fiber_step(&op);
    loc = loc_use(at, size, pc);
    last_loaded[self] = (uint16_t)(index_of(loc) + 1);
    oldest = view->at[index_of(loc)];
    if (order == __ATOMIC_SEQ_CST && loc->seq_cst > oldest)
        oldest = loc->seq_cst;
    if (run.stale_count < run.target->stale_max && oldest + 1 < loc->count)
        behind = search_choose_value(loc->count - oldest);
    if (behind > 0)
        run.stale_count++;
    message = &messages[loc->value[loc->count - 1 - behind]];
    view->at[index_of(loc)] = (uint16_t)(loc->count - 1 - behind);
    if (is_acquire(order))
        view_join(view, &message->view);
    step->before = message->value;
    step->behind = behind;
    return (uintptr_t)message->value;
}

/* The new latest value of @loc, by this fiber. @handed_on: of a read-modify-write, or NULL. */
static void put(struct loc *loc, uint64_t value, int order, const struct message *handed_on)
{
    struct view *view = &fibers[self].view;
    struct message *message;
    const struct view *with = handed_on ? &handed_on->view : NULL;

    message = message_add(loc, value);
    view->at[index_of(loc)] = (uint16_t)(loc->count - 1);
    if (is_release(order))
        message->view = *view;
    if (with)
        view_join(&message->view, with);
    message->view.at[index_of(loc)] = (uint16_t)(loc->count - 1);
    if (order == __ATOMIC_SEQ_CST)
        loc->seq_cst = loc->count - 1;
    memcpy((void *)(uintptr_t)loc->at, &value, loc->size);
    view->clock[self]++; /* what the fiber does from here on did not come with the value */
}

void rdy_model_store(void *at, size_t size, uintptr_t v, int order)
{
    const void *pc = __builtin_return_address(0);
    struct op op = op_make(OP_STORE, at, size, order, pc);
    struct step *step;
    struct loc *loc;

    if (self == 0) {
        plain_check_atomic(at, size, pc);
        memcpy(at, &v, size);
        return;
    }
    step = fiber_step(&op);
    loc = loc_use(at, size, pc);
    step->before = latest(loc)->value;
    step->after = v;
    put(loc, v, order, NULL);
}

static uint64_t changed(enum rdy_model_change how, uint64_t was, uint64_t v, size_t size)
{
    uint64_t mask = size == 8 ? UINT64_MAX : UINT32_MAX;

    switch (how) {
    case RDY_MODEL_OR:
        return was | v;
    case RDY_MODEL_ADD:
    case RDY_MODEL_COUNT:
        return (was + v) & mask;
    case RDY_MODEL_SWAP:
    default:
        return v;
    }
}

/* The latest value of @loc, read so that it can be replaced. */
static const struct message *take(struct loc *loc, int order)
{
    const struct message *message = latest(loc);
    struct view *view = &fibers[self].view;

    view->at[index_of(loc)] = (uint16_t)(loc->count - 1);
    if (is_acquire(order))
        view_join(view, &message->view);
    return message;
}

uintptr_t rdy_model_change(void *at, size_t size, enum rdy_model_change how, uintptr_t v, int order)
{
    const void *pc = __builtin_return_address(0);
    struct op op = op_make(OP_CHANGE, at, size, order, pc);
    const struct message *message;
    struct step *step;
    struct loc *loc;
    uint64_t was;

    /* Counters are in no protocol: no step, and no history. */
    if (self == 0 || how == RDY_MODEL_COUNT) {
        plain_check_atomic(at, size, pc);
        was = raw_load(at, size);
        v = (uintptr_t)changed(how, was, v, size);
        memcpy(at, &v, size);
        loc = self != 0 ? loc_find(at) : NULL;
        if (loc)
            latest(loc)->value = v;
        return (uintptr_t)was;
    }
    step = fiber_step(&op);
    loc = loc_use(at, size, pc);
    message = take(loc, order);
    was = message->value;
    step->before = was;
    step->after = changed(how, was, v, size);
    put(loc, step->after, order, message);
    return (uintptr_t)was;
}

static bool is_free(const void *arg)
{
    return memory_equals(arg, 4, 0);
}

static const void *awaited[FIBERS];

void rdy_model_await(const void *at, uint32_t v)
{
    rdy_assert(v == 0);
    if (!run.target->has_real_locks)
        awaited[self] = at;
}

bool rdy_model_cas(void *at, size_t size, uintptr_t *seen, uintptr_t next, int order)
{
    const void *pc = __builtin_return_address(0);
    struct op op = op_make(OP_CAS, at, size, order, pc);
    const struct message *message;
    struct step *step;
    struct loc *loc;

    if (self == 0) {
        uint64_t was = raw_load(at, size);
        bool is_equal = was == *seen;

        plain_check_atomic(at, size, pc);
        if (is_equal)
            memcpy(at, &next, size);
        *seen = (uintptr_t)was;
        return is_equal;
    }
    if (awaited[self] == at) {
        op.is_ready = is_free;
        op.arg = at;
        op.what = "the lock";
        op.is_acquiring = true;
    }
    awaited[self] = NULL;
    step = fiber_step(&op);
    loc = loc_use(at, size, pc);
    step->before = latest(loc)->value;
    step->has_failed = step->before != *seen;
    /* A failure has the acquire side of the order only, which is what engine/atomic.h says. */
    message = take(loc, order);
    *seen = (uintptr_t)message->value;
    if (step->has_failed)
        return false;
    step->after = next;
    put(loc, next, order, message);
    return true;
}

/* --- waiting for a value ------------------------------------------------------------------- */

bool memory_is_newer_loaded(const void *fiber)
{
    uint32_t i = (uint32_t)(uintptr_t)fiber;
    const struct loc *loc;

    if (last_loaded[i] == 0)
        return true;
    loc = &locs[last_loaded[i] - 1];
    return !loc->at || loc->count - 1u > fibers[i].view.at[last_loaded[i] - 1];
}

/* Of a loop that looks again and again: until what it looked at last has changed. */
void memory_await_newer(const char *what, const void *pc)
{
    struct op op = {
        .kind = OP_WAIT,
        .order = __ATOMIC_RELAXED,
        .pc = pc,
        .is_ready = memory_is_newer_loaded,
        .arg = (const void *)(uintptr_t)self,
        .what = what,
    };

    if (self == 0)
        return;
    if (last_loaded[self] != 0) {
        op.at = locs[last_loaded[self] - 1].at;
        op.size = locs[last_loaded[self] - 1].size;
    }
    (void)fiber_step(&op);
}
