"""Folders of dumps: which files are one proxy."""

import json
from pathlib import Path
from typing import Any

import pytest
from eastgate.insight.dump_folder import proxy_name, read_folder
from eastgate.insight.dump_source import load, proxies
from eastgate.insight.errors import DumpError

from ..support import dumps

CLUSTERS = {"cluster_statuses": [{"name": dumps.NAME, "host_statuses": [
    {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}, "health_status": {},
     "stats": [{"name": "cx_total", "value": "7"}, {"name": "cx_connect_fail", "value": "2"}]}]}]}  # fmt: skip


def config(name: str = dumps.NAME) -> Any:
    pods = dumps.locality("tokyo", [dumps.endpoint("10.0.0.1:80")])
    return dumps.config_dump([dumps.cluster(name)], [dumps.assignment(pods, name=name)])


def write(folder: Path, **documents: Any) -> None:
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))


def test_one_config_dump_takes_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, a=CLUSTERS, b=config(), package={"name": "not a dump"})
    (tmp_path / "notes.txt").write_text("not JSON")
    (one,) = read_folder(str(tmp_path))
    (endpoint,) = one.clusters[dumps.NAME].endpoints
    assert (one.source, endpoint.connects, endpoint.connect_failures) == (tmp_path.name, 7, 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_dump_may_be_written_as_windows_writes_text(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `>` puts a byte order mark before it."""
    (tmp_path / "config_dump.json").write_text(json.dumps(config()), encoding=encoding)
    (one,) = read_folder(str(tmp_path))
    assert set(one.clusters) == {dumps.NAME}
    assert load(str(tmp_path / "config_dump.json")) == config()


def test_files_of_several_proxies_belong_together_by_name(tmp_path: Path) -> None:
    write(tmp_path, **{"one-config_dump": config(), "one-clusters": CLUSTERS, "clusters.two": CLUSTERS})
    write(tmp_path, **{"config_dump.two": config()})
    found = read_folder(str(tmp_path))
    assert [one.source for one in found] == ["one", "two"]
    assert [next(iter(one.clusters.values())).endpoints[0].connects for one in found] == [7, 7]


def test_a_folder_for_each_proxy(tmp_path: Path) -> None:
    for name in ("gateway", "client"):
        write(tmp_path / name, config_dump=config(), clusters=CLUSTERS)
    assert [one.source for one in read_folder(str(tmp_path))] == ["client", "gateway"]


def test_folders_and_files_stand_beside_each_other(tmp_path: Path) -> None:
    write(tmp_path / "client", config_dump=config())
    file = dumps.write(tmp_path, config(), "other.json")
    assert [one.source for one in proxies("", [str(tmp_path / "client"), file])] == ["client", f"--dump {file}"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.json", '{"configs": [', "x.json: not JSON"),
        ("x.json", '{"configs": 5}', "not the shape that Envoy's admin has"),
        ("x.txt", "nothing", "no config_dump and no /clusters JSON in it"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DumpError, match="--dump .*" + reason):
        read_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "proxy"),
    [
        ("client.config_dump.json", "client"),
        ("clusters-client.json", "client"),
        ("gateway_clusters.json", "gateway"),
        ("config_dump.json", ""),
        ("config_dump?include_eds", ""),
    ],
)
def test_names_of_files(file: str, proxy: str) -> None:
    assert proxy_name(Path(file)) == proxy
