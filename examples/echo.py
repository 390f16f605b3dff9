"""An echo server on a TAP device: sudo python examples/echo.py, then: nc 10.0.0.2 7"""
import iip
from iip.drivers import Tap
from iip.runtime.loop import run


class Echo(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.send(data)

    def tcp_acked(self, conn, n):
        conn.consume(n)               # the peer may send more only as it takes the echo: nothing piles up here

    def tcp_shutdown(self, conn):
        conn.close()


tap = Tap("tap0", host_address="10.0.0.1/24")
config = iip.Config(addresses=["10.0.0.2/24"], mtu=tap.mtu)
engine = iip.Engine(config, Echo(), tap)
engine.tcp_listen(7)
run(engine)
