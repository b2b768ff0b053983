"""istio.v1.auth.IstioCertificateService of an embedded control plane: a signing request in, a chain out.

Who asks is told by a token in the metadata `authorization`, and nothing else: names in the request count for nothing,
as with istiod.
"""

from datetime import timedelta
from typing import Any

import grpc
from eastgate.xds.certificate_request import SERVICE, read_request, response
from eastgate.xds.errors import XdsError

from .ca import LIFETIME, MeshCa
from .tokens import TokenRefusedError, Tokens

BEARER = "Bearer "
DEFAULT_CLUSTER = "Kubernetes"


class CertificateService:
    """Signs what callers with a token of ours ask for. ``longest``: no certificate is good for more."""

    def __init__(self, ca: MeshCa, tokens: Tokens, *, longest: timedelta = LIFETIME) -> None:
        self._ca, self._tokens, self._longest = ca, tokens, longest

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        create = grpc.unary_unary_rpc_method_handler(self._create)
        return grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": create})

    async def _create(self, raw: bytes, context: Any) -> bytes:
        metadata = {key.lower(): value for key, value in context.invocation_metadata() or ()}
        said = str(metadata.get("authorization", ""))
        try:
            if not said.startswith(BEARER):
                raise TokenRefusedError("no token: the metadata has no authorization: Bearer")
            caller = self._tokens.check(said.removeprefix(BEARER))
        except TokenRefusedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            raise
        try:
            request = read_request(raw)
            asked = timedelta(seconds=request.validity_s)
            chain = self._ca.sign(
                request.csr,
                caller.spiffe_id(self._ca.trust_domain),
                cluster=str(metadata.get("clusterid") or DEFAULT_CLUSTER),
                lifetime=min(asked, self._longest) if asked > timedelta(0) else self._longest,
            )
        except (XdsError, ValueError, OverflowError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the signing request is refused: {error}")
            raise
        return response(chain)
