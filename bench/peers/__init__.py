"""Other stacks at the same work: `python -m bench.peers`."""
