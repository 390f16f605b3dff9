"""Names for what a device can do."""
from enum import IntFlag


class Capability(IntFlag):
    """What a device does, so that the engine need not (`Driver.caps`)."""

    RX_IP_CSUM = 0x01                 # verifies IPv4 header checksums
    RX_L4_CSUM = 0x02                 # verifies TCP and UDP checksums
    TX_IP_CSUM = 0x04                 # completes IPv4 header checksums
    TX_L4_CSUM = 0x08                 # completes TCP and UDP checksums
    SG = 0x10                         # sends packets in several pieces
    TSO4 = 0x20                       # cuts TCP segments, IPv4
    TSO6 = 0x40                       # cuts TCP segments, IPv6
    LRO = 0x80                        # may hand in TCP segments larger than the MTU
