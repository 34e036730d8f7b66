"""Waiting: first of several, patience with what is away."""
