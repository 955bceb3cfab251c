"""Measures what an edit did to a picture, from the pixels alone: nothing here imports the embedded editor."""
