"""A WireGuard tunnel with iip inside: no device, no root, no kernel module on this side. The peer is any WireGuard.

    pip install cryptography iip
    python examples/wireguard.py PRIVATE_KEY PEER_PUBLIC_KEY 192.0.2.1:51820 10.7.0.2/24 http://10.7.0.1/file

fetches the file through the tunnel and prints its size and SHA-256. Keys are in base64, as `wg genkey` and `wg pubkey` print them.

The handshake is Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as https://www.wireguard.com/protocol/ describes it; we are always the
initiator, and make new keys every two minutes. Cookies (a peer under load) are not answered.
"""
import asyncio
import base64
import hashlib
import hmac
import os
import struct
import sys
import time
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from iip.aio import Tunnel

INITIATION, RESPONSE, DATA = 1, 2, 4          # types of messages
REKEY, REJECT, RETRY, KEEPALIVE = 120, 180, 5, 10     # seconds
WINDOW = 2048                     # counters within which packets may overtake each other
MTU = 1420


def digest(*parts):
    return hashlib.blake2s(b"".join(parts)).digest()


def derive(key, data, n):
    """HKDF: n keys."""
    secret = hmac.digest(key, data, "blake2s")
    keys, last = [], b""
    for i in range(1, n + 1):
        last = hmac.digest(secret, last + bytes([i]), "blake2s")
        keys.append(last)
    return keys


def seal(key, counter, plain, also=b""):
    return ChaCha20Poly1305(key).encrypt(bytes(4) + struct.pack("<Q", counter), plain, also)


def unseal(key, counter, sealed, also=b""):
    return ChaCha20Poly1305(key).decrypt(bytes(4) + struct.pack("<Q", counter), sealed, also)


def tai64n():
    nanoseconds = time.time_ns()
    return struct.pack(">QI", (1 << 62) + 10 + nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)


class Handshake:
    """One, from our initiation to the peer's response."""

    def __init__(self, private, peer):
        self.private, self.peer, self.index = private, X25519PublicKey.from_public_bytes(peer), os.urandom(4)
        self.ephemeral = X25519PrivateKey.generate()
        ours, public = self.ephemeral.public_key().public_bytes_raw(), private.public_key().public_bytes_raw()
        self.chain = digest(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
        self.hash = digest(digest(self.chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"), peer)
        self.mix(ours)
        (self.chain,) = derive(self.chain, ours, 1)
        static = self.sealed(self.ephemeral, public)
        stamp = self.sealed(private, tai64n())
        body = struct.pack("<I", INITIATION) + self.index + ours + static + stamp
        key = digest(b"mac1----", peer)
        self.message = body + hashlib.blake2s(body, digest_size=16, key=key).digest() + bytes(16)

    def mix(self, data):
        self.hash = digest(self.hash, data)

    def sealed(self, own, plain):
        self.chain, key = derive(self.chain, own.exchange(self.peer), 2)
        out = seal(key, 0, plain, self.hash)
        self.mix(out)
        return out

    def finish(self, message):
        """The keys, of the peer's response; raises InvalidTag if it is not the peer's."""
        theirs = message[12:44]
        self.mix(theirs)
        (self.chain,) = derive(self.chain, theirs, 1)
        point = X25519PublicKey.from_public_bytes(theirs)
        for own in (self.ephemeral, self.private):
            (self.chain,) = derive(self.chain, own.exchange(point), 1)
        self.chain, extra, key = derive(self.chain, bytes(32), 3)      # no preshared key
        self.mix(extra)
        unseal(key, 0, message[44:60], self.hash)
        return Session(self.index, message[4:8], *derive(self.chain, b"", 2))


class Session:
    """The keys of both directions."""

    def __init__(self, ours, theirs, sending, receiving):
        self.ours, self.theirs, self.sending, self.receiving = ours, theirs, sending, receiving
        self.made = self.sent = time.monotonic()
        self.counter = 0
        self.newest, self.seen = -1, 0

    def pack(self, packet):
        padded = packet + bytes(-len(packet) % 16)
        out = struct.pack("<I4sQ", DATA, self.theirs, self.counter) + seal(self.sending, self.counter, padded)
        self.counter += 1
        self.sent = time.monotonic()
        return out

    def unpack(self, message):
        """The packet; b"" is a keepalive, None a packet that came before."""
        counter = int.from_bytes(message[8:16], "little")
        plain = unseal(self.receiving, counter, message[16:])
        if counter > self.newest:
            self.seen = (self.seen << min(counter - self.newest, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.newest = counter
        else:
            bit = 1 << (self.newest - counter)
            if bit >= 1 << WINDOW or self.seen & bit:
                return None
            self.seen |= bit
        if not plain:
            return b""
        length = int.from_bytes(plain[2:4], "big") if plain[0] >> 4 == 4 else 40 + int.from_bytes(plain[4:6], "big")
        return plain[:length]


class WireGuard(asyncio.DatagramProtocol):
    """The outside of the tunnel: UDP to the peer. `received` is given the packets that come out."""

    received = staticmethod(len)              # nobody, at first

    def __init__(self, private, peer):
        self.private, self.peer = private, peer
        self.handshake, self.sessions, self.ready = None, [], asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        try:
            kind = int.from_bytes(data[:4], "little")
            if kind == RESPONSE and len(data) == 92 and self.handshake is not None and data[8:12] == self.handshake.index:
                session = self.handshake.finish(data)
                self.handshake, self.sessions = None, [session, *self.sessions[:1]]
                self.transport.sendto(session.pack(b""))      # the peer sends nothing before
                self.ready.set()
            elif kind == DATA and len(data) >= 32:
                for session in self.sessions:
                    if session.ours == data[4:8] and time.monotonic() - session.made < REJECT:
                        packet = session.unpack(data)
                        if packet:
                            self.received(packet)
        except (InvalidTag, ValueError):
            pass                  # not the peer's

    def send(self, packets):
        if self.sessions and time.monotonic() - self.sessions[0].made < REJECT:
            for packet in packets:
                self.transport.sendto(self.sessions[0].pack(packet))

    async def keep(self):
        """Keys while there are none or they are old; keepalives."""
        while True:
            now = time.monotonic()
            if not self.sessions or now - self.sessions[0].made > REKEY:
                self.handshake = Handshake(self.private, self.peer)
                self.transport.sendto(self.handshake.message)
                await asyncio.sleep(RETRY)
            else:
                if now - self.sessions[0].sent > KEEPALIVE:
                    self.send([b""])
                await asyncio.sleep(1)


async def fetch(stack, url):
    """The body of an answer to GET."""
    parts = urlsplit(url)
    reader, writer = await stack.open_connection(parts.hostname, parts.port or 80)
    writer.write(f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode(), body


async def main(private, peer, endpoint, address, url):
    host, _, port = endpoint.rpartition(":")
    outside = WireGuard(X25519PrivateKey.from_private_bytes(base64.b64decode(private)), base64.b64decode(peer))
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: outside, remote_addr=(host.strip("[]"), int(port)))
    async with Tunnel(mtu=MTU, addresses=[address], output=outside.send) as stack:
        outside.received = stack.feed
        keeper = asyncio.create_task(outside.keep())
        await asyncio.wait_for(outside.ready.wait(), 20)
        status, body = await fetch(stack, url)
        print(status, len(body), hashlib.sha256(body).hexdigest())
        keeper.cancel()
    outside.transport.close()


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
