"""Connects adapters to ports, once for each process."""
