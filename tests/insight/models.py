"""Models for tests, read from dumps as an operator's are."""

from typing import Any

from eastgate.insight.cluster_model import ClusterModel, CompiledModel, compile_model
from eastgate.insight.read_dump import read_document

from ..support import dumps


def model(*entries: Any, factor: int = 140, **settings: Any) -> ClusterModel:
    """The cluster `dumps.NAME` with these localities and settings."""
    document = dumps.config_dump([dumps.cluster(**settings)], [dumps.assignment(*entries, factor=factor)])
    return read_document(document, "test").clusters[dumps.NAME]


def compiled(*entries: Any, **settings: Any) -> CompiledModel:
    return compile_model(model(*entries, **settings))


def recorded(stage: str, role: str, name: str) -> ClusterModel:
    """A cluster as a real istiod sent it."""
    return read_document(dumps.recorded_dump(stage, role), stage).clusters[name]
