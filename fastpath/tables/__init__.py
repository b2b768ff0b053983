"""Endpoints of a cluster, compiled: rows, shares, schedules, picks, hashing. Knows no connection."""
