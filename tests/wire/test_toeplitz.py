"""The Toeplitz hash: the vectors of Microsoft's "Verifying the RSS Hash Calculation", and that the symmetric one is symmetric."""
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iip.wire.toeplitz import SYMMETRIC_KEY, symmetric_hash, symmetric_queue, toeplitz

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")

# destination, its port, source, its port, hash of the addresses, hash with the ports
VECTORS = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
]


def packed(source, destination, *ports):
    return (ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
            + b"".join(port.to_bytes(2, "big") for port in ports))


@pytest.mark.parametrize("vector", VECTORS)
def test_published_vectors(vector):
    destination, dport, source, sport, of_addresses, with_ports = vector
    assert toeplitz(packed(source, destination), KEY) == of_addresses
    assert toeplitz(packed(source, destination, sport, dport), KEY) == with_ports


ADDRESSES = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
PORTS = st.integers(0, 65535)


@given(ADDRESSES, PORTS, PORTS, st.integers(1, 128))
def test_both_directions_have_the_same_hash_which_is_the_definitions(addresses, sport, dport, queues):
    source, destination = addresses
    found = symmetric_hash(source, destination, sport, dport)
    assert found == symmetric_hash(destination, source, dport, sport)
    assert found == toeplitz(packed(source, destination, sport, dport), SYMMETRIC_KEY)
    assert symmetric_queue(source, destination, sport, dport, queues) == (found & 127) % queues


def test_a_key_that_is_too_short():
    with pytest.raises(ValueError, match="key"):
        toeplitz(bytes(12), bytes(15))
