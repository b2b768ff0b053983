"""Run files of behaviour vectors: `python -m tests.vectors FILE...`."""
