"""What libraries make of texts from outside, where their own errors are others than one expects."""

YAML_VALUE_FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What PyYAML lets out beside its own YAMLError: whatever its constructors meet, as for dates that no month has,
numbers of 5,000 digits, `!!bool x`."""


def may_be_host(text: str) -> bool:
    """Whether the resolver takes it: printable, in parts of 1 to 63 bytes. For others it raises what is no OSError."""
    if not text.isprintable():
        return False
    if text.isascii():
        # The codec's rule for them, without its tables, which are large.
        *parts, last = text.split(".")
        return all(0 < len(part) < 64 for part in parts) and len(last) < 64
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True
