"""Makes the Grafana dashboard from `grafana.panels`: `python -m grafana.dashboard` writes it anew.

The JSON is committed, so an operator needs no Python; a test makes it again and compares. Needs the
development dependency grafana-foundation-sdk; nothing of the running product imports this.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.panels import ROWS, Chart, Look
from metrics import families

__all__ = ["PATH", "UID", "render"]

PATH = Path(__file__).parent / "dashboards" / "cloudctl.json"
UID = "cloudctl-overview"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

_Panel = stat.Panel | timeseries.Panel | heatmap.Panel | statetimeline.Panel


def render() -> str:
    """Return the dashboard as JSON text, the same at each call."""
    built = _dashboard().build()
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("cloudctl")
        .uid(UID)
        .description("Mailbox depths, crash rates, work and nodes of one cloudctl server.")
        .tags(["cloudctl"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
        .with_variable(_choice("zone", "Zone", ""))
        .with_variable(_choice("pod", "Pod", '{zone=~"$zone"}'))
    )
    number = 0
    for row in ROWS:
        board.with_row(dashboard.Row(row.title))
        for chart in row.charts:
            number += 1
            board.with_panel(_panel(chart).id(number))
    return board


def _choice(label: str, title: str, selector: str) -> dashboard.QueryVariable:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        dashboard.QueryVariable(label)
        .label(title)
        .datasource(SOURCE)
        .query(f"label_values({families.PROCESSES.name}{selector}, {label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003  # the builder's signature
        .include_all(True)  # noqa: FBT003
        .all_value(".*")
        .current(everything)
    )


def _panel(chart: Chart) -> _Panel:
    panel = _drawn(chart.look)
    panel.title(chart.title).description(chart.text).datasource(SOURCE).unit(chart.unit)
    panel.span(chart.span).height(4 if chart.look is Look.STAT else 8)
    if chart.warn is not None or chart.bad is not None:
        panel.thresholds(_thresholds(chart))
    for letter, query in zip("ABCDEF", chart.queries, strict=False):
        target = (
            prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        ).range()
        if chart.look is Look.HEATMAP:
            target.format(PromQueryFormat.HEATMAP)
        panel.with_target(target)
    return panel


def _drawn(look: Look) -> _Panel:
    match look:
        case Look.STAT:
            return stat.Panel().graph_mode(common.BigValueGraphMode.AREA)
        case Look.HEATMAP:
            # The buckets are Prometheus's, so Grafana must not compute others.
            return heatmap.Panel().calculate(False)  # noqa: FBT003
        case Look.STATES:
            words = {
                "0": model.ValueMappingResult(text="down", color="red", index=0),
                "1": model.ValueMappingResult(text="up", color="green", index=1),
            }
            return statetimeline.Panel().mappings([model.ValueMap(options=words)])
        case Look.LINES | Look.STACK:
            return _lines(stacked=look is Look.STACK)


def _lines(*, stacked: bool) -> timeseries.Panel:
    legend = (
        common_builder.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)  # noqa: FBT003
    )
    panel = timeseries.Panel().legend(legend).min(0).fill_opacity(30 if stacked else 8)
    if stacked:
        panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    return panel


def _thresholds(chart: Chart) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=None, color="green")]
    if chart.warn is not None:
        steps.append(model.Threshold(value=chart.warn, color="yellow"))
    if chart.bad is not None:
        steps.append(model.Threshold(value=chart.bad, color="red"))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render())
