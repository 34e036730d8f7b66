"""Deterministic simulation of races: two front doors, a scaler, pods and clients in virtual time.

The code is real: turns, scaling, the Redis adapter with its scripts (on fakeredis), the SQLite store. The clock, the
network with its faults, the crashing processes and the pods are simulated.
"""
