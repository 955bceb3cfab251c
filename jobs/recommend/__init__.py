"""Recommendations per user: train, pre-compute, read from the cache."""
