from collections.abc import Sequence
from typing import final

@final
class Observed:
    """What is known of a connection before it is routed; an empty address is unknown."""

    def __init__(
        self,
        *,
        server_name: str = "",
        application_protocols: Sequence[str] = (),
        tls: bool = True,
        destination: str = "",
        destination_port: int = 0,
        source: str = "",
        source_port: int = 0,
        direct_source: str | None = None,
        authority: str = "",
    ) -> None:
        """``application_protocols``: characters are bytes (Latin-1); ``direct_source`` None: that of the client.

        Raises ValueError for what no connection can have.
        """
