"""The web door: submit, watch and answer over HTTP; in its process is neither a model nor torch."""
