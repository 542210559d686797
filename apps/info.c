/* SPDX-License-Identifier: MIT */
/* `rdy info`: what this machine offers the engine, what auto picks, and why. */
#include "apps/command.h"
#include "apps/options.h"

#include <rdy/rdy.h>

#include <jansson.h>
#include <jemalloc/jemalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const char usage[] = "usage: rdy info [--json]\n"
                            "\n"
                            "Prints the kernel, what the probe found (each capability, yes or no "
                            "and why), the\n"
                            "backend that auto picks and the reason, and the sizes that the "
                            "engine was built with.\n"
                            "\n"
                            "  --json   one JSON object\n";

struct info {
    struct utsname kernel;
    struct rdy_probe_report probe;
    const char *jemalloc;
};

/* The library that is really loaded may be another than the header's: ask it. */
static const char *jemalloc_version(void)
{
    const char *version = NULL;
    size_t version_size = sizeof(version);

    if (mallctl("version", &version, &version_size, NULL, 0) != 0 || !version)
        return JEMALLOC_VERSION;
    return version;
}

static const char *uring_verdict(const struct info *info)
{
    return info->probe.uring_result == 0 ? "usable" : strerror(-info->probe.uring_result);
}

static void print_text(const struct info *info)
{
    const struct rdy_probe_report *probe = &info->probe;

    (void)printf("rdy         %s\n", RDY_VERSION);
    (void)printf("kernel      %s %s %s\n", info->kernel.sysname, info->kernel.release,
                 info->kernel.machine);
    (void)printf("liburing    %s (compiled with)\n", RDY_LIBURING_VERSION);
    (void)printf("jemalloc    %s\n", info->jemalloc);
    (void)printf("cache line  %zu bytes\n", rdy_cache_line_size());
    (void)printf("entry       %zu bytes\n", rdy_entry_size());
    (void)printf("io_uring    %s\n", uring_verdict(info));
    (void)printf("auto picks  %s: %s\n", probe->auto_backend, probe->auto_reason);
    (void)printf("\ncapabilities\n");
    for (uint32_t i = 0; i < probe->capabilities_count; i++)
        (void)printf("  %-24s %-4s %s\n", probe->capabilities[i].name,
                     probe->capabilities[i].is_present ? "yes" : "no", probe->capabilities[i].why);
}

static json_t *capabilities_json(const struct rdy_probe_report *probe)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < probe->capabilities_count; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:b, s:s}", "name",
                                                    probe->capabilities[i].name, "present",
                                                    (int)probe->capabilities[i].is_present, "why",
                                                    probe->capabilities[i].why));
    return list;
}

static int print_json(const struct info *info)
{
    const struct rdy_probe_report *probe = &info->probe;
    json_t *root =
        json_pack("{s:s, s:{s:s, s:s, s:s}, s:s, s:s, s:I, s:I, s:{s:b, s:s}, s:{s:s, "
                  "s:s}, s:o}",
                  "version", RDY_VERSION, "kernel", "system", info->kernel.sysname, "release",
                  info->kernel.release, "machine", info->kernel.machine, "liburing",
                  RDY_LIBURING_VERSION, "jemalloc", info->jemalloc, "cache_line_bytes",
                  (json_int_t)rdy_cache_line_size(), "entry_bytes", (json_int_t)rdy_entry_size(),
                  "io_uring", "usable", (int)(probe->uring_result == 0), "verdict",
                  uring_verdict(info), "auto", "backend", probe->auto_backend, "reason",
                  probe->auto_reason, "capabilities", capabilities_json(probe));

    if (!root) {
        complain("info", "out of memory; free some and try again");
        return STATUS_FAILED;
    }
    (void)json_dumpf(root, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(root);
    return STATUS_OK;
}

static int info_run(const struct command *command, int argc, char **argv)
{
    bool is_json = false;
    struct flag flags[] = {{.name = "json", .kind = FLAG_SWITCH, .value = &is_json}};
    struct info info = {.probe = {.size = sizeof(info.probe)}};
    int status;
    int rc;

    if (!options_parse(command, flags, sizeof(flags) / sizeof(flags[0]), argc, argv, &status))
        return status;
    (void)uname(&info.kernel);
    info.jemalloc = jemalloc_version();
    rc = rdy_probe(&info.probe);
    if (rc < 0) {
        complain("info", "cannot probe: %s; this command and its library do not match",
                 strerror(-rc));
        return STATUS_FAILED;
    }
    if (is_json)
        return print_json(&info);
    print_text(&info);
    return STATUS_OK;
}

const struct command info_command = {
    .name = "info",
    .summary = "what this machine offers, which backend auto picks, and why",
    .usage = usage,
    .run = info_run,
};
