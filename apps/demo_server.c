/* SPDX-License-Identifier: MIT */
/*
 * The server under demonstration: this same binary, in a process of its own, so that its CPU time
 * and memory are its own. Its stdout comes through a pipe: first the line with the port, at the end
 * the summary.
 */
#include "apps/demo.h"
#include "apps/system.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

/* In the child; does not return. It is to die with us, however we end. */
static _Noreturn void server_exec(const char *backend, const char *mode, int cpu, int output_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (cpu >= 0)
        (void)system_pin((uint32_t)cpu);
    (void)dup2(output_fd, STDOUT_FILENO);
    (void)execl("/proc/self/exe", "rdy", "echo", "--listen", "127.0.0.1:0", "--backend", backend,
                "--mode", mode, "--json", (char *)NULL);
    _exit(127);
}

static int server_spawn(struct server *server, const char *backend, const char *mode, int cpu)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    (void)fflush(stdout); /* or the child would hold a copy of what we have not written yet */
    server->pid = fork();
    if (server->pid == 0)
        server_exec(backend, mode, cpu, pipe_fds[1]);
    (void)close(pipe_fds[1]);
    if (server->pid < 0) {
        (void)close(pipe_fds[0]);
        return -EAGAIN;
    }
    server->output = fdopen(pipe_fds[0], "r");
    if (server->output)
        return 0;
    (void)close(pipe_fds[0]);
    (void)kill(server->pid, SIGTERM);
    (void)waitpid(server->pid, NULL, 0);
    server->pid = -1;
    return -ENOMEM;
}

/* "listening on 127.0.0.1:PORT backend=..." */
static int server_read_port(struct server *server)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    char line[LINE_MAX_BYTES];
    unsigned port;

    if (!fgets(line, sizeof(line), server->output))
        return -EPIPE; /* it ended; what it had to say is on stderr */
    if (sscanf(line, "listening on 127.0.0.1:%u ", &port) != 1 || port > UINT16_MAX)
        return -EPROTO;
    at.sin_port = htons((uint16_t)port);
    memset(&server->endpoint, 0, sizeof(server->endpoint));
    memcpy(&server->endpoint.addr, &at, sizeof(at));
    server->endpoint.addr_len = sizeof(at);
    return 0;
}

int server_start(struct server *server, const char *backend, const char *mode, int cpu)
{
    int rc;

    *server = (struct server){.pid = -1};
    rc = server_spawn(server, backend, mode, cpu);
    if (rc < 0)
        return rc;
    rc = server_read_port(server);
    if (rc < 0)
        (void)server_stop(server, NULL);
    return rc;
}

static int summary_read(FILE *output, struct server_summary *summary)
{
    char line[LINE_MAX_BYTES];
    json_t *root;

    if (!fgets(line, sizeof(line), output))
        return -EPIPE;
    root = json_loads(line, 0, NULL);
    if (!root)
        return -EPROTO;
    summary->system_calls = (uint64_t)json_integer_value(json_object_get(root, "system_calls"));
    summary->connections = (uint64_t)json_integer_value(json_object_get(root, "connections"));
    json_decref(root);
    return 0;
}

int server_stop(struct server *server, struct server_summary *summary)
{
    int status = 0;
    int rc = 0;

    if (server->pid < 0)
        return 0;
    (void)kill(server->pid, SIGTERM);
    if (summary)
        rc = summary_read(server->output, summary);
    (void)fclose(server->output);
    while (waitpid(server->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    server->pid = -1;
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        rc = -ECHILD;
    return rc;
}
