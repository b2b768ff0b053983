"""Health flags of a host and the class they give it (Envoy: upstream_impl.cc)."""

EDS_STATUS = ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED")
FLAGS_OF_STATUS = {
    "UNKNOWN": (),
    "HEALTHY": (),
    "UNHEALTHY": ("FAILED_EDS_HEALTH",),
    "DRAINING": ("EDS_STATUS_DRAINING",),
    "TIMEOUT": ("FAILED_EDS_HEALTH",),
    "DEGRADED": ("DEGRADED_EDS_HEALTH",),
}
UNHEALTHY_FLAGS = {"FAILED_ACTIVE_HC", "FAILED_OUTLIER_CHECK", "FAILED_EDS_HEALTH", "EDS_STATUS_DRAINING"}
DEGRADED_FLAGS = {"DEGRADED_ACTIVE_HC", "DEGRADED_EDS_HEALTH"}
EXCLUDED_FLAGS = {"PENDING_ACTIVE_HC", "EXCLUDED_VIA_IMMEDIATE_HC_FAIL", "EDS_STATUS_DRAINING"}


def coarse_health(flags: list[str]) -> str:
    """Healthy, Degraded or Unhealthy."""
    if UNHEALTHY_FLAGS & set(flags):
        return "Unhealthy"
    if DEGRADED_FLAGS & set(flags):
        return "Degraded"
    return "Healthy"


def is_excluded(flags: list[str]) -> bool:
    """Whether the host leaves the denominators of availability, panic and locality weights."""
    return bool(EXCLUDED_FLAGS & set(flags))
