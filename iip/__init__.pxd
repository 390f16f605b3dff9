"""What extensions cimport."""
from iip.drivers.base cimport Driver
from iip.engine cimport API_VERSION, Datagram, Engine, NativeHandler, SynInfo
from iip.memory.pool cimport PacketPool
from iip.net.types cimport Addr
from iip.tcp.options cimport (
    CO_CORK, CO_KEEPALIVE, CO_KEEPALIVE_IDLE, CO_KEEPALIVE_INTERVAL, CO_KEEPALIVE_PROBES, CO_LINGER, CO_MAX_SEG, CO_NODELAY,
    CO_PAUSED, CO_QUICKACK, CO_RECEIVE_BUFFER, CO_SEND_BUFFER, CO_TRAFFIC_CLASS, CO_TTL, CO_UNSENT_LOW, CO_USER_TIMEOUT)


cdef inline int check_api() except -1:
    """Call this first when your module is imported: an ImportError says what to do if the engine at hand is of
    another API than the one your extension was compiled for."""
    from iip import engine
    found = getattr(engine, "API_VERSION", 0)
    if found != API_VERSION:
        raise ImportError(f"this extension was compiled for iip's API {API_VERSION}, the iip in {engine.__file__} has "
                          f"API {found}; build the extension again with this iip installed")
    return 0
