"""What the command line turns into one line on stderr: why a configuration cannot be read or talked about."""


class InsightError(Exception):
    """A sentence for the operator: what, where, likely cause. ``exit_code`` 2: bad usage or configuration."""

    exit_code = 2


class DumpError(InsightError):
    """A file or an admin answer that is not what it should be, or does not hold what is asked for."""


class UnreachableError(InsightError):
    """A running proxy did not answer."""

    exit_code = 1


class NoSuchPageError(UnreachableError):
    """A running proxy answered, and has no such page."""
