"""Two flows share a bottleneck, in virtual time: python examples/simulate.py

Needs no root and no network. The same seed gives the same packets.
"""
import iip
from iip.sim import BulkFlow, CoDel, Simulation, dumbbell, jain


def two_flows(queue):
    """Ten simulated seconds of 20 Mbit/s and 30 ms, with a queue."""
    with Simulation(seed=1) as sim:
        world = dumbbell(sim, 2, bottleneck={"rate": 20e6, "delay": 0.015, "queue": queue}, access={"delay": 0.0001})
        flows = [BulkFlow(sim, world.left[0], world.right[0]),
                 BulkFlow(sim, world.left[1], world.right[1], start=2.0)]
        sim.run(until=10)
        rates = [flow.goodput(5, 10) / 1e6 for flow in flows]
        rtt = flows[0].trace["srtt"][-100:].mean() * 1e3
        print(f"  goodput {rates[0]:.1f} and {rates[1]:.1f} Mbit/s, Jain's index {jain(rates):.3f}, "
              f"round trip {rtt:.0f} ms")


class Ask(iip.Handler):
    """An ordinary handler in a simulated host."""

    def __init__(self, sim):
        self.sim = sim

    def tcp_connected(self, conn):
        conn.send(b"what time is it?")

    def tcp_payload(self, conn, data):
        print(f"  {bytes(data).decode()} (got at {self.sim.now:.3f} s)")
        conn.consume(len(data))
        conn.close()


class Answer(iip.Handler):
    def __init__(self, sim):
        self.sim = sim

    def tcp_payload(self, conn, data):
        conn.consume(len(data))
        conn.send(f"it is {self.sim.now:.3f} s".encode())


print("a full queue of a quarter of a second:")
two_flows(queue=625_000)
print("CoDel:")
two_flows(queue=CoDel())

print("two programs over a long path that loses 5 % of the packets:")
with Simulation(seed=1) as sim:
    client = sim.host("client", handler=Ask(sim))
    server = sim.host("server", "192.0.2.1/24", handler=Answer(sim), gateway="192.0.2.254")
    router = sim.router("router")
    sim.link(client, router, delay=0.05, loss=0.05)
    sim.link(router, server, delay=0.1)
    sim.capture("simulate.pcapng", client)
    server.engine.tcp_listen(13)
    sim.at(1.0, lambda: client.engine.tcp_connect("192.0.2.1", 13))
    sim.run(until=30)
print("  the client's packets are in simulate.pcapng")
