"""The command line: `cloudctl`. Every command is one call of the client; options, help and exit codes are here.

Nothing but click is imported until a command runs, so help and completion answer at once. The module is
longer than most: one short function for each command, and their options.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import get_completion_class

if TYPE_CHECKING:
    from orchestration import client_commands as commands
    from orchestration import client_errors as errors
else:

    class _Later:
        """A module that is imported when it is first used."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> object:
            return getattr(import_module(self._name), attribute)

    commands = _Later("orchestration.client_commands")
    errors = _Later("orchestration.client_errors")

__all__ = ["cloudctl", "main"]

EXIT_USAGE = 64
EXIT_NO_OUTPUT = 74  # EX_IOERR
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # as if SIGPIPE had ended us
# No file of a command's own fails with these: the commands turn such failures into problems.
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}

F = TypeVar("F", bound=Callable[..., Any])
Given = dict[str, Any]
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class WaitCommand(click.Command):
    """Lets `--wait` stand alone; click would take the next word for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with a bare `--wait` meaning for ever."""
        return super().parse_args(ctx, ["--wait=" if word == "--wait" else word for word in args])


def _note(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value not in {None, False} and parameter.name is not None:
        ctx.ensure_object(dict)[parameter.name] = value


def _shared(name: str, **attributes: Any) -> Callable[[F], F]:
    """Make an option that is taken before and after the command, and kept in the context."""
    names = name.split()
    return click.option(*names, callback=_note, expose_value=False, **attributes)


def shared(*, hidden: bool) -> Callable[[F], F]:
    """Add the options every command has."""

    def add(function: F) -> F:
        for option in (
            _shared(
                "--debug",
                is_flag=True,
                hidden=hidden,
                help="Show a traceback when something fails.",
            ),
            _shared(
                "--quiet -q", is_flag=True, hidden=hidden, help="No progress and notes on stderr."
            ),
            _shared(
                "--color",
                type=click.Choice(["auto", "always", "never"]),
                hidden=hidden,
                help="Default: on a terminal, unless NO_COLOR is set.",
            ),
            _shared(
                "--timeout", metavar="T", hidden=hidden, help="For one answer of the server; 30s."
            ),
            _shared(
                "--state-dir", metavar="DIR", hidden=hidden, help="State folder of the server."
            ),
            _shared(
                "--server", metavar="URL", hidden=hidden, help="Its socket instead: unix:///path."
            ),
        ):
            function = option(function)
        return function

    return add


def printing(function: F) -> F:
    """Add the options of commands that print records."""
    function = _shared("--no-headers", is_flag=True, help="No column titles.")(function)
    formats = "table|wide|json|jsonl|yaml|name"
    function = _shared("--output -o", metavar=formats, help="Default: table.")(function)
    return shared(hidden=True)(function)


def _not_empty(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty")
    return value


def _settings(ctx: click.Context) -> commands.Settings:
    given = {name: value for name, value in ctx.ensure_object(dict).items() if name != "debug"}
    return commands.Settings(**given)


def _complete_name(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    kind = ctx.params.get("kind") or ("work" if ctx.info_name == "work" else "resources")
    return commands.names(_settings(ctx), kind, incomplete)


@click.group(context_settings=CONTEXT | {"auto_envvar_prefix": "CLOUDCTL"})
@shared(hidden=False)
def cloudctl() -> None:
    """Declare infrastructure, and carry every unit of work to a known end.

    Every option can be set in the environment: CLOUDCTL_STATE_DIR, CLOUDCTL_GET_OUTPUT, …
    """


@cloudctl.command()
@click.option("--metrics-listen", metavar="HOST:PORT", help="Also serve /metrics there.")
@shared(hidden=True)
@click.pass_context
def serve(ctx: click.Context, /, metrics_listen: str | None) -> None:
    """Run the server in the foreground."""
    commands.serve(_settings(ctx), metrics_listen)


@cloudctl.group()
def server() -> None:
    """Start, stop or look at a server in the background."""


@server.command("start")
@click.option("--metrics-listen", metavar="HOST:PORT", help="Also serve /metrics there.")
@click.option(
    "--wait-ready", metavar="T", default="30s", show_default=True, help="How long it may take."
)
@shared(hidden=True)
@click.pass_context
def server_start(ctx: click.Context, /, metrics_listen: str | None, wait_ready: str) -> None:
    """Start a server in the background and wait until it is ready; prints its process id."""
    commands.server_start(_settings(ctx), metrics_listen, wait_ready)


@server.command("stop")
@click.option(
    "--wait-gone", metavar="T", default="30s", show_default=True, help="How long it may take."
)
@shared(hidden=True)
@click.pass_context
def server_stop(ctx: click.Context, /, wait_gone: str) -> None:
    """Stop the server and wait until it is gone."""
    commands.server_stop(_settings(ctx), wait_gone)


@server.command("status")
@printing
@click.pass_context
def server_status(ctx: click.Context, /) -> None:
    """Show the server's health on one screen."""
    commands.server_status(_settings(ctx))


@cloudctl.command()
@click.argument("file", default="infra.toml")
@shared(hidden=True)
@click.pass_context
def init(ctx: click.Context, /, file: str) -> None:
    """Write a commented starter FILE (default infra.toml) and the schema for editors."""
    commands.init(_settings(ctx), file)


@cloudctl.command()
def schema() -> None:
    """Print the JSON Schema of the infrastructure file."""
    commands.schema()


@cloudctl.command()
@click.argument("file")
@printing
@click.pass_context
def validate(ctx: click.Context, /, file: str) -> None:
    """Check FILE and show everything that is wrong with it; needs no server."""
    commands.validate(_settings(ctx), file)


@cloudctl.command()
@click.argument("file")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are changes.")
@printing
@click.pass_context
def plan(ctx: click.Context, /, file: str, *, detailed_exitcode: bool) -> int:
    """Show what applying FILE would change."""
    return commands.plan(_settings(ctx), file, detailed_exitcode=detailed_exitcode)


@cloudctl.command(cls=WaitCommand)
@click.argument("file")
@click.option("--auto-approve", "-y", is_flag=True, help="Do not ask.")
@click.option("--cancel-work", is_flag=True, help="Cancel unfinished work of resources that go.")
@click.option("--wait", metavar="[=T]", help="For all to be ready; default 5m, without T for ever.")
@click.option("--no-wait", is_flag=True, help="Return as soon as it is applied.")
@printing
@click.pass_context
def apply(ctx: click.Context, /, file: str, wait: str | None, **given: bool) -> None:
    """Show what FILE changes, ask, make it so and wait until it is.

    Starts a local server in the background if none is running.
    """
    commands.apply(
        _settings(ctx),
        file,
        approved=given["auto_approve"],
        cancel_work=given["cancel_work"],
        wait="no" if given["no_wait"] else wait,
    )


@cloudctl.group()
def submit() -> None:
    """Submit work."""


@submit.command("work", cls=WaitCommand)
@click.argument(
    "words", nargs=-1, metavar="RESOURCE VERB [name=value]...", shell_complete=_complete_name
)
@click.option("--file", "-f", metavar="FILE|-", help="TOML with [[work]] tables, or JSON lines.")
@click.option(
    "--wait", metavar="[=T]", help="Wait for the end, at most T; exit 3 if it is no success."
)
@click.option("--on-failure", metavar="RULE", help="fail, or wait[,attempts=N][,backoff=T].")
@click.option("--deadline", metavar="T", help="No new attempt later than T after acceptance.")
@click.option("--command-deadline", metavar="T", help="For one command at its device.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    callback=_not_empty,
    help="Submitting again with it changes nothing.",
)
@printing
@click.pass_context
def submit_work(
    ctx: click.Context, /, words: tuple[str, ...], file: str | None, **given: str | None
) -> None:
    """Submit one unit of work, or those of a file; prints their ids.

    A value is a number, true, false or text; name:=JSON gives anything else.
    """
    options = commands.SubmitOptions(**given)
    if file is None:
        commands.submit_words(_settings(ctx), words, options)
    elif words:
        raise click.UsageError("give a unit in words or in a file, not both")
    else:
        commands.submit_file(_settings(ctx), file, options)


@cloudctl.group()
def cancel() -> None:
    """Cancel work."""


@cancel.command("work")
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=_complete_name)
@printing
@click.pass_context
def cancel_work(ctx: click.Context, /, ids: tuple[str, ...]) -> None:
    """Cancel units of work that have not come to their end."""
    commands.cancel(_settings(ctx), ids)


@cloudctl.group()
def retry() -> None:
    """Retry work that ended without success."""


@retry.command("work")
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=_complete_name)
@printing
@click.pass_context
def retry_work(ctx: click.Context, /, ids: tuple[str, ...]) -> None:
    """Submit the commands that are left of failed, cancelled or quarantined units; prints the new ids.

    Retrying a unit again gives the same new unit; if that has failed too, retry that one.
    """
    commands.retry(_settings(ctx), ids)


@cloudctl.group()
def reset() -> None:
    """Bring back what was set aside."""


@reset.command("resource")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=_complete_name)
@printing
@click.pass_context
def reset_resource(ctx: click.Context, /, paths: tuple[str, ...]) -> None:
    """Try resources again that were set aside because different units crashed them."""
    commands.reset(_settings(ctx), paths)


