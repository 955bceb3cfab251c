"""Making a classifier smaller and faster, and refusing what is no longer right."""
