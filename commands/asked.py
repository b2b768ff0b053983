"""Which proxy a command asks: one at an admin address, or one in a pod that the user's own kubectl reaches."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from .options import Command, admin_option, options, plain_option

if TYPE_CHECKING:
    from eastgate.insight.kubectl import Kubectl

POD_HELP = "the proxy in this pod instead, or in one of deploy/NAME, through your own kubectl"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of the proxy to ask. ``contexts``: of kubectl; empty for its current one."""

    admin: str
    pod: str
    contexts: tuple[str, ...]
    kubeconfig: str
    kubectl: str

    def check(self, *, dumps: bool = False, mesh: bool = False) -> None:
        """Raises UsageError for options that say different things, or nothing without another."""
        if self.pod and dumps:
            raise click.UsageError("--pod and --dump: a running proxy, or files?")
        if self.pod and mesh:
            raise click.UsageError("--pod and --mesh: one proxy, or all?")
        if not self.pod and not mesh and (self.contexts or self.kubeconfig):
            raise click.UsageError("--context and --kubeconfig are for --pod" + (", or --mesh" if mesh else ""))
        if self.pod and len(self.contexts) > 1:
            raise click.UsageError("--pod: in which context? Name one")

    @property
    def port(self) -> int:
        """Of the admin in a pod: that of --admin, whose host is the pod itself."""
        return urlsplit(self.admin).port or 15000

    def kubectl_in_context(self) -> "Kubectl":
        from eastgate.insight.kubectl import Kubectl

        return Kubectl(self.kubectl, self.contexts[0] if self.contexts else "", self.kubeconfig)

    @contextmanager
    def proxy(self) -> Iterator[Any]:
        """The admin, for as long as the context lasts. Raises InsightError."""
        from eastgate.insight.dump_source import UrlAdmin

        if not self.pod:
            yield UrlAdmin(self.admin)
            return
        from eastgate.insight.pods import found_pod, reached

        kubectl = self.kubectl_in_context()
        with reached(kubectl, found_pod(kubectl, self.pod), port=self.port) as admin:
            yield admin


def asked_options(command: Command) -> Command:
    """The options of a command that asks a proxy; it gets them as `asked`."""

    @functools.wraps(command)
    def folded(
        *arguments: Any, admin: str, pod: str, contexts: tuple[str, ...], kubeconfig: str, kubectl: str, **rest: Any
    ) -> Any:
        return command(*arguments, asked=Asked(admin, pod, contexts, kubeconfig, kubectl), **rest)

    chosen: Callable[[Callable[..., Any]], Any] = options(
        admin_option,
        plain_option("--pod", default="", metavar="NAME[.NAMESPACE]", help=POD_HELP),
        plain_option("--context", "contexts", multiple=True, metavar="NAME", help="context of kubectl"),
        plain_option("--kubeconfig", default="", metavar="FILE", help="configuration of kubectl"),
        plain_option("--kubectl", default="kubectl", metavar="PROGRAM", help="the program to run"),
    )
    made: Command = chosen(folded)
    return made
