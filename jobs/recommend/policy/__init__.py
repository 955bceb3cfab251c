"""What a list shall be besides likely: unlike itself, new to the user, of the user's own mix, and allowed at all."""
