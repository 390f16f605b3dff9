"""Fixtures of the driver tests."""
from tests.harness.netns import netns  # noqa: F401
