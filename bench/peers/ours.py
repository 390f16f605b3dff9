"""Ping-pong between two engines of iip on a memory link: both in one thread.

    python ours.py cython|python|batch OFFLOAD SIZE CONNECTIONS SECONDS WARM_UP   prints transactions and their seconds

OFFLOAD: 1 leaves checksums to the link, as the kernel's loopback device does; 0 computes them, as lwIP does.
"""
import sys

from bench import worlds

if __name__ == "__main__":
    handler, offload = sys.argv[1], bool(int(sys.argv[2]))
    size, connections = int(sys.argv[3]), int(sys.argv[4])
    pair, client = worlds.pingpong(handler=handler, size=size, connections=connections, checksum_offload=offload)
    client.run(pair.a, pair.b, float(sys.argv[6]))
    client.forget()
    took = client.run(pair.a, pair.b, float(sys.argv[5]))
    print(client.transactions, took)
