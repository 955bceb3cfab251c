"""Housekeeping: expired caches, unreferenced artifacts, counters."""
