"""What `eastgate probe` says to people. Judges nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .certificate import Certificate
from .probe import Answer, Verdict
from .probe_services import Probed

LAYER_4 = "what stands before the gateway has to pass TLS through: a balancer of layer 4 (TCP), not of layer 7"
ADVICE = {
    Verdict.FOREIGN: LAYER_4,
    Verdict.HTTP: LAYER_4,
    Verdict.NOT_TLS: "is this the port of a gateway (15443)?",
    Verdict.CLOSED: "a gateway closes so when no filter chain takes server name and ALPN, or no endpoint is healthy",
    Verdict.SILENT: "something takes connections and does not pass them on: a balancer without targets, or a firewall",
    Verdict.UNREACHABLE: "nothing listens there, or the way is blocked",
    Verdict.EXPIRED: "the pod's certificate is not renewed: look at its agent and at the CA",
}


def answer_lines(probed: Probed) -> list[str]:
    """A paragraph for one answer."""
    answer = probed.answer
    lines = [f"{answer.target} as {answer.server_name}", headline(answer)]
    if answer.certificate is not None:
        lines.append(f"  {certificate_text(answer.certificate)}")
        lines.append(f"  {answer.tls_version}, ALPN {answer.protocol or 'none'}")
    if answer.then:
        lines.append(f"  then: {answer.then}")
    if probed.words:
        lines.append(f"  the gateway says: {probed.words}")
    elif advice := ADVICE.get(answer.verdict):
        lines.append(f"  {advice}")
    if hint := host_hint(answer):
        lines.append(f"  {hint}")
    return lines


def host_hint(answer: Answer) -> str:
    """Where nobody answered a name that was meant for a service, and taken for a host; else empty."""
    _, port, _, host = (answer.server_name.split("_.") + [""] * 4)[:4]
    if answer.reached or not host or "." in host:
        return ""
    return f"{host} was taken for a host: a service is NAME.NAMESPACE:PORT, such as {host}.default:{port}"


def headline(answer: Answer) -> str:
    """What became of it, in one line."""
    if answer.reached and answer.certificate is not None:
        return f"answered: {answer.certificate.spiffe}"
    return f"{answer.verdict.value.replace('_', ' ')}: {answer.detail}"


def certificate_text(certificate: Certificate) -> str:
    """Who it is, who says so, and until when."""
    names = ", ".join((*certificate.uris, *certificate.names)) or certificate.subject or "nobody"
    dates = f"{certificate.not_before:%Y-%m-%d %H:%M} to {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    return f"{names}; issuer {certificate.issuer or 'unnamed'}; {dates}, {left(certificate)}"


def left(certificate: Certificate) -> str:
    """How long it is still good."""
    seconds = (certificate.not_after - datetime.now(UTC)).total_seconds()
    hours = int(abs(seconds)) // 3600
    span = f"{hours // 24} days" if hours >= 48 else f"{hours} h"
    return f"{span} left" if seconds > 0 else f"over since {span}"


def table_lines(found: Sequence[Probed]) -> list[str]:
    """A line for each name, those that were not reached first, and a sum."""
    ordered = sorted(found, key=lambda one: (one.answer.reached, one.answer.server_name))
    lines = []
    for one in ordered:
        words = f"; the gateway says: {one.words}" if one.words else ""
        lines.append(f"{one.answer.server_name}  {headline(one.answer)}{words}")
    reached = sum(one.answer.reached for one in found)
    # Where all fail alike, it is not about services.
    verdicts = {one.answer.verdict for one in found}
    if len(verdicts) == 1 and (advice := ADVICE.get(next(iter(verdicts)))) and not found[0].words:
        lines.append(f"all alike: {advice}")
    return [*lines, f"{reached} of {len(found)} answered"]


def probed_json(one: Probed) -> dict[str, Any]:
    """One answer as JSON."""
    answer, certificate = one.answer, one.answer.certificate
    return {
        "target": answer.target,
        "server_name": answer.server_name,
        "verdict": answer.verdict.value,
        "reached": answer.reached,
        "detail": answer.detail,
        "gateway": one.words,
        "tls_version": answer.tls_version,
        "protocol": answer.protocol,
        "then": answer.then,
        "certificate": None
        if certificate is None
        else {
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "uris": list(certificate.uris),
            "names": list(certificate.names),
            "not_before": certificate.not_before.isoformat(),
            "not_after": certificate.not_after.isoformat(),
        },
    }
