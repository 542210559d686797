/* SPDX-License-Identifier: MIT */
/*
 * Can this kernel run the ring backend? Found out by running it: a ring is opened as for real, and
 * a multishot poll must report twice and be cancelled. Emulations and broken backports fail there,
 * where a feature bit would have said yes.
 *
 * The verdict is kept for the process in one atomic word, so that any thread may ask; a forked
 * child asks anew, and shortages (memory, descriptors) are not kept, because they pass. The list of
 * capabilities is for people and is made on demand.
 */
#include "engine/base.h"

#ifndef RDY_NO_URING

#include "engine/sys.h"
#include "uring/uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SMOKE_TOKEN   UINT64_C(1)
#define SMOKE_WAIT_NS (100 * RDY_NS_PER_MS)
#define SMOKE_TRIES   4
#define PAGE_BYTES    65536 /* at least a page on every architecture */

struct verdict {
    enum rdy_ring_step step; /* where it failed */
    int result;              /* 0 or -errno */
};

/* Process id in the upper half, step and errno below; 0: not asked yet. */
static struct rdy_a64 remembered;

static bool verdict_recall(struct verdict *verdict)
{
    uint64_t word = rdy_a64_load_relaxed(&remembered);

    if (word >> 32 != (uint64_t)getpid())
        return false;
    verdict->step = (enum rdy_ring_step)((word >> 16) & 0xffff);
    verdict->result = -(int)(word & 0xffff);
    return true;
}

static void verdict_remember(const struct verdict *verdict)
{
    uint64_t word = (uint64_t)getpid() << 32 | (uint64_t)verdict->step << 16;

    if (verdict->result == -ENOMEM || verdict->result == -EMFILE || verdict->result == -ENFILE)
        return;
    rdy_a64_store_relaxed(&remembered, word | (uint64_t)-verdict->result);
}

void rdy_uring_probe_forget(void)
{
    rdy_a64_store_relaxed(&remembered, 0);
}

/* The next fact, which is due at once: the tries are for signals. */
static int smoke_next(struct rdy_backend *backend, struct rdy_fact *fact)
{
    for (int i = 0; i < SMOKE_TRIES; i++) {
        int rc = backend->ops->wait(backend, SMOKE_WAIT_NS, fact, 1);

        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    return -ETIME;
}

static int smoke_edge(struct rdy_backend *backend, int fd)
{
    struct rdy_fact fact;
    int rc = rdy_sys_eventfd_write(fd);

    if (rc == 0)
        rc = smoke_next(backend, &fact);
    if (rc < 0)
        return rc;
    if (fact.result < 0)
        return fact.result;
    return fact.events == RDY_EV_IN && fact.flags == 0 ? 0 : -EPROTO;
}

static int smoke_cancel(struct rdy_backend *backend, int fd)
{
    struct rdy_fact fact;
    int rc = backend->ops->disarm(backend, fd, SMOKE_TOKEN);

    if (rc == 0)
        rc = smoke_next(backend, &fact);
    if (rc < 0)
        return rc;
    return fact.result == -ECANCELED && fact.flags == RDY_FACT_LAST ? 0 : -EPROTO;
}

static int smoke_test(struct rdy_backend *backend, int fd, enum rdy_ring_step *step)
{
    int rc;

    *step = RDY_STEP_ARM;
    rc = backend->ops->arm(backend, fd, SMOKE_TOKEN, RDY_EV_IN);
    if (rc < 0)
        return rc;
    *step = RDY_STEP_FIRST_EVENT;
    rc = smoke_edge(backend, fd);
    if (rc < 0)
        return rc;
    *step = RDY_STEP_SECOND_EVENT;
    rc = smoke_edge(backend, fd);
    if (rc < 0)
        return rc;
    *step = RDY_STEP_CANCEL;
    rc = smoke_cancel(backend, fd);
    if (rc == 0)
        *step = RDY_STEP_NONE;
    return rc;
}

static void verdict_find(struct verdict *verdict)
{
    static const struct rdy_backend_opts opts = {.events_max = 1, .cq_entries = 64};
    struct rdy_backend *backend;
    int fd;

    verdict->result = rdy_uring_open_at(&backend, &opts, RDY_RUNG_DEFER, &verdict->step);
    if (verdict->result < 0)
        return;
    fd = rdy_sys_eventfd();
    if (fd < 0) {
        *verdict = (struct verdict){.step = RDY_STEP_EVENTFD, .result = fd};
    } else {
        verdict->result = smoke_test(backend, fd, &verdict->step);
        (void)rdy_sys_close(fd);
    }
    backend->ops->close(backend);
}

/* What the list looks at; absent pieces stay zero, and the list says so. */
struct findings {
    struct rdy_ring ring;
    bool is_open;
    bool is_working;
    struct io_uring_probe *ops; /* may be NULL */
};

static void report_line(struct rdy_probe_report *report, const char *name, bool is_present,
                        const char *source, const char *kernel)
{
    char why[sizeof(report->capabilities[0].why)];

    if (is_present)
        (void)snprintf(why, sizeof(why), "%s", source);
    else
        (void)snprintf(why, sizeof(why), "missing: %s says no (arrived in Linux %s)", source,
                       kernel);
    rdy_report_add(report, name, is_present, why);
}

static void report_setup_flags(struct rdy_probe_report *report)
{
    static const struct {
        const char *name;
        uint32_t flags;
        const char *kernel;
    } flags[] = {
        {"submit_all", IORING_SETUP_SUBMIT_ALL, "5.18"},
        {"coop_taskrun", IORING_SETUP_COOP_TASKRUN, "5.19"},
        {"single_issuer", IORING_SETUP_SINGLE_ISSUER, "6.0"},
        {"defer_taskrun", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, "6.1"},
        {"no_sqarray", IORING_SETUP_NO_SQARRAY, "6.6"},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct io_uring_params params = {.flags = flags[i].flags};
        int fd = io_uring_setup(2, &params);

        report_line(report, flags[i].name, fd >= 0, "io_uring_setup", flags[i].kernel);
        if (fd >= 0)
            (void)rdy_sys_close(fd);
    }
}

static void report_features(struct rdy_probe_report *report, const struct findings *found)
{
    static const struct {
        const char *name;
        uint32_t bit;
        const char *kernel;
    } features[] = {
        {"no_dropped_completions", IORING_FEAT_NODROP, "5.5"},
        {"timed_enter", IORING_FEAT_EXT_ARG, "5.11"},
        {"silent_success", IORING_FEAT_CQE_SKIP, "5.17"},
        {"send_recv_bundles", IORING_FEAT_RECVSEND_BUNDLE, "6.10"},
        {"min_timeout", IORING_FEAT_MIN_TIMEOUT, "6.12"},
        {"no_iowait", IORING_FEAT_NO_IOWAIT, "6.15"},
    };

    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        bool is_present = found->is_open && (found->ring.uring.features & features[i].bit) != 0;

        report_line(report, features[i].name, is_present, "feature bit", features[i].kernel);
    }
}

