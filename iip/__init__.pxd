"""What extensions cimport."""
from iip.drivers.base cimport Driver
from iip.engine cimport API_VERSION, Datagram, Engine, NativeHandler, SynInfo
from iip.memory.pool cimport PacketPool
from iip.net.types cimport Addr


cdef inline int check_api() except -1:
    """Call this first when your module is imported: an ImportError says what to do if the engine at hand is of
    another API than the one your extension was compiled for."""
    from iip import engine
    found = getattr(engine, "API_VERSION", 0)
    if found != API_VERSION:
        raise ImportError(f"this extension was compiled for iip's API {API_VERSION}, the iip in {engine.__file__} has "
                          f"API {found}; build the extension again with this iip installed")
    return 0
