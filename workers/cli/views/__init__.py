"""What commands draw for a person: imported when it is needed, to keep the command line quick to start."""