static void report_ops(struct rdy_probe_report *report, const struct findings *found)
{
    static const struct {
        const char *name;
        int op;
        const char *kernel;
    } ops[] = {
        {"op_accept", IORING_OP_ACCEPT, "5.5"},
        {"op_connect", IORING_OP_CONNECT, "5.5"},
        {"op_send", IORING_OP_SEND, "5.6"},
        {"op_recv", IORING_OP_RECV, "5.6"},
        {"op_close", IORING_OP_CLOSE, "5.6"},
        {"op_msg_ring", IORING_OP_MSG_RING, "5.18"},
        {"op_socket", IORING_OP_SOCKET, "5.19"},
        {"op_send_zc", IORING_OP_SEND_ZC, "6.0"},
        {"op_read_multishot", RDY_OP_READ_MULTISHOT, "6.7"},
        {"op_bind", RDY_OP_BIND, "6.11"},
    };

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        bool is_present = found->ops && io_uring_opcode_supported(found->ops, ops[i].op);

        report_line(report, ops[i].name, is_present, "IORING_REGISTER_PROBE", ops[i].kernel);
    }
}

/* Provided-buffer rings have no bit of their own: register one and look. */
static bool buffer_ring_works(int ring_fd)
{
    void *memory = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)memory, .ring_entries = 8};
    int rc = -ENOMEM;

    if (memory) {
        memset(memory, 0, PAGE_BYTES);
        rc = io_uring_register((uint32_t)ring_fd, IORING_REGISTER_PBUF_RING, &reg, 1);
    }
    /* The ring's exit is asynchronous, and the memory is about to be freed. */
    if (rc == 0)
        (void)io_uring_register((uint32_t)ring_fd, IORING_UNREGISTER_PBUF_RING, &reg, 1);
    free(memory);
    return rc == 0;
}

static bool registered_fd_works(int ring_fd)
{
    struct io_uring_rsrc_update update = {.offset = UINT32_MAX, .data = (uint32_t)ring_fd};

    if (io_uring_register((uint32_t)ring_fd, IORING_REGISTER_RING_FDS, &update, 1) != 1)
        return false;
    (void)io_uring_register((uint32_t)ring_fd, IORING_UNREGISTER_RING_FDS, &update, 1);
    return true;
}

/* On a ring of their own, which is not restricted. */
static void report_registers(struct rdy_probe_report *report)
{
    struct io_uring_params params = {0};
    int fd = io_uring_setup(2, &params);

    report_line(report, "registered_ring_fd", fd >= 0 && registered_fd_works(fd),
                "IORING_REGISTER_RING_FDS", "5.18");
    report_line(report, "buffer_rings", fd >= 0 && buffer_ring_works(fd),
                "IORING_REGISTER_PBUF_RING", "5.19");
    if (fd >= 0)
        (void)rdy_sys_close(fd);
}

static void report_capabilities(struct rdy_probe_report *report, bool is_working)
{
    struct findings found = {.is_working = is_working};
    struct rdy_ring_wish wish = {.cq_entries = 64, .notify_fd = -1};
    struct rdy_backend uncounted = {0};
    enum rdy_ring_step step;

    found.is_open = rdy_ring_open(&found.ring, &wish, &uncounted, &step) == 0;
    found.ops = io_uring_get_probe();

    report_line(report, "multishot_poll", found.is_working, "smoke test", "5.13");
    report_line(report, "restrictions", found.is_open, "restricted ring", "5.10");
    report_setup_flags(report);
    report_features(report, &found);
    report_ops(report, &found);
    report_registers(report);
    /* It has no bit either: a flag of a request, which older kernels refuse. */
    report_line(report, "multishot_recvmsg", found.is_working && rdy_uring_messages(NULL) == 0,
                "trial with a datagram", "6.0");

    if (found.ops)
        io_uring_free_probe(found.ops);
    if (found.is_open)
        rdy_ring_close(&found.ring);
}

int rdy_uring_probe(struct rdy_probe_report *report, char *why, size_t why_len)
{
    struct verdict verdict;

    if (!verdict_recall(&verdict)) {
        verdict_find(&verdict);
        verdict_remember(&verdict);
    }
    if (verdict.result == 0 && why_len > 0)
        (void)snprintf(why, why_len, "io_uring passed its smoke test");
    else
        rdy_ring_say(verdict.step, verdict.result, why, why_len);
    if (report)
        report_capabilities(report, verdict.result == 0);
    return verdict.result;
}

#endif
