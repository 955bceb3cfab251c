"""Processes: what the Procfile starts."""
