/* SPDX-License-Identifier: MIT */
/* Endpoints: what a person may write for where to connect, what not, and addresses as text. */
#include "tests/support/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "engine/endpoint.h"

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define PATH_MAX_UN sizeof(((struct sockaddr_un *)NULL)->sun_path)

static void a_host_and_a_port_are_taken_apart(void **state)
{
    static const struct {
        const char *text;
        const char *host;
        const char *service;
        uint16_t port;
    } rows[] = {
        {"example.org:65535", "example.org", "65535", 65535},
        {"localhost:0", "localhost", "0", 0},
        {"127.0.0.1:080", "127.0.0.1", "80", 80},
        {"[::1]:80", "::1", "80", 80},
        {"[::ffff:1.2.3.4]:1", "::ffff:1.2.3.4", "1", 1},
        {"[fe80::1%lo]:7000", "fe80::1%lo", "7000", 7000},
        {"[fe80::1%eth0.100]:7000", "fe80::1%eth0.100", "7000", 7000},
        {"a.b.:1", "a.b.", "1", 1},
        {"_srv-1.x:1", "_srv-1.x", "1", 1},
        {"unix.org:1", "unix.org", "1", 1},
    };
    struct rdy_endpoint endpoint;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rdy_endpoint_parse(rows[i].text, &endpoint), 0);
        assert_int_equal(endpoint.kind, RDY_ENDPOINT_HOST);
        assert_string_equal(endpoint.host, rows[i].host);
        assert_string_equal(endpoint.service, rows[i].service);
        assert_int_equal(endpoint.port, rows[i].port);
        assert_int_equal(endpoint.address.addr_len, 0);
    }
}

static void text_that_is_none_or_could_be_read_two_ways_is_refused(void **state)
{
    static const char *const texts[] = {
        "",           "host",      ":80",          "host:",
        "host:65536", "::1:80",    "[]:80",        "[::1",
        "[::1]8",     "[::1]80",   "[::1]:x",      "a:80 ",
        "a:-1",       "a:+1",      "a: 1",         "a:1:1",
        "[::1:80",    "[host]:80", "[1.2.3.4]:80", "[fe80::1%]:80",
        "a b:80",     " a:80",     "a\n:80",       "a]:80",
        "[[::1]]:80", "\x7f:80",   "\xc3\xa4:80",  "a:99999999999999999999",
        "unix:",      "@",         "unix:@"};
    struct rdy_endpoint endpoint = {.port = 7};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(rdy_endpoint_parse(texts[i], &endpoint), -EINVAL);
    assert_int_equal(endpoint.port, 7);
}

static void a_host_has_253_bytes_at_most_and_perhaps_a_dot(void **state)
{
    struct rdy_endpoint endpoint;
    char text[512];

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text + 253, ":80", 4);
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), 0);
    assert_int_equal(strlen(endpoint.host), 253);
    memcpy(text + 253, "a:80", 5);
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), -EINVAL);
    memcpy(text + 253, ".:80", 5);
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), 0);
    assert_int_equal(strlen(endpoint.host), 254);
    memcpy(text + 253, "..:80", 6);
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), -EINVAL);
}

static void a_unix_path_comes_with_its_zero_and_a_name_without(void **state)
{
    struct rdy_endpoint endpoint;
    struct sockaddr_un addr;

    (void)state;
    assert_int_equal(rdy_endpoint_parse("unix:/run/x.sock", &endpoint), 0);
    assert_int_equal(endpoint.kind, RDY_ENDPOINT_UNIX);
    assert_int_equal(endpoint.port, 0);
    memcpy(&addr, &endpoint.address.addr, sizeof(addr));
    assert_int_equal(addr.sun_family, AF_UNIX);
    assert_string_equal(addr.sun_path, "/run/x.sock");
    assert_int_equal(endpoint.address.addr_len, PATH_OFFSET + sizeof("/run/x.sock"));

    static const char *const names[] = {"@name", "unix:@name"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rdy_endpoint_parse(names[i], &endpoint), 0);
        memcpy(&addr, &endpoint.address.addr, sizeof(addr));
        assert_memory_equal(addr.sun_path, "\0name", 6);
        assert_int_equal(endpoint.address.addr_len, PATH_OFFSET + 5);
    }
    assert_int_equal(rdy_endpoint_parse("unix:./@x", &endpoint), 0);
    assert_int_equal(rdy_endpoint_parse("unix:host:80", &endpoint), 0); /* a path like any other */
}

