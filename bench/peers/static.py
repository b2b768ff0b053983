"""Proxies configured by a file or by their arguments."""

import os
import sys
from importlib.metadata import version as distribution_version
from pathlib import Path

from .proxy import SNI, CommandProxy, first_line, installed

HAPROXY = """
global
    nbthread 1
    maxconn {connections}
defaults
    mode tcp
    maxconn {connections}
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    {splice}
frontend eastwest
    bind 127.0.0.1:{port} backlog 4096
    tcp-request inspect-delay 15s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend echo if {{ req.ssl_sni -i {sni} }} {{ req.ssl_alpn istio }}
backend echo
    server sink 127.0.0.1:{sink_port}
"""

NGINX = """
{module}
daemon off;
master_process off;
worker_rlimit_nofile 20000;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
stream {{
    map "$ssl_preread_server_name $ssl_preread_alpn_protocols" $endpoint {{
        "~^{sni} istio(,|$)" 127.0.0.1:{sink_port};
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        ssl_preread on;
        proxy_pass $endpoint;
        proxy_timeout 1h;
        tcp_nodelay on;
    }}
}}
"""


class HaproxyProxy(CommandProxy):
    """HAProxy with its copying relay."""

    name = "haproxy"
    splice = ""

    @classmethod
    def absent(cls) -> str:
        return "" if installed("haproxy") else "apt install haproxy"

    @classmethod
    def version(cls) -> str:
        return f"{first_line(installed('haproxy'), '-v')}, nbthread 1"

    def command(self) -> list[str]:
        file = self.folder / "haproxy.cfg"
        # Two sockets a connection, and with splice two pipes of two ends: what the limit of open files leaves.
        file.write_text(
            HAPROXY.format(connections=3000, port=self.port, sink_port=self.sink_port, sni=SNI, splice=self.splice)
        )
        return [installed("haproxy"), "-db", "-f", str(file)]


class HaproxySpliceProxy(HaproxyProxy):
    """HAProxy with splice where it thinks that it pays."""

    name = "haproxy-splice"
    splice = "option splice-auto"


class NginxProxy(CommandProxy):
    """nginx with its stream module."""

    name = "nginx"

    @classmethod
    def absent(cls) -> str:
        return "" if installed("nginx") else "apt install nginx libnginx-mod-stream"

    @classmethod
    def version(cls) -> str:
        return f"{first_line(installed('nginx'), '-v')}, one process"

    def command(self) -> list[str]:
        file = self.folder / "nginx.conf"
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        file.write_text(
            NGINX.format(
                module=f"load_module {module};" if module.exists() else "",
                folder=self.folder,
                port=self.port,
                sink_port=self.sink_port,
                sni=SNI.replace(".", r"\."),
            )
        )
        return [installed("nginx"), "-c", str(file), "-p", str(self.folder), "-e", "stderr"]


class UvloopProxy(CommandProxy):
    """A relay of 80 lines in Python on uvloop: what one writes first."""

    name = "uvloop"

    @classmethod
    def version(cls) -> str:
        return f"uvloop {distribution_version('uvloop')} on Python {sys.version.split()[0]}"

    def command(self) -> list[str]:
        script = Path(__file__).with_name("uvloop_relay.py")
        return [sys.executable, str(script), str(self.port), str(self.sink_port), SNI]


class FloorProxy(CommandProxy):
    """A relay in C that does nothing but what no proxy can leave out."""

    name = "floor"

    @classmethod
    def absent(cls) -> str:
        return "" if os.access(cls.binary(), os.X_OK) else "make bench-build"

    @classmethod
    def version(cls) -> str:
        return "bench/peers/floor.c"

    @staticmethod
    def binary() -> Path:
        return Path(__file__).parents[2] / "build" / "floor"

    def command(self) -> list[str]:
        return [str(self.binary()), str(self.port), str(self.sink_port), SNI]


class UringFloorProxy(FloorProxy):
    """The same over io_uring."""

    name = "floor-uring"

    @classmethod
    def absent(cls) -> str:
        return super().absent() and "apt-get install liburing-dev, make bench-build"

    @classmethod
    def version(cls) -> str:
        return "bench/peers/floor_uring.c"

    @staticmethod
    def binary() -> Path:
        return Path(__file__).parents[2] / "build" / "floor_uring"
