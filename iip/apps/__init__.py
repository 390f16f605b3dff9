"""Servers and clients written against the callback API; the command line runs them."""