static void a_unix_address_that_does_not_fit_is_refused(void **state)
{
    struct rdy_endpoint endpoint;
    char text[PATH_MAX_UN + 8] = "unix:";

    (void)state;
    memset(text + 5, 'p', PATH_MAX_UN - 1);
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), 0);
    assert_int_equal(endpoint.address.addr_len, sizeof(struct sockaddr_un));
    text[5 + PATH_MAX_UN - 1] = 'p';
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), -ENAMETOOLONG);

    /* An abstract name has a zero in front and none behind: as many bytes, '@' included. */
    text[5] = '@';
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), 0);
    text[5 + PATH_MAX_UN] = 'p';
    assert_int_equal(rdy_endpoint_parse(text, &endpoint), -ENAMETOOLONG);
}

/* --- text of addresses --- */

static const char *text_of(const void *addr, size_t addr_len)
{
    static char text[RDY_ADDRESS_TEXT_MAX];
    struct rdy_address address = {.addr_len = (socklen_t)addr_len};

    memcpy(&address.addr, addr, addr_len);
    return rdy_address_format(&address, text);
}

static void addresses_are_written_as_they_are_read(void **state)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(65535)};
    struct sockaddr_in6 scoped = {.sin6_family = AF_INET6, .sin6_scope_id = UINT32_MAX};

    (void)state;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_string_equal(text_of(&v4, sizeof(v4)), "127.0.0.1:80");
    v6.sin6_addr = in6addr_loopback;
    assert_string_equal(text_of(&v6, sizeof(v6)), "[::1]:65535");
    scoped.sin6_addr.s6_addr[0] = 0xfe;
    scoped.sin6_addr.s6_addr[1] = 0x80;
    assert_string_equal(text_of(&scoped, sizeof(scoped)), "[fe80::%4294967295]:0");
}

static void unix_addresses_come_back_as_they_were_written(void **state)
{
    static const char *const texts[] = {"unix:/run/x y.sock", "@name", "unix:rel"};
    char text[RDY_ADDRESS_TEXT_MAX];
    struct rdy_endpoint endpoint;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(rdy_endpoint_parse(texts[i], &endpoint), 0);
        assert_string_equal(rdy_address_format(&endpoint.address, text), texts[i]);
    }
}

/* What the kernel or another program made of it must not break the line that it is printed in. */
static void strange_addresses_are_one_printable_line(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    sa_family_t strange = AF_NETLINK;

    (void)state;
    assert_string_equal(text_of(&addr, PATH_OFFSET), "unix:");
    memcpy(addr.sun_path, "a\nb\x1b", 4);
    assert_string_equal(text_of(&addr, PATH_OFFSET + 4), "unix:a?b?"); /* without its zero */
    memcpy(addr.sun_path, "\0a\0b", 4);
    assert_string_equal(text_of(&addr, PATH_OFFSET + 4), "@a?b");
    memset(addr.sun_path, 'p', sizeof(addr.sun_path));
    assert_int_equal(strlen(text_of(&addr, sizeof(addr))), 5 + sizeof(addr.sun_path));
    assert_string_equal(text_of(&v4, sizeof(sa_family_t)), "?");
    assert_string_equal(text_of(&strange, sizeof(strange)), "?");
    assert_string_equal(text_of("", 0), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_and_a_port_are_taken_apart),
        cmocka_unit_test(text_that_is_none_or_could_be_read_two_ways_is_refused),
        cmocka_unit_test(a_host_has_253_bytes_at_most_and_perhaps_a_dot),
        cmocka_unit_test(a_unix_path_comes_with_its_zero_and_a_name_without),
        cmocka_unit_test(a_unix_address_that_does_not_fit_is_refused),
        cmocka_unit_test(addresses_are_written_as_they_are_read),
        cmocka_unit_test(unix_addresses_come_back_as_they_were_written),
        cmocka_unit_test(strange_addresses_are_one_printable_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
