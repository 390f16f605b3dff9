/* Sends Ethernet frames of EtherType 0x88B5 back, by the interfaces of Linux that iip has drivers for, as plainly as it goes.
 *
 *     reflect tap|af_packet|af_xdp DEVICE SECONDS      prints frames and the seconds of CPU they took
 *
 * tap: one read and one write for each frame. af_packet: TPACKET_V2 rings, one send for each burst. af_xdp: one buffer for rx and tx.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { BURST = 64, CELL = 2048, CELLS = 4096, RING = 2048, SLOT = 2048, SLOTS = 4096, TX_DATA = 32 };

static unsigned long long frames;

static int turn(unsigned char *p, size_t n)
{
    unsigned char station[6];

    if (n < 14 || p[12] != 0x88 || p[13] != 0xB5)
        return 0;
    memcpy(station, p, 6);
    memcpy(p, p + 6, 6);
    memcpy(p + 6, station, 6);
    frames++;
    return 1;
}

static void wait_for(int fd)
{
    struct pollfd one = {fd, POLLIN, 0};

    poll(&one, 1, 10);
}

/* -- tap ------------------------------------------------------------------------------------------------------- */

static void tap(const char *device, double end)
{
    static unsigned char frame[CELL];
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

    check(fd, "/dev/net/tun");
    strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    check(ioctl(fd, TUNSETIFF, &request), device);
    while (seconds_now() < end) {
        int got = 0;

        while (got < BURST) {
            ssize_t n = read(fd, frame, sizeof frame);
            if (n < 0)
                break;
            got++;
            if (turn(frame, n))
                check(write(fd, frame, n), "write");
        }
        if (!got)
            wait_for(fd);
    }
}

/* -- af_packet ------------------------------------------------------------------------------------------------- */

static int packet_socket(const char *device, int option, int protocol, char **ring)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V2, yes = 1;
    struct tpacket_req request = {SLOT * 2, SLOTS / 2, SLOT, SLOTS};
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(device), .sll_protocol = htons(protocol)};

    check(fd, "socket");
    check(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version), "PACKET_VERSION");
    if (option == PACKET_TX_RING)
        check(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes), "PACKET_QDISC_BYPASS");
    else
        check(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes), "PACKET_IGNORE_OUTGOING");
    check(setsockopt(fd, SOL_PACKET, option, &request, sizeof request), "ring");
    *ring = mmap(0, SLOT * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(*ring == MAP_FAILED ? -1 : 0, "mmap");
    check(bind(fd, (struct sockaddr *)&where, sizeof where), device);
    return fd;
}

