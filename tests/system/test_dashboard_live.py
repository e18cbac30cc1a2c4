"""Every panel of the dashboard finds data when a real Prometheus scrapes a whole server."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from benchmarks.local_server import LocalServer, kill

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "grafana" / "dashboards" / "cloudctl.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": re.sub(r"\$(zone|pod)\b", ".*", target["expr"]).replace(
        "$__rate_interval", "60s"
    )
    for panel in BOARD["panels"]
    for target in panel.get("targets", ())
}
FILE = """
[infrastructure]
name = "live"
[region.eu.zone.a.pod.rack-1]
driver = "simulated"
backoff = { initial = "10ms", max = "100ms" }
resource."host-{1..5}" = { class = "host" }
[region.eu.zone.b.pod.rack-1]
driver = "simulated"
resource."host-{1..5}" = { class = "host" }
"""


def work() -> str:
    """Units of every kind: quick ones, one that crashes its process once, one that is refused."""
    units: list[tuple[str, dict[str, object]]] = [
        ("eu/a/rack-1/host-1", {"verb": "noop", "params": {"crash": True, "times": 1}}),
        ("eu/b/rack-1/host-1", {"verb": "start"}),
        *((f"eu/{zone}/rack-1/host-{n}", {"verb": "create"}) for zone in "ab" for n in range(2, 6)),
    ]
    return "".join(
        json.dumps({"resource": path, "commands": [command]}) + "\n" for path, command in units
    )


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_every_panel_finds_data_of_a_whole_server(address, scraping, promtool, tmp_path):
    file = tmp_path / "live.toml"
    file.write_text(FILE)
    with LocalServer(extra=("--metrics-listen", address)) as server:
        server.cli("apply", str(file), "--auto-approve", "--wait=60s")
        prometheus = scraping(address)
        # A rate needs the counters as they were before anything happened.
        assert (
            prometheus.without_data(
                {"first": "cloudctl_process_crashes_total or cloudctl_commands_total"}
            )
            == {}
        )
        server.cli("submit", "work", "-f", "-", "--wait=60s", stdin=work(), check=False)
        missing = prometheus.without_data(QUERIES, within_s=30)

        assert missing == {}
        with urlopen(f"http://{address}/metrics") as answer:
            told = subprocess.run(
                [promtool, "check", "metrics"],
                input=answer.read(),
                capture_output=True,
                check=False,
            )
        assert (told.returncode, told.stderr) == (0, b"")
        restarts = 'cloudctl_node_restarts_total{node="eu/b/rack-1"} > 0'
        pod = server.node("pod", "eu/b/rack-1")
        assert pod.pid is not None
        kill(pod.pid, signal.SIGKILL)
        assert prometheus.without_data({"restarts": restarts}, within_s=30) == {}
