"""Speed compared with other ways to put something between a caller and a pod. ``python -m benchmarks --help``."""
