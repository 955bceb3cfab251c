"""The routes of the web door, a module for each of what they are about."""
