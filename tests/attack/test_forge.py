"""The forger is right: its packets are those that the harness would build one by one."""
import numpy as np
import pytest

from tests.attack.forge import forge, strangers, template
from tests.harness.packets import ACK, SYN, opt_mss, parse_tcp


@pytest.mark.parametrize("version", [4, 6])
def test_forged_packets_are_well_formed(version):
    rng = np.random.default_rng(1)
    target = "10.0.0.1" if version == 4 else "fd00::1"
    base = template("10.0.0.2" if version == 4 else "fd00::2", target, 1, 80, SYN, options=opt_mss(1460), data=b"data")
    sources = strangers(rng, 50, version)
    seqs = rng.integers(0, 1 << 32, 50)
    packets = forge(base, 50, sources=sources, sport=np.arange(50) + 7, seq=seqs, ack=0xFFFFFFFF, flags=ACK, wnd=9)
    for i, raw in enumerate(packets):
        s = parse_tcp(raw)            # checks every checksum
        assert s.source.packed == sources[i].tobytes()
        assert (s.sport, s.dport, s.seq, s.ack, s.flags, s.wnd, s.data) == (i + 7, 80, seqs[i], 0xFFFFFFFF, ACK, 9, b"data")
        assert s.options.mss == 1460
