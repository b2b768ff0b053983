"""Which nodes Kubernetes may put a pod on: nodeSelector, required node affinity, taints. Pure; knows no YAML.

Source of the rules: kubernetes, component-helpers/scheduling/corev1/nodeaffinity and pkg/controller/daemon.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, model_validator

from .kubernetes_part import Read

HINDERING = ("NoSchedule", "NoExecute")
NUMBERS = ("Gt", "Lt")
STATE = "node.kubernetes.io/"


class Taint(Read):
    """A taint of a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class Toleration(Read):
    """A toleration of a pod; without a key it is one of everything, without an effect of all effects."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def takes(self, taint: Taint) -> bool:
        """Whether its pods may be where the taint is."""
        named = self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)
        everything = not self.key and self.operator == "Exists"
        return (named or everything) and self.effect in ("", taint.effect)


def _of_state(name: str, effect: str) -> Toleration:
    return Toleration(key=STATE + name, operator="Exists", effect=effect)


OF_DAEMONS = (
    *(_of_state(name, "NoExecute") for name in ("not-ready", "unreachable")),
    *(_of_state(name, "NoSchedule") for name in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")),
)
"""What every pod of a DaemonSet tolerates."""
OF_HOST_NETWORK = _of_state("network-unavailable", "NoSchedule")
"""What one in its host's network tolerates as well."""


class Requirement(Read):
    """What a term of an affinity asks of one label or field."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: list[str] = []

    @model_validator(mode="after")
    def _comparable(self) -> "Requirement":
        if self.operator in NUMBERS and (len(self.values) != 1 or _number(self.values[0]) is None):
            raise ValueError(f"{self.operator} takes one whole number")
        return self

    def is_met(self, told: Mapping[str, str]) -> bool:
        """Whether labels are so. Without the label NotIn holds, and nothing is less or greater."""
        value = told.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists" | "DoesNotExist":
                return (value is not None) == (self.operator == "Exists")
            case _:
                number, bound = _number(value or ""), _number(self.values[0])
                if number is None or bound is None:
                    return False
                return number > bound if self.operator == "Gt" else number < bound


def _number(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() and text.isascii() else None


class Term(Read):
    """A term of an affinity: everything in it must hold; an empty one holds nowhere."""

    match_expressions: list[Requirement] = []
    match_fields: list[Requirement] = []

    def is_met(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node is so."""
        asked = [(one, labels) for one in self.match_expressions]
        asked += [(one, {"metadata.name": name}) for one in self.match_fields]
        return bool(asked) and all(one.is_met(told) for one, told in asked)


class NodeSelector(Read):
    """Terms of which one must hold."""

    node_selector_terms: list[Term] = []


class NodeAffinity(Read):
    """nodeAffinity; what is only preferred decides nothing here."""

    required: NodeSelector | None = Field(default=None, alias="requiredDuringSchedulingIgnoredDuringExecution")


class Affinity(Read):
    """affinity of a pod; that to other pods is not read."""

    node_affinity: NodeAffinity = NodeAffinity()

    def allows(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node is one of those that it requires."""
        required = self.node_affinity.required
        return required is None or any(one.is_met(name, labels) for one in required.node_selector_terms)


def tolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> bool:
    """Whether no taint keeps a pod away."""
    words = list(tolerations)
    return all(any(word.takes(one) for word in words) for one in taints if one.effect in HINDERING)
