/* Ping-pong in lwIP through its raw interface: two network interfaces of one stack, each bound to its own connections
 * and linked by a queue, so that every packet goes down through one and up through the other.
 *
 *     lwip SIZE CONNECTIONS SECONDS WARM_UP      prints transactions and the seconds they took
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lwip/init.h>
#include <lwip/ip4.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>

#include "common.h"

enum { QUEUE = 1 << 16, PORT = 7 };

struct packet {
    struct pbuf *p;
    struct netif *to;
};

struct exchange {
    size_t received;
};

static struct netif netif_a, netif_b;
static struct packet queue[QUEUE];
static unsigned head, tail;
static char *request;
static size_t size;
static unsigned connected;
static unsigned long long transactions;

static void fail(const char *what)
{
    fprintf(stderr, "lwip: %s\n", what);
    exit(1);
}

/* -- the wire: lwIP keeps what it sends for retransmission, so the other side gets a copy ------------------------- */

static err_t transmit(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
    struct pbuf *copy = pbuf_clone(PBUF_RAW, PBUF_RAM, p);

    (void)to;
    if (copy == NULL || tail - head == QUEUE)
        fail("no memory for a packet");
    queue[tail % QUEUE].p = copy;
    queue[tail % QUEUE].to = netif == &netif_a ? &netif_b : &netif_a;
    tail++;
    return ERR_OK;
}

static err_t init_netif(struct netif *netif)
{
    netif->name[0] = 'm';
    netif->name[1] = netif == &netif_a ? 'a' : 'b';
    netif->output = transmit;
    netif->mtu = 1500;
    return ERR_OK;
}

static void add(struct netif *netif, unsigned net)
{
    ip4_addr_t address, mask, gateway;

    IP4_ADDR(&address, 10, 0, net, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 0, net, 2);
    if (netif_add(netif, &address, &mask, &gateway, NULL, init_netif, ip4_input) == NULL)
        fail("no interface");
    netif_set_link_up(netif);
    netif_set_up(netif);
}

static void run_until(double end)
{
    unsigned i = 0;

    while (1) {
        while (head != tail) {
            struct packet k = queue[head++ % QUEUE];
            if (k.to->input(k.p, k.to) != ERR_OK)
                pbuf_free(k.p);
            if (++i % 64 == 0)
                break;
        }
        sys_check_timeouts();
        if (seconds_now() >= end)
            return;
    }
}

/* -- the server sends every byte back, the client sends the next request when the answer is complete -------------- */

static err_t send_all(struct tcp_pcb *pcb, const void *data, u16_t n)
{
    if (tcp_write(pcb, data, n, TCP_WRITE_FLAG_COPY) != ERR_OK)
        fail("a write did not fit into the send buffer");
    return ERR_OK;
}

static err_t server_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
    (void)arg;
    (void)error;
    if (p == NULL)
        return tcp_close(pcb);
    tcp_recved(pcb, p->tot_len);
    for (struct pbuf *q = p; q != NULL; q = q->next)
        send_all(pcb, q->payload, q->len);
    tcp_output(pcb);
    pbuf_free(p);
    return ERR_OK;
}

static err_t server_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
    (void)arg;
    (void)error;
    tcp_nagle_disable(pcb);
    tcp_recv(pcb, server_recv);
    return ERR_OK;
}

static err_t client_send(struct tcp_pcb *pcb)
{
    send_all(pcb, request, (u16_t)size);
    return tcp_output(pcb);
}

static err_t client_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
    struct exchange *x = arg;

    (void)error;
    if (p == NULL)
        fail("a connection was closed");
    x->received += p->tot_len;
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    if (x->received < size)
        return ERR_OK;
    x->received = 0;
    transactions++;
    return client_send(pcb);
}

static err_t client_connected(void *arg, struct tcp_pcb *pcb, err_t error)
{
    (void)arg;
    (void)error;
    connected++;
    return client_send(pcb);
}

static void start_server(void)
{
    struct tcp_pcb *pcb = tcp_new();

    tcp_bind(pcb, netif_ip_addr4(&netif_b), PORT);
    tcp_bind_netif(pcb, &netif_b);
    pcb = tcp_listen_with_backlog(pcb, 255);
    if (pcb == NULL)
        fail("cannot listen");
    tcp_accept(pcb, server_accept);
}

static void start_client(struct exchange *x)
{
    struct tcp_pcb *pcb = tcp_new();

    if (pcb == NULL || tcp_bind(pcb, netif_ip_addr4(&netif_a), 0) != ERR_OK)
        fail("no room for a connection");
    tcp_bind_netif(pcb, &netif_a);
    tcp_nagle_disable(pcb);
    tcp_arg(pcb, x);
    tcp_recv(pcb, client_recv);
    if (tcp_connect(pcb, netif_ip_addr4(&netif_b), PORT, client_connected) != ERR_OK)
        fail("cannot connect");
}

int main(int argc, char **argv)
{
    unsigned connections, i;
    double begin, end;

    if (argc != 5)
        fail("arguments: SIZE CONNECTIONS SECONDS WARM_UP");
    size = strtoul(argv[1], NULL, 10);
    connections = strtoul(argv[2], NULL, 10);
    if (size == 0 || size > TCP_SND_BUF / 2)
        fail("SIZE does not fit into half of the send buffer");
    request = calloc(1, size);
    struct exchange *exchanges = calloc(connections, sizeof *exchanges);
    lwip_init();
    add(&netif_a, 1);
    add(&netif_b, 2);
    start_server();
    for (i = 0; i < connections; i++) {
        start_client(&exchanges[i]);
        if (i % 64 == 63)
            run_until(seconds_now() + 0.002);
    }
    end = seconds_now() + 10;
    while (connected < connections) {
        run_until(seconds_now() + 0.01);
        if (seconds_now() > end)
            fail("not all connections were established");
    }
    run_until(seconds_now() + atof(argv[4]));
    transactions = 0;
    begin = seconds_now();
    run_until(begin + atof(argv[3]));
    printf("%llu %.6f\n", transactions, seconds_now() - begin);
    return 0;
}
