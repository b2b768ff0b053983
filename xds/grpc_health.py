"""The messages of grpc.health.v1, the protocol of gRPC health checks, which Envoy's API does not hold."""

from .message import encode_field
from .schema import FieldSchema
from .wire import Schema

CHECK = "/grpc.health.v1.Health/Check"
SERVING = "SERVING"

_RESPONSE = "grpc.health.v1.HealthCheckResponse"
_STATUS = "grpc.health.v1.HealthCheckResponse.ServingStatus"
_SERVICE = FieldSchema(1, "service", "string")
_SCHEMA = Schema(
    {_RESPONSE: (FieldSchema(1, "status", "enum", _STATUS),)},
    {_STATUS: {0: "UNKNOWN", 1: SERVING, 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}},
)


def request(service: str) -> bytes:
    """A HealthCheckRequest."""
    return encode_field(_SERVICE, service)


def serving_status(response: bytes) -> str:
    """The status in a HealthCheckResponse, by its name. Raises XdsError for other bytes."""
    return str(_SCHEMA.read(_RESPONSE, response).get("status", "UNKNOWN"))
