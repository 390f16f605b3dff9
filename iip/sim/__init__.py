"""Engines joined by links in virtual time: rates, delays, queues, losses, routers, captures. Same seed, same bytes."""
from iip.drivers.impairments import CoDel, DropTail, GilbertElliott
from iip.sim.flow import BulkFlow, jain
from iip.sim.network import Host, Node, Way
from iip.sim.nodes import Router, Switch
from iip.sim.simulation import Link, Simulation
from iip.sim.topology import Chain, Dumbbell, Star, chain, dumbbell, star

__all__ = ["BulkFlow", "Chain", "CoDel", "DropTail", "Dumbbell", "GilbertElliott", "Host", "Link", "Node", "Router",
           "Simulation", "Star", "Switch", "Way", "chain", "dumbbell", "jain", "star"]
