"""What of a certificate tells who it is: names, issuer, dates. Checks no signature. Needs the extra `tls`."""

from datetime import datetime

from eastgate.xds.record import record

SPIFFE = "spiffe://"


@record
class Certificate:
    """A leaf. ``uris`` and ``names``: its alternative names of these two kinds."""

    subject: str
    issuer: str
    uris: tuple[str, ...]
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    @property
    def spiffe(self) -> str:
        """The identity in a mesh; empty for a certificate of none."""
        return next((uri for uri in self.uris if uri.startswith(SPIFFE)), "")


def read_certificate(raw: bytes) -> Certificate:
    """Of DER. Raises ValueError for bytes that are none."""
    from cryptography import x509

    try:
        parsed = x509.load_der_x509_certificate(raw)
        alternative = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(alternative.get_values_for_type(x509.UniformResourceIdentifier))
        names = tuple(alternative.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        uris, names = (), ()
    except (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from None
    return Certificate(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        uris=uris,
        names=names,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
    )
