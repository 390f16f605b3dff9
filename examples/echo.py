"""An echo server on a TAP device: sudo python examples/echo.py, then: nc 10.0.0.2 7"""
import iip
from iip.drivers import Tap
from iip.runtime.loop import run


class Echo(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.consume(conn.send(data))     # what the send buffer does not take comes again: see iip/apps/echo.py

    def tcp_shutdown(self, conn):
        conn.close()


tap = Tap("tap0", host_address="10.0.0.1/24")
config = iip.Config(addresses=["10.0.0.2/24"], mtu=tap.mtu)
engine = iip.Engine(config, Echo(), tap)
engine.tcp_listen(7)
try:
    run(engine)
finally:
    engine.close()
