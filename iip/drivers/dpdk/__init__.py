"""Devices by DPDK (https://www.dpdk.org): an optional part of iip, which is built on request for the DPDK that is installed."""
try:
    from iip.drivers.dpdk.driver import Dpdk
    from iip.drivers.dpdk.port import initialize
except ImportError as _error:
    from iip.drivers.dpdk.eal import missing

    raise missing(_error) from None

__all__ = ["Dpdk", "initialize"]
