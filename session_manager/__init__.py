"""One private, durable pod per conversation that costs nothing while nobody talks, and never loses a message."""

__version__ = "0.1.0"
