"""How drivers of one device share packets: the symmetric Toeplitz hash of addresses and ports, as BPF that the kernel runs, for
packet sockets the classic (`program`), for TAP and TUN devices the extended (`steering`).

It is the hash by which network devices spread packets over their queues, with the key 0x6D5A, repeated: both directions of a
connection get the same. Since that key repeats after 16 bits, it is enough to hash the sum of the 16-bit words. The socket is that
of the last seven bits, counted by the order in which sockets joined. Fragments, and what is neither TCP nor UDP, go to the first.
"""
from __future__ import annotations

import struct
import sys

from iip.drivers import xdp

_LDH, _LDB, _LDH_X, _LDX_MSH, _LD_MEM, _LDX_MEM, _ST, _TAX = 0x28, 0x30, 0x48, 0xB1, 0x60, 0x61, 0x02, 0x07
_LD_K, _XOR_X, _XOR_K, _JA, _JEQ, _JSET, _RET_K, _RET_A = 0x00, 0xAC, 0xA4, 0x05, 0x15, 0x45, 0x06, 0x16
_NET = 0xFFF00000                 # SKF_NET_OFF: from the IP header on
_ETHERTYPE = 0xFFFFF000           # SKF_AD_OFF + SKF_AD_PROTOCOL
_TCP, _UDP = 6, 17
_SUM, _HASH = 0, 1                # words of memory
_KEY, _MASK = 0x6D5A6D5A, 127

Line = tuple[int, "int | str", "int | str", "int | str"]      # opcode, jump if true, jump if false, operand


def _sum(first: int, last: int) -> list[Line | str]:
    """The sum (exclusive or) of the 16-bit words from one offset to another."""
    lines: list[Line | str] = [(_LDH, 0, 0, _NET + first)]
    for at in range(first + 2, last + 1, 2):
        lines += [(_TAX, 0, 0, 0), (_LDH, 0, 0, _NET + at), (_XOR_X, 0, 0, 0)]
    return lines


def _flow(at: int, label: str) -> list[Line | str]:
    """On to `label` with TCP and UDP, whose number is at that offset."""
    return [(_LDB, 0, 0, _NET + at), (_JEQ, label, 0, _TCP), (_JEQ, label, 0, _UDP), (_RET_K, 0, 0, 0), label]


def program() -> bytes:
    """Memory is written before it is read, as the kernel wants it."""
    code: list[Line | str] = [(_LD_K, 0, 0, 0), (_ST, 0, 0, _HASH), (_LDH, 0, 0, _ETHERTYPE), (_JEQ, "ip4", 0, 0x0800),
                              (_JEQ, "ip6", 0, 0x86DD), (_RET_K, 0, 0, 0)]
    code += ["ip6", *_flow(6, "flow6"), *_sum(8, 42), (_JA, 0, 0, "hash")]
    code += ["ip4", *_flow(9, "flow4"), (_LDH, 0, 0, _NET + 6), (_JSET, 0, "whole", 0x3FFF), (_RET_K, 0, 0, 0),
             "whole", *_sum(12, 18), (_ST, 0, 0, _SUM)]
    for port in (0, 2):
        code += [(_LDX_MSH, 0, 0, _NET), (_LDH_X, 0, 0, _NET + port), (_LDX_MEM, 0, 0, _SUM), (_XOR_X, 0, 0, 0), (_ST, 0, 0, _SUM)]
    code += ["hash", (_ST, 0, 0, _SUM)]
    for bit in range(16):
        key = (_KEY << bit | _KEY >> (32 - bit)) & _MASK
        after = f"bit{bit}"
        code += [(_LD_MEM, 0, 0, _SUM), (_JSET, 0, after, 0x8000 >> bit), (_LD_MEM, 0, 0, _HASH), (_XOR_K, 0, 0, key),
                 (_ST, 0, 0, _HASH), after]
    code += [(_LD_MEM, 0, 0, _HASH), (_RET_A, 0, 0, 0)]
    return _assemble(code)


def _assemble(code: list[Line | str]) -> bytes:
    labels: dict[str, int] = {}
    lines: list[Line] = []
    for line in code:
        if isinstance(line, str):
            labels[line] = len(lines)
        else:
            lines.append(line)

    def value(operand: int | str, at: int) -> int:
        return operand if isinstance(operand, int) else labels[operand] - at - 1

    return b"".join(struct.pack("HBBI", op, *(value(x, at) for x in operands)) for at, (op, *operands) in enumerate(lines))


# -- the same for TAP and TUN devices ------------------------------------------------------------------------

_E_MOV, _E_MOV_K, _E_XOR, _E_XOR_K, _E_AND_K, _E_LSH_K = 0xBF, 0xB7, 0xAF, 0xA7, 0x57, 0x67
_E_LDW, _E_JSET_K, _E_JA, _E_EXIT, _E_JEQ32_K = 0x61, 0x45, 0x05, 0x95, 0x16
_PROTOCOL = 16                    # field of struct __sk_buff


def steering() -> bytes:
    """Bytecode of a socket filter that returns the number of the queue, before it is bounded by how many there are.

    r6 is the packet, r7 the sum, r8 the hash; loads from the packet put their result in r0."""
    def load(opcode: int, at: int, index: int = 0) -> xdp.Instruction:
        return opcode, 0, index, 0, _NET + at - (1 << 32)

    def flow(at: int, label: str) -> list[xdp.Instruction | str]:
        return [load(_LDB, at), (_E_JEQ32_K, 0, 0, label, _TCP), (_E_JEQ32_K, 0, 0, label, _UDP), (_E_JA, 0, 0, "first", 0), label]

    def add(*loads: xdp.Instruction) -> list[xdp.Instruction | str]:
        return [line for one in loads for line in (one, (_E_XOR, 7, 0, 0, 0))]

    four, six = (int.from_bytes(kind, sys.byteorder) for kind in (b"\x08\x00", b"\x86\xdd"))
    code: list[xdp.Instruction | str] = [
        (_E_MOV, 6, 1, 0, 0), (_E_MOV_K, 7, 0, 0, 0), (_E_MOV_K, 8, 0, 0, 0), (_E_LDW, 2, 6, _PROTOCOL, 0),
        (_E_JEQ32_K, 2, 0, "ip4", four), (_E_JEQ32_K, 2, 0, "ip6", six), "first", (_E_MOV_K, 0, 0, 0, 0), (_E_EXIT, 0, 0, 0, 0),
        "ip6", *flow(6, "flow6"), *add(*(load(_LDH, at) for at in range(8, 44, 2))), (_E_JA, 0, 0, "hash", 0),
        "ip4", *flow(9, "flow4"), load(_LDH, 6), (_E_JSET_K, 0, 0, "first", 0x3FFF),
        *add(*(load(_LDH, at) for at in range(12, 20, 2))),
        load(_LDB, 0), (_E_AND_K, 0, 0, 0, 15), (_E_LSH_K, 0, 0, 0, 2), (_E_MOV, 9, 0, 0, 0),
        *add(load(_LDH_X, 0, 9), load(_LDH_X, 2, 9)), "hash"]
    for bit in range(16):
        key = (_KEY << bit | _KEY >> (32 - bit)) & _MASK
        code += [(_E_JSET_K, 7, 0, 1, 0x8000 >> bit), (_E_JA, 0, 0, 1, 0), (_E_XOR_K, 8, 0, 0, key)]
    return xdp.assemble([*code, (_E_MOV, 0, 8, 0, 0), (_E_EXIT, 0, 0, 0, 0)])
