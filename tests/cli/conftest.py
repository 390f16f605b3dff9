"""Fixtures of the tests of the command line and the servers."""
from tests.harness.netns import netns  # noqa: F401
