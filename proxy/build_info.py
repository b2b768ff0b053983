"""What this eastgate is: version, commit, the libraries that it runs on, how its native code was linked."""

import platform
import struct
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

from .last_words import origin_of

LIBRARIES = ("uvloop", "grpcio")
NATIVE = "eastgate.fastpath.reason"

# ELF: what is read of the header, of a program header, and of an entry of the dynamic section.
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_PT_DYNAMIC, _PT_GNU_RELRO = 2, 0x6474E552
_DT_FLAGS, _DF_BIND_NOW = 30, 0x8
_MAGIC = b"\x7fELF\x02\x01"


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def origin() -> str:
    """The commit that pip installed, where it came from a repository; "editable" for a checkout; else empty."""
    try:
        return origin_of(distribution("eastgate").read_text("direct_url.json") or "")
    except PackageNotFoundError:
        return ""


def hardening(data: bytes) -> tuple[str, ...]:
    """What protects a shared object once it is loaded: "relro", "bind-now"; none of what is no 64-bit ELF."""
    if data[: len(_MAGIC)] != _MAGIC:
        return ()
    try:
        return tuple(_protections(data))
    except struct.error:
        return ()


def _protections(data: bytes) -> Iterator[str]:
    _, _, _, _, at, _, _, _, size, count, *_ = _HEADER.unpack_from(data)
    segments = [_SEGMENT.unpack_from(data, at + index * size) for index in range(count)]
    if any(kind == _PT_GNU_RELRO for kind, *_ in segments):
        yield "relro"
    for kind, _, offset, _, _, length, *_ in segments:
        if kind == _PT_DYNAMIC:
            entries = [_DYNAMIC.unpack_from(data, offset + step) for step in range(0, length, _DYNAMIC.size)]
            if any(tag == _DT_FLAGS and value & _DF_BIND_NOW for tag, value in entries):
                yield "bind-now"


def native_build() -> str:
    """How the native modules were linked, in words."""
    spec = find_spec(NATIVE)
    if spec is None or spec.origin is None:
        return "native modules are missing"
    found = hardening(Path(spec.origin).read_bytes())
    return f"native modules: {', '.join(found) or 'not hardened'}"


def tls_library() -> str:
    """The OpenSSL that relays TLS, and the file it was loaded from: a wheel brings its own."""
    from eastgate.fastpath.tls.library import openssl

    version_text, path = openssl()
    return f"{version_text} ({path})" if path else version_text


def lines() -> tuple[str, ...]:
    """What `eastgate --version` prints."""
    where = origin()
    libraries = ", ".join(f"{name} {installed(name)}" for name in LIBRARIES)
    machine = f"{sys.platform}, {platform.machine()}"
    return (
        f"eastgate {installed('eastgate')}" + (f" ({where})" if where else ""),
        f"Python {platform.python_version()}, {libraries}; {machine}",
        tls_library(),
        native_build(),
    )
