/* SPDX-License-Identifier: MIT */
/*
 * The metrics of runtimes over HTTP/1.1: GET /metrics, for Prometheus or curl.
 *
 * A thread with a runtime of its own, so that a scrape neither waits for the runtimes that it asks
 * about nor shows in their numbers. One request a connection.
 */
#ifndef RDY_APPS_METRICS_HTTP_H
#define RDY_APPS_METRICS_HTTP_H

#include <stddef.h>

#include <rdy/rdy.h>

#include "apps/resolve.h"

struct metrics_http;

/**
 * metrics_http_start() - listen and serve in a thread
 * @out:      receives the server; metrics_http_stop() ends it
 * @endpoint: where; receives the bound address
 * @runtimes: the array is copied; the runtimes are asked until the stop, do not close them before
 *
 * The series are told apart by the label "worker", the index in @runtimes.
 *
 * Return: 0, or -errno with no thread left.
 */
int metrics_http_start(struct metrics_http **out, struct rdy_address *endpoint,
                       struct rdy_runtime *const *runtimes, size_t runtimes_count);

/* Ends the connections and the thread, frees. NULL is fine. */
void metrics_http_stop(struct metrics_http *http);

#endif
