"""Addresses between Python and the engine: text or `ipaddress` objects outside, 16 bytes inside."""
import ipaddress

from iip.net.types cimport addr_bytes, addr_from4, addr_from6, addr_is4

from iip.errors import ConfigError


cdef int addr_parse(object value, Addr* out, str what) except -1:
    """An IPv4 or IPv6 address from text, packed bytes or an `ipaddress` object. `what` names it in the error."""
    cdef bytes raw
    if not isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        try:
            value = ipaddress.ip_address(value)
        except ValueError as error:
            raise ConfigError(f"{what}: {value!r} is not an IP address ({error}); "
                              "write it like 10.0.0.1 or fd00::1") from None
    raw = value.packed
    if len(raw) == 4:
        addr_from4(out, <const unsigned char*><const char*>raw)
    else:
        addr_from6(out, <const unsigned char*><const char*>raw)
    return 0


cdef object addr_object(const Addr* a):
    """An `ipaddress.IPv4Address` or `IPv6Address`."""
    cdef const unsigned char* p = addr_bytes(a)
    if addr_is4(a):
        return ipaddress.IPv4Address(<bytes>p[12:16])
    return ipaddress.IPv6Address(<bytes>p[:16])


def unpack(raw):
    """The `ipaddress` object of 16 raw bytes, as in the arrays of `Engine.connections` (IPv4 is mapped)."""
    value = ipaddress.IPv6Address(bytes(raw))
    return value.ipv4_mapped or value
