"""deploy/kind with real kind, real Kubernetes and a real Istio."""
