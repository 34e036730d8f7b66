"""Turns: the path of a message from its acceptance to its recorded result, and the life of a session around it."""
