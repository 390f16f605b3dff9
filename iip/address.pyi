from ipaddress import IPv4Address, IPv6Address

from typing_extensions import Buffer

def unpack(raw: Buffer) -> IPv4Address | IPv6Address: ...
