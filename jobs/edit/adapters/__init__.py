"""What edits and what scores: the built-in models, and the base that others derive from."""
