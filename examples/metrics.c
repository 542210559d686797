/* SPDX-License-Identifier: MIT */
/* Two runtimes that do a little work each, and their metrics as one text for Prometheus. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include <rdy/rdy.h>

struct worker {
    struct rdy_co co;
};

static int worker_poll(struct rdy_task *task, void *self)
{
    struct worker *w = self;

    RDY_BEGIN(&w->co);
    RDY_YIELD(&w->co, task);
    RDY_END(&w->co);
    return 0;
}

/* A runtime that has run @tasks tasks. */
static struct rdy_runtime *run(int tasks, bool is_timed)
{
    static const struct rdy_task_spec spec = {.poll = worker_poll,
                                              .self_size = sizeof(struct worker)};
    struct rdy_runtime_opts opts = {.size = sizeof(opts), .is_timed = is_timed};
    struct rdy_runtime *runtime = NULL;

    if (rdy_runtime_open(&runtime, &opts) < 0)
        return NULL;
    while (tasks-- > 0)
        if (rdy_spawn(runtime, &spec, NULL, NULL) < 0)
            break;
    if (tasks >= 0 || rdy_runtime_run(runtime) < 0) {
        rdy_runtime_close(runtime);
        return NULL;
    }
    return runtime;
}

int main(void)
{
    static const struct rdy_metrics_label labels[] = {{"runtime", "first"}, {"runtime", "second"}};
    static struct rdy_metrics metrics[2];
    struct rdy_runtime *runtimes[] = {run(10, false), run(20, true)};
    struct rdy_metrics_set sets[2];
    char *text;
    ssize_t len;

    for (int i = 0; i < 2; i++) {
        if (!runtimes[i])
            errx(2, "a runtime did not run; is RDY_BACKEND one that works here?");
        rdy_metrics_read(runtimes[i], &metrics[i]); /* any thread could */
        sets[i] = (struct rdy_metrics_set){&metrics[i], &labels[i], 1};
        rdy_runtime_close(runtimes[i]);
    }
    len = rdy_metrics_write_prometheus(sets, 2, NULL, 0); /* how long will it be? */
    text = len >= 0 ? malloc((size_t)len + 1) : NULL;
    if (!text || rdy_metrics_write_prometheus(sets, 2, text, (size_t)len + 1) != len)
        return 1;
    (void)fputs(text, stdout);
    free(text);
    return 0;
}
