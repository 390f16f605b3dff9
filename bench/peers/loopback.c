/* Ping-pong over the kernel's loopback device: both ends in one thread, with epoll.
 *
 *     loopback SIZE CONNECTIONS SECONDS WARM_UP      prints transactions and the seconds they took
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { EVENTS = 256 };

struct end {
    int fd;
    int client;
    size_t received;
};

static char *request, *buffer;
static size_t size;
static unsigned long long transactions;

static void send_all(int fd, const char *data, size_t n)
{
    ssize_t sent = send(fd, data, n, 0);

    if (sent != (ssize_t)n) {
        fprintf(stderr, "loopback: a write did not fit into the send buffer\n");
        exit(1);
    }
}

static void readable(struct end *e)
{
    ssize_t n = recv(e->fd, buffer, 1 << 16, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    check(n > 0 ? 0 : -1, "recv");
    if (!e->client) {
        send_all(e->fd, buffer, n);
        return;
    }
    e->received += n;
    if (e->received == size) {
        e->received = 0;
        transactions++;
        send_all(e->fd, request, size);
    }
}

static void run_until(int epoll, double end)
{
    struct epoll_event events[EVENTS];
    int n, i;

    do {
        n = epoll_wait(epoll, events, EVENTS, 100);
        for (i = 0; i < n; i++)
            readable(events[i].data.ptr);
    } while (seconds_now() < end);
}

static void add(int epoll, struct end *e, int fd, int client)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};

    e->fd = fd;
    e->client = client;
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct rlimit files;
    int listener, epoll, i, n;

    if (argc != 5)
        return fprintf(stderr, "loopback: arguments: SIZE CONNECTIONS SECONDS WARM_UP\n"), 1;
    size = strtoul(argv[1], NULL, 10);
    n = atoi(argv[2]);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    request = calloc(1, size);
    buffer = malloc(1 << 16);
    struct end *ends = calloc(2 * n, sizeof *ends);
    check(epoll = epoll_create1(0), "epoll_create1");
    check(listener = socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 128), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    for (i = 0; i < n; i++) {
        int ours = socket(AF_INET, SOCK_STREAM, 0);
        check(ours, "socket");
        check(connect(ours, (struct sockaddr *)&address, length), "connect");
        int theirs = accept(listener, NULL, NULL);
        check(theirs, "accept");
        add(epoll, &ends[2 * i], ours, 1);
        add(epoll, &ends[2 * i + 1], theirs, 0);
    }
    for (i = 0; i < n; i++)
        send_all(ends[2 * i].fd, request, size);
    run_until(epoll, seconds_now() + atof(argv[4]));
    transactions = 0;
    double begin = seconds_now();
    run_until(epoll, begin + atof(argv[3]));
    printf("%llu %.6f\n", transactions, seconds_now() - begin);
    return 0;
}
