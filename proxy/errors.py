"""What the command line turns into an exit code and one line on stderr."""


class EastgateError(Exception):
    """A sentence for the operator: what, where, likely cause. ``exit_code`` 2: bad usage or configuration."""

    exit_code = 2


class SettingsError(EastgateError):
    """A flag or environment variable that cannot be used."""

    def __init__(self, flag: str, value: object, reason: str) -> None:
        super().__init__(f"{flag} {value!r}: {reason}" if value is not None else f"{flag}: {reason}")
        self.flag = flag
        self.reason = reason


class MeshFileError(EastgateError):
    """A mesh file that cannot be used: file, line and cause."""


class TrialError(EastgateError):
    """A part of a trial (gateway, workload, client) did not do its work."""

    exit_code = 1


class ExpectationError(EastgateError):
    """Everything worked, and the result is not the expected one."""

    exit_code = 1


class UnavailableError(EastgateError):
    """What was asked for cannot be made now; nothing of the question is wrong."""

    exit_code = 1
