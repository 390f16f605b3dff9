"""Packet scripts: an interpreter for the packetdrill language that plays scripts against the stack in virtual time."""
