"""Verdicts and counters: see verdict.pxd."""
