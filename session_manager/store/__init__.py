"""Durable facts in SQL: one Protocol, an adapter per engine."""
