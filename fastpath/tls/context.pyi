from collections.abc import Iterable
from typing import final

from eastgate.fastpath.tls.context_spec import ContextSpec

NEVER_NEGOTIATED: str
MESH_PROTOCOL: str
CIPHERS: str

class TlsContextError(ValueError): ...

def alpn_wire(protocols: Iterable[str]) -> bytes: ...

@final
class Context:
    @staticmethod
    def build(spec: ContextSpec) -> Context: ...
