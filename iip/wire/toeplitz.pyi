from ipaddress import IPv4Address, IPv6Address

_Address = str | IPv4Address | IPv6Address

SYMMETRIC_KEY: bytes

def toeplitz(data: bytes, key: bytes = ...) -> int: ...
def symmetric_hash(
    source: _Address, destination: _Address, source_port: int = 0, destination_port: int = 0
) -> int: ...
def symmetric_queue(
    source: _Address, destination: _Address, source_port: int, destination_port: int, queues: int
) -> int: ...
