"""The endpoint table from Envoy's own dumps, beside what istioctl printed for the same dump."""

import json
from pathlib import Path

import pytest
from eastgate.insight.dump_source import proxies
from eastgate.insight.endpoint_table import HEADER, Row, rows_of, sort_key, table_text
from eastgate.insight.errors import DumpError

from ..support.gateway_process import run_command

DUMPS = Path(__file__).parent.parent / "data" / "envoy"


def read(*paths: Path) -> list[Row]:
    (proxy,) = proxies("", [str(path) for path in paths])
    return rows_of(proxy)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize("role", ["gke-gateway", "anthos-sidecar"])
def test_first_columns_equal_what_istioctl_printed(role: str) -> None:
    rows = read(DUMPS / role / "clusters.json")
    printed = [cells(line) for line in (DUMPS / role / "endpoint.txt").read_text().splitlines()[1:]]
    ours = {(row.address, row.status, row.outlier_check, row.cluster) for row in rows}
    theirs = {tuple(line) for line in printed if not line[0].startswith(("unix", "envoy"))}
    assert theirs
    assert theirs <= ours


def test_shares_of_a_config_dump_are_computed_by_the_table_that_picks() -> None:
    rows = read(DUMPS / "anthos-sidecar" / "config_dump.json")
    name = "outbound|80||echo-tcp.default.svc.cluster.local"
    shares = {row.address: (row.priority, row.share) for row in rows if row.cluster == name}
    # Failover: both local pods healthy at priority 0, the gateway of the other cluster waits at priority 1.
    assert shares == {"10.10.2.59:8080": (0, 0.5), "10.10.3.80:8080": (0, 0.5), "10.100.10.6:15443": (1, 0.0)}


def test_table_has_one_line_per_endpoint_below_the_header() -> None:
    rows = sorted(read(DUMPS / "gke-gateway" / "clusters.json"), key=sort_key)
    lines = table_text(rows).splitlines()
    assert cells(lines[0]) == list(HEADER)
    assert len(lines) == 1 + len(rows)


def test_command_prints_the_table_and_json() -> None:
    dump = str(DUMPS / "anthos-sidecar" / "config_dump.json")
    name = "outbound|80||echo-tcp.default.svc.cluster.local"
    table = run_command("endpoints", "--dump", dump, "--cluster", name)
    assert table.returncode == 0, table.stderr
    assert "50.00%" in table.stdout
    rows = json.loads(run_command("endpoints", "--dump", dump, "--cluster", name, "--json").stdout)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)


@pytest.mark.parametrize("content", ["not json", "[]", '{"configs": []}', '{"cluster_statuses": [{}]}', "7"])
def test_wrong_file_is_one_line_that_names_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "dump.json"
    file.write_text(content)
    with pytest.raises(DumpError):
        read(file)
    run = run_command("endpoints", "--dump", str(file))
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1


def test_silent_admin_is_exit_code_1() -> None:
    run = run_command("endpoints", "--admin", "http://127.0.0.1:1")
    assert run.returncode == 1
    assert "is the proxy running" in run.stderr
