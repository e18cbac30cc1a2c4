"""The dashboard is what `grafana.dashboard` makes, and every query of it finds data in a real Prometheus."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from grafana import dashboard
from grafana.panels import ROWS, Look
from metrics import (
    COMMIT_BOUNDS_S,
    CONTENT_TYPE,
    HANDLE_BOUNDS_S,
    WAIT_BOUNDS_S,
    WORK_BOUNDS_S,
    Distribution,
    NodeSample,
    PodSample,
    ServerSample,
    render,
)
from metrics.families import FAMILIES, Type

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads(dashboard.PATH.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}

pytestmark = pytest.mark.xdist_group("prometheus")

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
each_query = pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)


def filled_in(query: str) -> str:
    """What Grafana sends: its variables replaced, everything chosen."""
    return re.sub(r"\$(zone|pod)\b", ".*", query).replace("$__rate_interval", "4s")


def known_names() -> set[str]:
    names = set()
    for family in FAMILIES:
        histogram = [family.name + end for end in ("_bucket", "_sum", "_count")]
        names |= set(histogram) if family.type is Type.HISTOGRAM else {family.name}
    return names


class Load:
    """A small fleet on which a little more has happened at each scrape."""

    def __init__(self) -> None:
        self._scrapes = count(1)

    def render(self) -> bytes:
        now = next(self._scrapes)
        pods = [self._pod(f"eu/{zone}/rack-{rack}", now) for zone in "ab" for rack in (1, 2)]
        nodes = [
            NodeSample(name=pod.path, kind="pod", up=True, restarts=now, last_seen_utc=1.0)
            for pod in pods
        ]
        server = ServerSample(
            version="1.0",
            units={"pending": 5, "executing": 2, "succeeded": now},
            accepted=now * 10,
            finished={"succeeded": now * 9, "failed": now},
            oldest_pending_age_s=3.0,
            wait=self._spread(WORK_BOUNDS_S, now),
            duration={"succeeded": self._spread(WORK_BOUNDS_S, now)},
            commit=self._spread(COMMIT_BOUNDS_S, now),
            events=now * 40,
            revision=1,
        )
        return render(pods, server=server, nodes=nodes)

    def _pod(self, path: str, now: int) -> PodSample:
        wait, handle = self._spread(WAIT_BOUNDS_S, now), self._spread(HANDLE_BOUNDS_S, now)
        return PodSample(
            path=path,
            processes={"ready": 40, "executing": 10},
            mailbox_sum=30,
            mailbox_max=7,
            mailbox_depth=(20, 20, 10, 0, 0, 0, 0),
            units={"succeeded": now},
            commands=now,
            crashes={"device_fault": now},
            restarts=now,
            escalations=now // 10,
            stale_epochs=now // 5,
            wait_s=wait.counts,
            wait_s_sum=wait.total,
            handle_s=handle.counts,
            handle_s_sum=handle.total,
        )

    def _spread(self, bounds: tuple[float, ...], now: int):
        distribution = Distribution(bounds)
        for value in (*bounds, bounds[-1] + 1):
            for _ in range(now):
                distribution.note(value)
        return distribution.sample()


@pytest.fixture(scope="module")
def exporter() -> Iterator[str]:
    load = Load()

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = load.render()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(exporter, scraping):
    return scraping(exporter)


def test_committed_dashboard_is_the_one_that_is_made():
    assert dashboard.PATH.read_text() == dashboard.render(), "run: make dashboard"


def test_every_panel_finds_data_in_a_real_prometheus(prometheus):
    queries = {name: filled_in(query) for name, query in QUERIES.items()}

    assert prometheus.without_data(queries) == {}


def test_every_recording_rule_finds_data_in_a_real_prometheus(prometheus):
    text = (ROOT / "grafana" / "prometheus" / "rules" / "recording.yml").read_text()
    names = re.findall(r"record: (\S+)", text)

    assert len(names) == 4
    assert prometheus.without_data({name: name for name in names}) == {}


def test_no_rule_fails_in_a_real_prometheus(prometheus):
    assert prometheus.without_data({"scraped": "cloudctl_build_info"}) == {}
    groups = prometheus.ask("rules")["groups"]
    errors = {
        rule["name"]: rule.get("lastError", "") for group in groups for rule in group["rules"]
    }

    assert {name: error for name, error in errors.items() if error} == {}
    assert len(errors) == 14


def test_query_without_data_is_found(prometheus):
    wrong = {"typo": "cloudctl_processess", "nothing": "cloudctl_processes{pod='nowhere'}"}

    assert prometheus.without_data(wrong, within_s=1) == wrong


def test_choices_at_the_top_find_zones_and_pods(prometheus):
    assert prometheus.without_data({"scraped": "cloudctl_processes"}) == {}

    assert prometheus.ask("label/zone/values") == ["eu/a", "eu/b"]
    assert len(prometheus.ask("label/pod/values")) == 4


@each_query
def test_query_is_promql_and_names_metrics_that_exist(query):
    promql_parser.parse(filled_in(query))

    assert set(re.findall(r"cloudctl_\w+", query)) <= known_names()


@each_query
def test_query_uses_only_variables_that_are_defined(query):
    assert set(re.findall(r"\$(\w+)", query)) <= set(VARIABLES) | {"__rate_interval"}


@each_query
def test_counter_is_never_shown_without_a_rate(query):
    for name in re.findall(r"cloudctl_\w+_total", query):
        assert re.search(rf"(rate|increase)\({name}\b", query)


@each_panel
def test_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]


def test_panels_neither_overlap_nor_overflow():
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not taken & cells, panel["title"]
        taken |= cells


def test_panels_are_numbered_apart():
    numbers = [panel["id"] for panel in PANELS]

    assert all(before < after for before, after in pairwise(numbers))


def test_mailbox_depth_and_crash_rates_are_shown_in_every_form():
    titles = {panel["title"] for panel in PANELS}

    assert {
        "Mailbox depth, p50 and p99 over processes",
        "Fullest mailbox by pod",
        "Processes by mailbox depth",
        "Crash rate by pod",
        "Crash rate by reason",
    } <= titles
    assert any(panel["type"] == "heatmap" for panel in PANELS)
    assert sum(chart.look is Look.STAT for row in ROWS for chart in row.charts) == 6
