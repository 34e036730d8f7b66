"""Sessions as Kubernetes resources: names, the API client, watches, and the runtime of their pods."""
