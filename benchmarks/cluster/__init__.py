"""Speed on a real Kubernetes, compared with the cluster alone. ``python -m benchmarks.cluster --help``."""
