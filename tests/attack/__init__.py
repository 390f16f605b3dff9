"""What strangers send to do harm: see docs/security.md."""
