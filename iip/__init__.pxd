"""What extensions cimport."""
from iip.drivers.base cimport Driver
from iip.engine cimport Datagram, Engine, NativeHandler, SynInfo
from iip.memory.pool cimport PacketPool
from iip.net.types cimport Addr
