"""Every panel of the dashboard finds data in a real Prometheus that scrapes a real server at work."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.local_server import LocalServer
from grafana import dashboard

if TYPE_CHECKING:
    from tests.conftest import Prometheus

FILE = """
[infrastructure]
name = "metrics"
[region.eu.zone.a.pod.p1]
driver = "simulated"
[region.eu.zone.a.pod.p1.resource."d-{1..8}"]
class = "host"
"""


def queries() -> dict[str, str]:
    panels = [p for p in json.loads(dashboard.PATH.read_text())["panels"] if p["type"] != "row"]
    found = {f"{p['title']} {t['refId']}": str(t["expr"]) for p in panels for t in p["targets"]}
    return {
        name: re.sub(r"\$(zone|pod)\b", ".*", query).replace("$__rate_interval", "4s")
        for name, query in found.items()
    }


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_every_panel_finds_data_of_a_real_server(
    tmp_path: Path, scraping: Callable[[str], Prometheus]
) -> None:
    address = free_address()
    with LocalServer(tmp_path / "state", extra=("--metrics-listen", address)) as server:
        (tmp_path / "infra.toml").write_text(FILE)
        server.cli("apply", str(tmp_path / "infra.toml"), "--auto-approve", "--wait=60")
        prometheus = scraping(address)
        lines = [
            {"resource": f"eu/a/p1/d-{n}", "commands": [{"verb": "create"}]} for n in range(1, 9)
        ]
        lines.append(
            {
                "resource": "eu/a/p1/d-1",
                "commands": [{"verb": "set", "params": {"value": 1, "crash": True}}],
            }
        )
        lines += [
            {
                "resource": f"eu/a/p1/d-{n % 8 + 1}",
                "commands": [{"verb": "set", "params": {"value": n, "latency": "100ms"}}],
            }
            for n in range(1200)  # a quarter of a minute of work: rates need it to go on
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        server.cli("submit", "work", "-f", "-", stdin=text)

        assert prometheus.without_data(queries(), within_s=60) == {}
