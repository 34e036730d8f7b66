"""How fast it is, beside what else could stand between a caller and a pod. ``python -m benchmarks --help``."""
