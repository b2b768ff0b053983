"""schema.py is what envoy-data-plane's metadata says, and costs a running proxy nothing of that package."""

import subprocess
import sys
import warnings
from pathlib import Path

from eastgate.xds import generate_schema, schema


def test_schema_equals_the_package_metadata() -> None:
    with warnings.catch_warnings():
        # The package's classes use a deprecated form of pydantic's validators.
        warnings.simplefilter("ignore")
        text = generate_schema.generate()
    assert Path(schema.__file__).read_text(encoding="utf-8") == text


def test_every_named_type_is_in_the_tables() -> None:
    for message, fields in schema.MESSAGES.items():
        assert len({field.number for field in fields}) == len({field.name for field in fields}) == len(fields), message
        for field in fields:
            if field.kind == "message":
                assert field.type in schema.MESSAGES
            if field.kind == "enum":
                assert field.type in schema.ENUMS


def test_running_code_imports_no_message_package() -> None:
    code = (
        "import sys, eastgate.xds.ads, eastgate.xds.node;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'envoy_data_plane', 'betterproto2', 'google', 'pydantic'}))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
