"""`eastgate page`: the page for people, of any proxy of the mesh: stock Envoy or eastgate, in a pod or in files."""

import click

from .asked import Asked, asked_options
from .options import dump_option, plain_option

LISTEN = "127.0.0.1:0"


@click.command()
@asked_options
@dump_option()
@plain_option("--listen", default=LISTEN, metavar="HOST:PORT", help="where, on loopback; port 0 = free")
def command(asked: Asked, dump: tuple[str, ...], listen: str) -> None:
    """Serve the page on this machine until interrupted: where connections go and why, what if, doctor's findings.

    The proxy is read through --admin, your own kubectl (--pod) or files (--dump), and never changed.
    """
    import asyncio

    from eastgate.proxy.admin.asking import is_loopback_name
    from eastgate.proxy.admin.dump_page import DumpPage
    from eastgate.proxy.errors import EastgateError, SettingsError
    from eastgate.proxy.setting import parse_host_port

    asked.check(dumps=bool(dump))
    host, port = parse_host_port("--listen", listen, allow_port_zero=True)
    if not is_loopback_name(host):
        raise SettingsError("--listen", listen, "no address of loopback: the page names every service of the mesh")

    async def serve(shown: DumpPage) -> None:
        try:
            url = await shown.start(host, port)
        except OSError as error:
            raise EastgateError(f"--listen {listen}: cannot listen: {error.strerror}") from None
        click.echo(f"page at {url}; Ctrl-C ends it")
        try:
            await asyncio.Event().wait()
        finally:
            await shown.close()

    with asked.proxy() as admin:

        async def run() -> None:
            await serve(DumpPage(admin, dump))

        asyncio.run(run())
