"""The head of a first HTTP request by regular expressions, all bytes at hand.

Envoy: http_inspector.cc with balsa_parser.cc for the protocol, the HTTP/1 codec for the host.
"""

import re

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIMIT = 16384
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
HOST = rb"[!$%&'()*+,\-.:;=@\[\]_~0-9A-Za-z]*"
PATH = rb"[\t\f!-~]*"
REQUEST = re.compile(rb"(%s)([ \t\r][\x00-\x20]*)([^\x00-\x20]+)([\x00-\xff]*?)\r*\n" % TOKEN)
NO_METHOD = re.compile(rb"(?!%s(?:[ \t\r\n]|\Z))" % TOKEN)
VERSION = re.compile(rb"[ \t\r]*|[\x00-\x20]+HTTP/([0-9]\.[0-9])[\x00-\x20]*")
TARGET = re.compile(rb"[/*]%s|[A-Za-z][A-Za-z0-9+.\-]*://(?P<host>(?![^/?]*@@)%s)(?:[/?]%s)?" % (PATH, HOST, PATH))
AUTHORITY = re.compile(rb"(?P<host>(?![^/?]*@@)%s)(?P<path>(?:[/?]%s)?)" % (HOST, PATH))


def protocol(data: bytes) -> str:
    """http/1.0, http/1.1, h2c, "" for none, or need_more."""
    if data[: len(PREFACE)] == PREFACE[: len(data)]:
        return "h2c" if len(data) >= len(PREFACE) else "need_more"
    if NO_METHOD.match(data):
        return ""
    if b"\n" not in data:
        return "need_more"
    line = data[: data.index(b"\n") + 1]
    found = REQUEST.fullmatch(line)
    if found is None:
        return ""
    method, gap, target, rest = found.groups()
    connect = method == b"CONNECT" and not target.startswith((b"/", b"*"))
    version = VERSION.fullmatch(rest)
    if not (AUTHORITY if connect else TARGET).fullmatch(target) or version is None:
        return ""
    if version[1] is None:
        # Stricter in front of the target; and what ends the line counts, a word of its own or not.
        if gap.strip(b" \t\r"):
            return ""
        return "http/1.1" if not rest and target.endswith(b"HTTP/1.1") else "http/1.0"
    return "http/1.1" if version[1] == b"1.1" else "http/1.0"


def authority(data: bytes) -> str:
    """Host of a request whose line is here, lower case; or malformed, no_authority, need_more in angle brackets."""
    line, _, rest = data.partition(b"\n")
    found = REQUEST.fullmatch(line + b"\n")
    assert found is not None
    method, _, target, _ = found.groups()
    if b"#" in target or (target.startswith(b"*") and (method, target) != (b"OPTIONS", b"*")):
        return "<malformed>"
    if not target.startswith((b"/", b"*")):
        whole = (AUTHORITY if method == b"CONNECT" else TARGET).fullmatch(target)
        assert whole is not None
        if method == b"CONNECT" and whole["path"]:
            return "<malformed>"
        return _checked(whole["host"]) if whole["host"] else "<no_authority>"
    for one in rest.split(b"\n")[:-1]:
        text = one.removesuffix(b"\r")
        if not text:
            return "<no_authority>"
        named = re.fullmatch(rb"(%s):(.*)" % TOKEN, text, re.DOTALL)
        if named is None:
            return "<malformed>"
        if named[1].lower() == b"host":
            return _checked(named[2].strip(b" \t"))
    return "<need_more>"


def _checked(host: bytes) -> str:
    if not re.fullmatch(HOST, host) or len(host) >= 272:
        return "<malformed>"
    return host.decode().lower()


def head(data: bytes) -> tuple[str, str, str]:
    """(status, protocol, authority) of the first bytes, at most LIMIT of which are looked at."""
    shown = data[:LIMIT]
    found = protocol(shown)
    if found == "":
        return "not_http", "", ""
    if found != "need_more":
        host = "" if found == "h2c" else authority(shown)
        if host != "<need_more>":
            return (host[1:-1], "", "") if host.startswith("<") else ("complete", found, host)
    return ("oversize" if len(data) >= LIMIT else "need_more"), "", ""
