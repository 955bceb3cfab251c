"""Edits pictures by instruction and scores the edits: two big models, as queue jobs that keep them resident."""
