"""Which endpoints are in or out beside EDS: DNS, health checks, outlier detection, slow start."""
