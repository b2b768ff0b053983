"""What is declared of C is called."""

import re
from pathlib import Path

import pytest

FASTPATH = Path(__file__).parents[2] / "fastpath"
NATIVE = {path: path.read_text() for path in FASTPATH.rglob("*") if path.suffix in {".pyx", ".pxd"}}
EXTERN = re.compile(r"^cdef extern from [^\n]*:\n((?:[ \t]+[^\n]*\n|\n)+)", re.MULTILINE)
# A function or type by what stands before its bracket or colon; a constant by itself on a line of an enum.
DECLARED = re.compile(
    r"^    (?:ctypedef struct |struct )(\w+)|^    [\w ]+?[\s*]\b(\w+)\(|^        ([A-Za-z]\w*)$", re.MULTILINE
)


def declared(text: str) -> set[str]:
    blocks = "".join(EXTERN.findall(text))
    return {next(filter(None, found)) for found in DECLARED.findall(blocks)} - {"pass"}


@pytest.mark.parametrize("module", ["tls/openssl.pxd", "posix.pxd"])
def test_nothing_is_declared_that_nobody_uses(module: str) -> None:
    path = FASTPATH / module
    names = declared(NATIVE[path])
    assert len(names) > 30
    words = {
        word for other, text in NATIVE.items() for word in re.findall(r"\w+", re.sub(r"#.*", "", text)) if other != path
    }
    # Types are used by declarations beside them.
    own = re.findall(r"\w+", re.sub(r"#.*", "", NATIVE[path]))
    unused = {name for name in names - words if own.count(name) < 2}
    assert unused == set()
