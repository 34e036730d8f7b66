"""How fast it is on a real Kubernetes, beside what the cluster alone does. ``python -m benchmarks.cluster --help``."""
