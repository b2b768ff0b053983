"""What istio's own tests of endpoint picking assert, by kind."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent.parent / "data" / "vectors" / "istio-locality.json"


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [v for v in json.loads(VECTORS.read_text())["vectors"] if v["kind"] in kinds]


def by_id(name: str) -> dict[str, Any]:
    return next(v for v in json.loads(VECTORS.read_text())["vectors"] if v["id"] == name)
