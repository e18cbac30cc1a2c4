"""How a failure is shown: what, where, why, hint and code, on stderr; and what the process exits with."""

from __future__ import annotations

import sys

from config import ConfigError
from orchestration import problems
from orchestration.client_output import wants_color
from orchestration.problems import ProblemError
from orchestration.records import Problem

__all__ = ["exit_status", "render_problem", "report"]

RED, CYAN, BOLD, PLAIN = "\x1b[1;31m", "\x1b[1;36m", "\x1b[1m", "\x1b[0m"
MAX_SHOWN = 20


def report(error: Exception, color: str = "auto") -> int:
    """Show `error` on stderr and give the exit status."""
    colored = wants_color(color, is_terminal=sys.stderr.isatty())
    match error:
        case ConfigError():
            text = error.render(color=colored)
        case ProblemError(problem=problem):
            text = render_problem(problem, color=colored)
        case _:
            text = (
                f"error: {type(error).__name__}: {error}\n  = hint: --debug shows where it happened"
            )
    sys.stderr.write(text + "\n")
    return exit_status(error)


def exit_status(error: Exception) -> int:
    """Say what the process exits with after `error`."""
    match error:
        case ConfigError():
            return problems.EXIT_BAD_INPUT
        case ProblemError(problem=problem):
            return problems.exit_status_of(problem)
        case _:
            return problems.EXIT_FAILED


def render_problem(problem: Problem, *, color: bool) -> str:
    """Lay a problem out like a compiler's message, without a final newline."""
    red, cyan, bold, plain = (RED, CYAN, BOLD, PLAIN) if color else ("", "", "", "")
    lines = [f"{red}error[{problem.code}]{plain}{bold}: {problem.title}{plain}"]
    if problem.detail and not _says_again(problem):
        lines.append(f"  --> {_plain(problem.detail)}")
    for item in problem.errors[:MAX_SHOWN]:
        lines.append(f"  {_plain(_shown(item))}")
        if item.get("hint"):
            lines.append(f"    = {cyan}hint{plain}: {item['hint']}")
    if len(problem.errors) > MAX_SHOWN:
        lines.append(f"  … and {len(problem.errors) - MAX_SHOWN} more")
    if problem.hint and problem.hint not in [item.get("hint") for item in problem.errors]:
        lines.append(f"  = {cyan}hint{plain}: {problem.hint}")
    return "\n".join(lines)


def _says_again(problem: Problem) -> bool:
    """Tell whether the detail only repeats the one error that is listed."""
    messages = [str(item.get("message") or "") for item in problem.errors]
    return len(messages) == 1 and messages[0] != "" and messages[0] in problem.detail


def _plain(text: str) -> str:
    """Take out what could drive the terminal: a device's words may be in it."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text)


def _shown(item: dict[str, object]) -> str:
    """Write one of several errors: a unit by its place in the request, anything else by its fields."""
    index = item.get("index")
    if isinstance(index, int):
        return (
            f"unit {index + 1}: {item.get('message')} [{item.get('code')}]"  # people count from 1
        )
    return "  ".join(f"{name}: {value}" for name, value in item.items() if name != "hint")
