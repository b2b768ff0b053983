"""A whole number in a text from outside: a port of an address, a label, a flag."""

PORT = (1 << 16) - 1
UINT32 = (1 << 32) - 1


def whole_number(text: str, at_most: int) -> int | None:
    """The number that these decimal digits are; None for anything else, and above `at_most`.

    Python's own `int` also takes other scripts' digits, and raises for some thousands of them.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(at_most))):
        return None
    number = int(text)
    return number if number <= at_most else None
