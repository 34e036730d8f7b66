"""What the store does, written once: SQL and its order, as generators that any engine can run."""
