"""lab/ is no package of the product: its tests import it from the root of the checkout."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
# Last, so that folders of the product hide nobody's modules. At once: the folder below imports it, too.
if ROOT not in sys.path:
    sys.path.append(ROOT)
