"""The races, by deterministic simulation: two front doors, a scaler, pods and clients in virtual time.

What runs is the real code: turns, scaling, the Redis adapter with its scripts (on fakeredis), the SQLite store.
Simulated are the clock, the network with its faults, the processes that crash, and the pods.
"""