static void af_packet(const char *device, double end)
{
    char *rx, *tx;
    int in = packet_socket(device, PACKET_RX_RING, 3, &rx), out = packet_socket(device, PACKET_TX_RING, 0, &tx);
    unsigned at = 0, to = 0;

    while (seconds_now() < end) {
        int got = 0, send_some = 0;

        for (; got < BURST; got++, at = (at + 1) % SLOTS) {
            struct tpacket2_hdr *h = (struct tpacket2_hdr *)(rx + (size_t)at * SLOT);
            struct tpacket2_hdr *t = (struct tpacket2_hdr *)(tx + (size_t)to * SLOT);
            unsigned char *frame = (unsigned char *)h + h->tp_mac;

            if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
                break;
            if (turn(frame, h->tp_snaplen)) {
                while (__atomic_load_n(&t->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
                    send(out, 0, 0, 0);
                memcpy((char *)t + TX_DATA, frame, h->tp_snaplen);
                t->tp_len = h->tp_snaplen;
                __atomic_store_n(&t->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
                to = (to + 1) % SLOTS;
                send_some = 1;
            }
            __atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        }
        if (send_some)
            send(out, 0, 0, MSG_DONTWAIT);
        if (!got)
            wait_for(in);
    }
}

/* -- af_xdp ---------------------------------------------------------------------------------------------------- */

struct ring {
    uint32_t *producer, *consumer, *flags, at;
    char *entries;
};

static struct ring map_ring(int fd, struct xdp_ring_offset *o, size_t entry, off_t page)
{
    char *p = mmap(0, o->desc + RING * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, page);

    check(p == MAP_FAILED ? -1 : 0, "mmap");
    return (struct ring){(uint32_t *)(p + o->producer), (uint32_t *)(p + o->consumer), (uint32_t *)(p + o->flags), 0, p + o->desc};
}

static int bpf(int command, union bpf_attr *attributes)
{
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

/* Everything to the socket of its queue: the link that holds the program. */
static int attach(const char *device, int table)
{
    struct bpf_insn code[] = {
        {BPF_LDX | BPF_W | BPF_MEM, 2, 1, 16, 0},
        {BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, table}, {0, 0, 0, 0, 0},
        {BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_PASS},
        {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    union bpf_attr load = {0}, link = {0};
    int fd;

    load.prog_type = BPF_PROG_TYPE_XDP;
    load.insn_cnt = sizeof code / sizeof *code;
    load.insns = (uintptr_t)code;
    load.license = (uintptr_t)"BSD";
    load.expected_attach_type = BPF_XDP;
    check(link.link_create.prog_fd = bpf(BPF_PROG_LOAD, &load), "BPF_PROG_LOAD");
    link.link_create.target_ifindex = if_nametoindex(device);
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = 4;                          /* in the device's driver, */
    fd = bpf(BPF_LINK_CREATE, &link);
    if (fd < 0) {
        link.link_create.flags = 2;                      /* or behind it */
        fd = bpf(BPF_LINK_CREATE, &link);
    }
    check(fd, "BPF_LINK_CREATE");
    return fd;
}

static void af_xdp(const char *device, double end)
{
    int fd = socket(AF_XDP, SOCK_RAW, 0), size = RING, zero = 0;
    char *cells = mmap(0, CELL * CELLS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct xdp_umem_reg umem = {.addr = (uintptr_t)cells, .len = CELL * CELLS, .chunk_size = CELL};
    struct sockaddr_xdp where = {AF_XDP, XDP_USE_NEED_WAKEUP, if_nametoindex(device), 0, 0};
    struct xdp_mmap_offsets o;
    socklen_t n = sizeof o;
    union bpf_attr table = {0}, update = {0};
    struct ring rx, tx, fill, sent;

    check(fd, "socket");
    check(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem), "XDP_UMEM_REG");
    check(setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &size, sizeof size), "fill ring");
    check(setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &size, sizeof size), "completion ring");
    check(setsockopt(fd, SOL_XDP, XDP_RX_RING, &size, sizeof size), "rx ring");
    check(setsockopt(fd, SOL_XDP, XDP_TX_RING, &size, sizeof size), "tx ring");
    check(getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &n), "XDP_MMAP_OFFSETS");
    rx = map_ring(fd, &o.rx, 16, XDP_PGOFF_RX_RING);
    tx = map_ring(fd, &o.tx, 16, XDP_PGOFF_TX_RING);
    fill = map_ring(fd, &o.fr, 8, XDP_UMEM_PGOFF_FILL_RING);
    sent = map_ring(fd, &o.cr, 8, XDP_UMEM_PGOFF_COMPLETION_RING);
    for (; fill.at < RING; fill.at++)
        ((uint64_t *)fill.entries)[fill.at] = (uint64_t)fill.at * CELL;
    __atomic_store_n(fill.producer, fill.at, __ATOMIC_RELEASE);
    check(bind(fd, (struct sockaddr *)&where, sizeof where), "bind");
    table.map_type = BPF_MAP_TYPE_XSKMAP;
    table.key_size = table.value_size = 4;
    table.max_entries = 1;
    check(update.map_fd = bpf(BPF_MAP_CREATE, &table), "BPF_MAP_CREATE");
    attach(device, update.map_fd);
    update.key = (uintptr_t)&zero;
    update.value = (uintptr_t)&fd;
    check(bpf(BPF_MAP_UPDATE_ELEM, &update), "BPF_MAP_UPDATE_ELEM");
    while (seconds_now() < end) {
        uint32_t done = __atomic_load_n(sent.producer, __ATOMIC_ACQUIRE);
        uint32_t there = __atomic_load_n(rx.producer, __ATOMIC_ACQUIRE), to = tx.at;
        int got = 0;

        for (; sent.at != done; sent.at++)
            ((uint64_t *)fill.entries)[fill.at++ % RING] = ((uint64_t *)sent.entries)[sent.at % RING];
        for (; got < BURST && rx.at != there; got++, rx.at++) {
            struct xdp_desc *d = (struct xdp_desc *)rx.entries + rx.at % RING;
            if (turn((unsigned char *)cells + d->addr, d->len))
                ((struct xdp_desc *)tx.entries)[tx.at++ % RING] = *d;
            else
                ((uint64_t *)fill.entries)[fill.at++ % RING] = d->addr;
        }
        __atomic_store_n(sent.consumer, sent.at, __ATOMIC_RELEASE);
        __atomic_store_n(rx.consumer, rx.at, __ATOMIC_RELEASE);
        __atomic_store_n(fill.producer, fill.at, __ATOMIC_RELEASE);
        __atomic_store_n(tx.producer, tx.at, __ATOMIC_RELEASE);
        while (tx.at != to && __atomic_load_n(tx.consumer, __ATOMIC_ACQUIRE) != tx.at)
            sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0);
        if (!got)
            wait_for(fd);
    }
}

int main(int argc, char **argv)
{
    void (*kinds[])(const char *, double) = {tap, af_packet, af_xdp};
    const char *names[] = {"tap", "af_packet", "af_xdp"};
    struct rusage used;

    for (int i = 0; argc == 4 && i < 3; i++) {
        if (!strcmp(argv[1], names[i])) {
            kinds[i](argv[2], seconds_now() + atof(argv[3]));
            getrusage(RUSAGE_SELF, &used);
            printf("%llu %.6f\n", frames, used.ru_utime.tv_sec + used.ru_stime.tv_sec
                   + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
            return 0;
        }
    }
    fprintf(stderr, "usage: reflect tap|af_packet|af_xdp DEVICE SECONDS\n");
    return 2;
}
