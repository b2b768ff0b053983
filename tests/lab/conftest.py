"""lab/ is no package of the product: its tests import it from the root of the checkout."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])


def pytest_configure() -> None:
    if ROOT not in sys.path:
        sys.path.append(ROOT)
