"""What Kubernetes objects have in common: fields that are read, addresses, metadata."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator
from pydantic.alias_generators import to_camel

from .families import plain_address
from .part import object_name


def checked_address(text: str) -> str:
    """An address as it stands; nothing is one, too. Raises ValueError."""
    return plain_address(text) if text else text


def _namespace(text: str) -> str:
    return object_name(text) if text else text


Address = Annotated[str, AfterValidator(checked_address)]
"""An IP address, or nothing."""


class Read(BaseModel):
    """A part of a Kubernetes object, of which only what is named here is read."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        """Kubernetes writes null for what is empty."""
        if value is None:
            field = cls.model_fields[info.field_name]
            return field.get_default(call_default_factory=True) if not field.is_required() else value
        return value


class Meta(Read):
    """metadata."""

    name: Annotated[str, AfterValidator(object_name)]
    namespace: Annotated[str, AfterValidator(_namespace)] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str = ""
