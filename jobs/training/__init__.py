"""The training engine that families share (heavy: torch)."""
