"""Benches compare with the oracle of tests/, which is not installed: put the root last on the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
