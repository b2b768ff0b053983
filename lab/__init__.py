"""Two real Kubernetes clusters with real istiods on one Linux machine, without Docker: `make lab-up`."""
