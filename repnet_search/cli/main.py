"""The command line: `repnet-search COMMAND`. Commands parse, call one library function, and print.

This is the one place that turns errors into exit codes: 0 done; 1 failed, one sentence on stderr; 2 options that cannot
be parsed; 3 over budget; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import io
import signal
import sys
import traceback
from types import FrameType

import click

from repnet_search import __version__
from repnet_search.cli.adapt import adapt
from repnet_search.cli.best import best
from repnet_search.cli.boards import boards
from repnet_search.cli.dashboard import dashboard
from repnet_search.cli.data import data
from repnet_search.cli.estimate import estimate
from repnet_search.cli.evaluate import evaluate
from repnet_search.cli.export import export
from repnet_search.cli.importance import importance
from repnet_search.cli.lists import backbones, spaces, studies
from repnet_search.cli.plan import plan
from repnet_search.cli.profile import profile
from repnet_search.cli.report import report
from repnet_search.cli.run import run
from repnet_search.cli.train import train
from repnet_search.cli.verify import verify
from repnet_search.errors import RepnetSearchError, describe_os_error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="repnet-search")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Find the side network (Rep-Net) that adapts a frozen backbone best within a training-memory budget.

    Start with: repnet-search run --budget 256KB
    """


COMMANDS = (
    run,
    best,
    train,
    estimate,
    plan,
    verify,
    profile,
    importance,
    export,
    evaluate,
    adapt,
    report,
    dashboard,
    studies,
    spaces,
    backbones,
    boards,
    data,
)
for command in COMMANDS:
    cli.add_command(command)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what is finished is kept."""


def main() -> None:
    """Runs the command line and exits with its code."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    _replace_unwritable()
    sys.exit(run_cli(sys.argv[1:]))


def _replace_unwritable() -> None:
    """Makes streams that lack a sign of the tables, such as latin1's, write "?" instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def run_cli(arguments: list[str]) -> int:
    """Returns the exit code of a command line; errors are one sentence on stderr."""
    debug = "--debug" in arguments
    # --debug is welcome anywhere, behind the command too.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        cli.main(arguments or ["--help"], prog_name="repnet-search", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if debug:
            traceback.print_exc()
        _complain(error.format_message(), hint=error)
        return 2
    except (KeyboardInterrupt, click.Abort) as error:
        return 143 if isinstance(error.__cause__ or error, Terminated) else 130
    except RepnetSearchError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone (as with `| head`); Python would complain at exit
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        _complain(describe_os_error(error))
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        detail = str(error).strip().splitlines()
        _complain(
            f"Unexpected {type(error).__name__}{': ' + detail[0] if detail else ''}; run with --debug for details."
        )
        return 1
    return 0


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated


def _complain(message: str, *, hint: click.ClickException | None = None) -> None:
    print(f"Error: {message}", file=sys.stderr)
    if isinstance(hint, click.UsageError) and hint.ctx is not None:
        print(f"Try '{hint.ctx.command_path} --help'.", file=sys.stderr)