@cloudctl.command()
@click.argument("kind", metavar="regions|zones|pods|resources|work|nodes|events")
@click.argument("name", required=False, shell_complete=_complete_name)
@click.option(
    "--label", "-l", multiple=True, metavar="FIELD=VALUE", help="Only those; * matches any."
)
@click.option("--limit", type=click.IntRange(min=1), help="No more than that many.")
@click.option("--watch", "-w", is_flag=True, help="Go on showing what changes.")
@printing
@click.pass_context
def get(ctx: click.Context, /, kind: str, name: str | None, *, watch: bool, **given: Any) -> None:
    """List objects of a kind.

    NAME is a name, a beginning that ends in /, or a pattern: get resources 'eu/*/rack-1/vm-0?'
    """
    wanted = commands.Filter(name=name, labels=given["label"], limit=given["limit"])
    commands.get(_settings(ctx), kind, wanted, watch=watch)


@cloudctl.command()
@click.argument(
    "words", nargs=-1, required=True, metavar="[KIND] NAME", shell_complete=_complete_name
)
@printing
@click.pass_context
def describe(ctx: click.Context, /, words: tuple[str, ...]) -> None:
    """Show everything about one object, and its last events."""
    if len(words) > 2:  # kind and name
        raise click.UsageError("describe takes [KIND] NAME")
    commands.describe(_settings(ctx), words)


