"""Envoy's exact rules in slow, obvious Python, to check vectors and the fast tables. Production never imports it."""
