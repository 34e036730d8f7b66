"""Sessions as Kubernetes resources: names, the API client, watches, and what the front door does with them."""
