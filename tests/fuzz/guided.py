"""Give a target of python_targets.py to atheris, with the counters of native modules and of our Python code.

    python -m tests.fuzz.guided TARGET [options of libFuzzer] [folders of inputs]

Modules must be built for it; `make fuzz` does.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["eastgate.xds"]):
    from .python_targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    # What libFuzzer starts when it wants itself once more.
    sys.argv[0] = str(Path(__file__).parents[2] / "build" / "fuzz" / name)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
