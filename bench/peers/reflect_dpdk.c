/* What reflect.c does, by DPDK and its virtual device net_af_packet, as plainly as it goes: it never sleeps.
 *
 *     cc -O2 $(pkg-config --cflags libdpdk) reflect_dpdk.c $(pkg-config --libs libdpdk)
 *     reflect_dpdk dpdk DEVICE SECONDS                 prints frames and the seconds of CPU they took
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common.h"

enum { BURST = 64, CELLS = 8191, CACHE = 250, RING = 1024 };

static int turn(struct rte_mbuf *m)
{
    unsigned char *p = rte_pktmbuf_mtod(m, unsigned char *), station[6];

    if (m->data_len < 14 || p[12] != 0x88 || p[13] != 0xB5)
        return 0;
    memcpy(station, p, 6);
    memcpy(p, p + 6, 6);
    memcpy(p + 6, station, 6);
    return 1;
}

static void start(const char *device)
{
    char vdev[128], core[32];
    char *arguments[] = {"reflect", "--no-huge", "--no-shconf", "-m", "128", "--no-pci", "--no-telemetry", "--log-level", "warning",
                         "--lcores", core, "--vdev", vdev};
    struct rte_eth_conf settings = {0};
    struct rte_mempool *pool;

    snprintf(vdev, sizeof vdev, "net_af_packet0,iface=%s", device);
    snprintf(core, sizeof core, "0@%d", sched_getcpu());
    check(rte_eal_init(sizeof arguments / sizeof *arguments, arguments), "rte_eal_init");
    pool = rte_pktmbuf_pool_create("cells", CELLS, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    check(pool ? 0 : -1, "mbufs");
    check(rte_eth_dev_configure(0, 1, 1, &settings), "configure");
    check(rte_eth_rx_queue_setup(0, 0, RING, SOCKET_ID_ANY, NULL, pool), "receive queue");
    check(rte_eth_tx_queue_setup(0, 0, RING, SOCKET_ID_ANY, NULL), "transmit queue");
    check(rte_eth_dev_start(0), "start");
}

static unsigned long long reflect(double end)
{
    struct rte_mbuf *got[BURST], *back[BURST];
    unsigned long long frames = 0;

    while (seconds_now() < end) {
        int n = rte_eth_rx_burst(0, 0, got, BURST), kept = 0, sent = 0;

        for (int i = 0; i < n; i++) {
            if (turn(got[i]))
                back[kept++] = got[i];
            else
                rte_pktmbuf_free(got[i]);
        }
        while (sent < kept)
            sent += rte_eth_tx_burst(0, 0, back + sent, kept - sent);
        frames += kept;
    }
    return frames;
}

int main(int argc, char **argv)
{
    struct rusage before, used;
    unsigned long long frames;

    if (argc != 4) {
        fprintf(stderr, "usage: reflect_dpdk dpdk DEVICE SECONDS\n");
        return 2;
    }
    start(argv[2]);
    getrusage(RUSAGE_SELF, &before);
    frames = reflect(seconds_now() + atof(argv[3]));
    getrusage(RUSAGE_SELF, &used);
    printf("%llu %.6f\n", frames, used.ru_utime.tv_sec + used.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec
           + (used.ru_utime.tv_usec + used.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec) * 1e-6);
    return 0;
}