@cloudctl.command()
@click.argument("path", default="")
@click.option(
    "--depth", type=click.IntRange(1, 4), help="1 regions, 2 zones, 3 pods, 4 every resource."
)
@click.option("--only", type=click.Choice(["failing"]), help="Only branches with something wrong.")
@printing
@click.pass_context
def tree(ctx: click.Context, /, path: str, depth: int | None, only: str | None) -> None:
    """Show the supervision tree, all of it or below PATH."""
    commands.tree(_settings(ctx), path, depth=depth, only_failing=only is not None)


@cloudctl.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with each event as it happens.")
@click.option("--after", type=click.IntRange(min=0), metavar="SEQ", help="Only later ones.")
@click.option("--kind", metavar="KIND", help="unit.failed, resource.crashed, node.lost, …")
@click.option("--resource", metavar="PATH", help="Only those of that resource.")
@click.option(
    "--label", "-l", multiple=True, metavar="FIELD=VALUE", help="Only those; * matches any."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the last so many.")
@printing
@click.pass_context
def events(
    ctx: click.Context, /, *, follow: bool, after: int | None, kind: str | None, **given: Any
) -> None:
    """Show what has happened."""
    wanted = commands.Filter(name=given["resource"], labels=given["label"], limit=given["limit"])
    commands.events(_settings(ctx), wanted, follow=follow, after=after, kind=kind)


@cloudctl.command()
@printing
@click.pass_context
def verify(ctx: click.Context, /) -> None:
    """Check every promise against the event log."""
    commands.verify(_settings(ctx))


@cloudctl.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(cloudctl completion bash)"."""
    made_by = get_completion_class(shell)
    assert made_by is not None  # click has all three
    click.echo(made_by(cloudctl, {}, "cloudctl", "_CLOUDCTL_COMPLETE").source())


@cloudctl.command()
@printing
@click.pass_context
def version(ctx: click.Context, /) -> None:
    """Show the version, and the server's if one runs."""
    commands.version(_settings(ctx))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give the exit status; failures are shown on stderr."""
    given: Given = {}
    if sys.stderr is None:  # as is a stream that was closed before we began
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until we end
    if sys.stdout is None:  # nothing is done whose answer nobody could read
        return _no_output("it is closed")
    try:
        status = cloudctl.main(arguments, "cloudctl", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - shown, or raised again for --debug
        return _failed(error, given)
    return status if isinstance(status, int) else 0


def _failed(error: Exception, given: Given) -> int:
    match error:
        case click.ClickException():
            error.show()
            return EXIT_USAGE
        case BrokenPipeError():
            # Nobody reads on; without this Python complains while it flushes at exit.
            _drop_output()
            return EXIT_BROKEN_PIPE
        case OSError(errno=number, filename=None) if number in CANNOT_WRITE:
            _drop_output()
            return _no_output(error.strerror or str(error))
    if given.get("debug"):
        raise error
    return errors.report(error, given.get("color", "auto"))


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _no_output(why: str) -> int:
    sys.stderr.write(f"error: standard output cannot be written: {why}\n")
    return EXIT_NO_OUTPUT


if __name__ == "__main__":
    sys.exit(main())
