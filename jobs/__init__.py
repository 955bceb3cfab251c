"""What each job is and does, one folder a family."""
