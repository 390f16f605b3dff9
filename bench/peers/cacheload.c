/* Load for a cache server with memcached's text protocol: on every connection one request after the other, closed loop.
 *
 *     cacheload HOST PORT CONNECTIONS SIZE SECONDS     prints requests, seconds, and the median and 99th percentile in us
 *
 * One request in ten sets a value of SIZE bytes, the others get one; keys are those of the connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum { EVENTS = 256, STEP = 2, STEPS = 500000, ROOM = 1 << 20 };      /* histogram: steps of 2 us, up to a second */

struct connection {
    int fd, number;
    unsigned asked;
    size_t expected, received;
    double since;
};

static uint32_t histogram[STEPS];
static char buffer[ROOM];
static size_t size;

static void request(struct connection *c)
{
    size_t n;

    if (c->asked++ % 10 == 0) {
        n = sprintf(buffer, "set key%d 0 0 %zu\r\n", c->number, size);
        memset(buffer + n, 'x', size);
        memcpy(buffer + n + size, "\r\n", 2);
        n += size + 2;
        c->expected = strlen("STORED\r\n");
    } else {
        n = sprintf(buffer, "get key%d\r\n", c->number);
        c->expected = snprintf(0, 0, "VALUE key%d 0 %zu\r\n", c->number, size) + size + strlen("\r\nEND\r\n");
    }
    c->received = 0;
    c->since = seconds_now();
    check(send(c->fd, buffer, n, 0) == (ssize_t)n ? 0 : -1, "send");
}

static void answered(struct connection *c)
{
    double took = (seconds_now() - c->since) * 1e6 / STEP;

    histogram[took < STEPS ? (int)took : STEPS - 1]++;
}

static int percentile(unsigned long long total, double share)
{
    unsigned long long seen = 0;
    int i = 0;

    while (i < STEPS - 1 && (seen += histogram[i]) < total * share)
        i++;
    return i * STEP;
}

static void dial(struct connection *c, const struct sockaddr_in *to, int poller)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int yes = 1;

    check(c->fd = socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(connect(c->fd, (const struct sockaddr *)to, sizeof *to), "connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    check(epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event), "epoll_ctl");
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct epoll_event events[EVENTS];
    struct connection *all;
    unsigned long long done = 0;
    int poller = epoll_create1(0), n;
    double begin, end;

    if (argc != 6 || (size = strtoul(argv[4], 0, 10)) > ROOM - 200 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: cacheload ADDRESS PORT CONNECTIONS SIZE SECONDS\n");
        return 2;
    }
    to.sin_port = htons(atoi(argv[2]));
    n = atoi(argv[3]);
    all = calloc(n, sizeof *all);
    check(all ? 0 : -1, "memory");
    for (int i = 0; i < n; i++) {
        all[i].number = i;
        dial(&all[i], &to, poller);
    }
    begin = seconds_now();
    end = begin + atof(argv[5]);
    for (int i = 0; i < n; i++)
        request(&all[i]);
    while (seconds_now() < end) {
        int ready = epoll_wait(poller, events, EVENTS, 100);

        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);

            check(got > 0 ? 0 : -1, "the server closed a connection");
            c->received += got;
            if (c->received < c->expected)
                continue;
            answered(c);
            done++;
            request(c);
        }
    }
    printf("%llu %.6f %d %d\n", done, seconds_now() - begin, percentile(done, 0.5), percentile(done, 0.99));
    return 0;
}
