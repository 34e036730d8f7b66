"""The store's work, written once: SQL in its order, as generators that any engine can run."""
