"""Durable facts in SQL: ports in ``protocol``, transactions, and an adapter per engine."""
