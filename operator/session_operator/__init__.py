"""The Kubernetes operator: turns Session resources into Deployments, Services and scaling objects."""
