"""The gristmill command line."""
