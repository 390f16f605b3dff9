/* Sends Ethernet frames to a device and counts those that come back, at most WINDOW on their way at once.
 *
 *     flood DEVICE SIZE SECONDS WINDOW      prints frames that came back, and the seconds they took
 *
 * A frame that does not come back within 50 ms is given up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "common.h"

enum { BURST = 32, SLOT = 2048, SLOTS = 4096, KIND = 0x88B5 };

static int open_socket(const char *device, int protocol)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(device), .sll_protocol = htons(protocol)};

    check(fd, "socket");
    if (protocol) {
        int version = TPACKET_V2;
        struct tpacket_req ring = {SLOT * 2, SLOTS / 2, SLOT, SLOTS};
        check(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version), "PACKET_VERSION");
        check(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring), "PACKET_RX_RING");
    } else {
        int yes = 1;
        check(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes), "PACKET_QDISC_BYPASS");
    }
    check(bind(fd, (struct sockaddr *)&where, sizeof where), device);
    return fd;
}

int main(int argc, char **argv)
{
    static char frame[1514] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x09\x88\xb5";
    struct iovec piece = {frame, 0};
    struct mmsghdr batch[BURST];
    unsigned long long back = 0;
    long on_way = 0, window;
    unsigned at = 0;
    double begin, end, heard;
    int in, out;
    char *ring;

    if (argc != 5) {
        fprintf(stderr, "usage: flood DEVICE SIZE SECONDS WINDOW\n");
        return 2;
    }
    piece.iov_len = atoi(argv[2]);
    window = atol(argv[4]);
    if (piece.iov_len < 60 || piece.iov_len > sizeof frame || window < 1) {
        fprintf(stderr, "flood: SIZE is from 60 to %zu, WINDOW at least 1\n", sizeof frame);
        return 2;
    }
    in = open_socket(argv[1], KIND);
    out = open_socket(argv[1], 0);
    ring = mmap(0, SLOT * SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, in, 0);
    check(ring == MAP_FAILED ? -1 : 0, "mmap");
    memset(batch, 0, sizeof batch);
    for (int i = 0; i < BURST; i++) {
        batch[i].msg_hdr.msg_iov = &piece;
        batch[i].msg_hdr.msg_iovlen = 1;
    }
    begin = heard = seconds_now();
    end = begin + atof(argv[3]);
    for (double now = begin; now < end; now = seconds_now()) {
        long n = window - on_way < BURST ? window - on_way : BURST;
        int got = 0;

        if (n > 0 && (n = sendmmsg(out, batch, n, MSG_DONTWAIT)) > 0)
            on_way += n;
        for (;; at = (at + 1) % SLOTS) {
            struct tpacket2_hdr *h = (struct tpacket2_hdr *)(ring + (size_t)at * SLOT);
            struct sockaddr_ll *from = (struct sockaddr_ll *)((char *)h + TPACKET_ALIGN(sizeof *h));

            if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
                break;
            got += from->sll_pkttype != PACKET_OUTGOING;
            __atomic_store_n(&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        }
        back += got;
        on_way = on_way > got ? on_way - got : 0;
        if (got)
            heard = now;
        else if (now - heard > 0.05) {
            on_way = 0;
            heard = now;
        } else if (on_way == window) {
            struct pollfd one = {in, POLLIN, 0};
            poll(&one, 1, 10);
        }
    }
    printf("%llu %.6f\n", back, seconds_now() - begin);
    return 0;
}
