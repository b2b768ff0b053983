"""Real kind where nothing is pulled: a container engine of its own, and a node image made of Debian and Go modules."""
