"""Texts of a bootstrap, and the merge of --config-yaml: by protobuf's rules, which real Envoy confirms."""

from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.bootstrap_file import merged, parse_document, read_document
from eastgate.proxy.bootstrap_reader import BootstrapError


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}}',
        '{"a": {"b": 1,},}',
        "a:\n  b: 1\n",
        '{"a": {"b": 1}} # comment',
        '{\n  "a": {\n    "b": 1,\n  }\n}',
    ],
)
def test_json_and_yaml_and_trailing_commas(text: str) -> None:
    assert parse_document("-c x", text) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "-c x: holds no object"),
        ("a: [", "-c x: is neither JSON nor YAML at line 1"),
        ("", "-c x: holds no object"),
        ("[" * 100_000, "-c x: is nested too deeply"),
        ("{a: " * 3000, "-c x: is ne"),
        ("a: !!python/object:os.system x", "-c x: is neither JSON nor YAML"),
        ("a: 2026-13-45", "-c x: holds a value that is not of its kind: month must be in 1..12"),
        ('{"a": ' + "9" * 5000 + "}", "-c x: holds a value that is not of its kind: Exceeds the limit"),
        ("a: !!bool x", "-c x: holds a value that is not of its kind"),
        ("a: !!timestamp x", "-c x: holds a value that is not of its kind"),
    ],
)
def test_bad_text_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(BootstrapError) as caught:
        parse_document("-c x", text)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="-c x: cannot be read: Is a directory"):
        read_document("-c x", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\x0a\xff\xfe")
    with pytest.raises(BootstrapError, match=r"-c x: is not text in UTF-8 \(byte 1\)"):
        read_document("-c x", str(tmp_path / "binary"))
    (tmp_path / "half").write_bytes(b"\xff\xfea")
    with pytest.raises(BootstrapError, match=r"-c x: is not text in UTF-16, which its first bytes announce \(byte 2\)"):
        read_document("-c x", str(tmp_path / "half"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", ["a:\n  b: \u00fc\n", '{"a": {"b": "\u00fc"}}'])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str, text: str) -> None:
    file = tmp_path / "bootstrap"
    file.write_bytes(text.encode(encoding))
    assert read_document("-c x", str(file)) == {"a": {"b": "\u00fc"}}


@pytest.mark.parametrize(
    ("base", "over", "wanted"),
    [
        # Scalars override, messages merge, lists append.
        ({"admin": {"a": "a", "x": 1}}, {"admin": {"a": "b"}}, {"admin": {"a": "b", "x": 1}}),
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
        # Both spellings are one field.
        ({"stats_config": {"tag_s": [1]}}, {"statsConfig": {"tagS": [2]}}, {"stats_config": {"tag_s": [1, 2]}}),
        ({"statsConfig": {"a": 1}}, {"stats_config": {"a": 2}}, {"statsConfig": {"a": 2}}),
        # null says nothing.
        ({"a": 1}, {"a": None}, {"a": 1}),
        # A Struct's values are replaced, and its keys are no field names.
        (
            {"node": {"metadata": {"LABELS": {"x": "1"}, "aB": 1}}},
            {"node": {"metadata": {"LABELS": {"y": "2"}, "a_b": 2}}},
            {"node": {"metadata": {"LABELS": {"y": "2"}, "aB": 1, "a_b": 2}}},
        ),
        # An Any is a value.
        ({"c": {"@type": "t", "a": 1}}, {"c": {"@type": "t", "b": 1}}, {"c": {"@type": "t", "b": 1}}),
        # Of a oneof the last one stays.
        (
            {"admin": {"address": {"socketAddress": {"port_value": 1}}}},
            {"admin": {"address": {"pipe": {"path": "p"}}}},
            {"admin": {"address": {"pipe": {"path": "p"}}}},
        ),
    ],
)  # fmt: skip
def test_merge(base: dict[str, Any], over: dict[str, Any], wanted: dict[str, Any]) -> None:
    before = repr(base)
    assert merged(base, over) == wanted
    assert repr(base) == before
