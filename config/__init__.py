"""The operator's file: read, checked, compared.

`load` turns TOML into an `Infrastructure` or raises a `ConfigError` that shows every problem;
`plan` says what applying it would change. Imports nothing else of the product.
"""

from __future__ import annotations

from config.changes import Action, Change, plan
from config.editor_schema import schema
from config.loading import load, loads
from config.model import (
    Backoff,
    Infrastructure,
    Pod,
    Region,
    Resource,
    Strategy,
    Supervision,
    Template,
    Zone,
)
from config.problems import Code, ConfigError, ConfigProblem
from config.starter import init_text

__all__ = [
    "Action",
    "Backoff",
    "Change",
    "Code",
    "ConfigError",
    "ConfigProblem",
    "Infrastructure",
    "Pod",
    "Region",
    "Resource",
    "Strategy",
    "Supervision",
    "Template",
    "Zone",
    "init_text",
    "load",
    "loads",
    "plan",
    "schema",
]
