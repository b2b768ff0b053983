"""Proxies to compare with, each started by name with the same route: one SNI, Istio's ALPNs, one endpoint."""
