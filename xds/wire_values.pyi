# The rest is for other Cython modules only; see the .pxd.
from typing import final

class MalformedError(Exception):
    """Bytes that are no such value: (place, reason)."""

@final
class Field: ...

@final
class Message: ...

@final
class Source: ...
