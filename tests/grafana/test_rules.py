"""The Prometheus and Grafana configuration an operator copies."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from metrics.families import FAMILIES, Type

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((FOLDER / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def run(promtool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )


def anchors(markdown: str) -> set[str]:
    """The anchors GitHub and Grafana's readers get for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_configuration_and_rules_are_valid(promtool):
    done = run(promtool, "check", "config", "prometheus.yml")

    assert done.returncode == 0, done.stderr
    assert "2 rule files found" in done.stdout


def test_rules_behave_as_their_tests_say(promtool):
    done = run(promtool, "test", "rules", "rules/tests/alerts.yml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_that_change_fail_their_tests(promtool, tmp_path):
    for path in (FOLDER / "rules").glob("*.yml"):
        (tmp_path / path.name).write_text(path.read_text().replace("> 0.1", "> 0.6"))
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "alerts.yml").write_text((FOLDER / "rules" / "tests" / "alerts.yml").read_text())

    done = run(promtool, "test", "rules", str(tests / "alerts.yml"))

    assert done.returncode == 1
    assert "CloudctlCrashLoop" in done.stdout + done.stderr


def test_every_alert_is_tested():
    tested = (FOLDER / "rules" / "tests" / "alerts.yml").read_text()

    assert {rule["alert"] for rule in ALERTS} == set(re.findall(r"alertname: (\w+)", tested))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_it_is_and_what_to_do(rule):
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert anchor in anchors((ROOT / page).read_text())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rule_names_metrics_that_exist(rule):
    names = {family.name for family in FAMILIES if family.type is not Type.HISTOGRAM}
    names |= {f"{family.name}_bucket" for family in FAMILIES if family.type is Type.HISTOGRAM}
    promql_parser.parse(rule["expr"])

    assert set(re.findall(r"[\w:]*cloudctl_[\w:]+", rule["expr"])) <= names | RECORDED


def test_provisioning_names_the_files_that_are_there():
    sources = yaml.safe_load(
        (ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )
    boards = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/cloudctl.yaml").read_text())

    assert [source["type"] for source in sources["datasources"]] == ["prometheus"]
    assert [provider["type"] for provider in boards["providers"]] == ["file"]
    assert not boards["providers"][0]["allowUiUpdates"]
