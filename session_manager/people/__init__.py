"""The callers of the front door, and their credentials."""
