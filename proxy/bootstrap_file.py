"""The text of a bootstrap as plain values: JSON, or YAML where it is none; and what --config-yaml merges into it.

YAML also takes the trailing comma that one branch of Istio's template writes. Field names may be snake_case or
lowerCamelCase; both name the same field.
"""

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from eastgate.xds.outside_text import YAML_VALUE_FAULTS

from .bootstrap_reader import BootstrapError

# Fields that hold what users write, by their path: keys are no field names there, and a value replaces a value.
STRUCTS = frozenset({"node.metadata", "application_log_config.log_format.json_format"})
# Of these one alone may be set: the one that is merged in clears the other.
ONE_OF = (
    frozenset({"socket_address", "pipe", "envoy_internal_address"}),
    frozenset({"ads", "self", "path", "path_config_source", "api_config_source"}),
    frozenset({"text_format", "json_format"}),
    frozenset({"stats_flush_interval", "stats_flush_on_admin"}),
    frozenset({"reject_all", "exclusion_list", "inclusion_list"}),
)


def read_document(source: str, file: str) -> dict[str, Any]:
    """The object that a file holds; `source` is what an error names. Raises BootstrapError."""
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except OSError as error:
        raise BootstrapError(source, "", f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise BootstrapError(source, "", "cannot be read: no file has such a name") from None
    # Editors of Windows write a mark first, which says what follows; YAML is that text, as Envoy reads it.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        said = "UTF-16, which its first bytes announce" if wide else "UTF-8"
        raise BootstrapError(source, "", f"is not text in {said} (byte {error.start})") from None
    return parse_document(source, text)


def parse_document(source: str, text: str) -> dict[str, Any]:
    """The object of a text; `source` is what an error names. Raises BootstrapError."""
    try:
        value = json.loads(text)
    except ValueError:
        value = _yaml(source, text)
    except RecursionError:
        raise BootstrapError(source, "", "is nested too deeply") from None
    if not isinstance(value, dict):
        raise BootstrapError(source, "", "holds no object")
    return value


def _yaml(source: str, text: str) -> Any:
    # Rarely needed, and 15 ms to import.
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BootstrapError(source, "", f"is neither JSON nor YAML{where}") from None
    except RecursionError:
        raise BootstrapError(source, "", "is nested too deeply") from None
    except YAML_VALUE_FAULTS as error:
        raise BootstrapError(source, "", f"holds a value that is not of its kind: {error}") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Both by protobuf's rules, as Envoy merges --config-yaml: scalars override, messages merge, lists append.

    What is null says nothing. An Any (an object with @type) is replaced as a whole.
    """
    result = dict(base)
    by_field = {field_name(key): key for key in result}
    for key, value in over.items():
        if value is None:
            continue
        field = field_name(key)
        known = by_field.get(field, key)
        where = f"{path}.{field}" if path else field
        _clear(result, field, by_field)
        before = result.get(known)
        if isinstance(before, list) and isinstance(value, list):
            result[known] = [*before, *value]
        elif not isinstance(before, dict) or not isinstance(value, dict) or "@type" in value:
            result[known] = value
        else:
            result[known] = {**before, **value} if where in STRUCTS else merged(before, value, where)
        by_field[field] = known
    return result


def field_name(key: str) -> str:
    """The name of a field as protobuf declares it."""
    return re.sub(r"(?<!^)([A-Z])", lambda found: "_" + found[1].lower(), key)


def _clear(result: dict[str, Any], field: str, by_field: Mapping[str, str]) -> None:
    others: Iterable[str] = (name for group in ONE_OF if field in group for name in group - {field})
    for name in others:
        result.pop(by_field.get(name, name), None)
