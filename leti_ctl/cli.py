"""`leti-ctl`: the root command, its table of commands and the one place where errors become text and exit codes.

A command's module is imported when the command runs, so `--help` costs click and nothing else (about 0.1 s, where
importing pydantic, rich or boto3 alone would double it).
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from leti_ctl import ending

COMMANDS = {
    "submit": "Start a run and follow it to the end.",
    "suite": "Make every run behind a paper's tables; print ours beside the published.",
    "resume": "Go on with a run that was stopped, failed or killed.",
    "stop": "Stop a run; everything it committed stays.",
    "watch": "Follow a run: a live table of iterations, stages and parts.",
    "status": "Show a run: every iteration's scores, speeds and progress.",
    "runs": "List the runs of a store.",
    "logs": "Print what the stages of a run logged.",
    "samples": "Read solutions with their verdict and feedback.",
    "notes": "Print the failures that somebody could write feedback on.",
    "artifacts": "List, read, fetch and compare what runs made.",
    "trace": "Walk lineage: back from a row, sample or score, forward from a problem.",
    "audit": "Check every object, record, row and score of a run against each other.",
    "context": "Show where runs go, and choose another place.",
    "gc": "Remove what a run can do without: garbage and superseded weights.",
    "report": "Write a page about one run or several, every figure and every number.",
    "track": "Tell runs to MLflow or TensorBoard; again, to add what is new.",
    "export": "Write a checkpoint as a Hugging Face folder with a model card.",
    "presets": "List the presets, show one, or list every field of a run spec.",
    "profiles": "List the node-pool profiles, show one, or list its fields.",
    "lint": "Check Argo manifests for mistakes, without a cluster.",
    "render": "Render Argo manifests, or find where others differ.",
    "schema": "Print the JSON Schemas of what a run stores.",
    "judge": "Execute solutions against their tests in the sandbox; no run needed.",
    "doctor": "Check that this machine, or this cluster, is fit to run leti.",
    "estimate": "Tell what a run will take: pods, accelerator-hours, time, bytes and money.",
}


class _LazyGroup(click.Group):
    """Commands by name, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"leti_ctl.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="leti", prog_name="leti-ctl")
def cli() -> None:
    """Run LETI: improve a code model from the feedback of executing what it wrote.

    One iteration generates solutions, executes them in a sandbox, builds training examples from the outcome and its
    traceback, trains on them and evaluates. Start with: leti-ctl submit --preset quickstart --iterations 2
    """


def main() -> NoReturn:
    """Run the command line; every failure is one line on stderr and an exit code from the tree."""
    ending.listen()
    gc.set_threshold(10_000, 10, 10)  # what imports make stays
    atexit.register(gc.freeze)  # at the end Python looks through all there is, for cycles that go with the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a model wrote has characters that not every terminal has.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort as error:
        # What click makes of KeyboardInterrupt.
        _exit(
            "Stopped", f"{ending.describe(error.__cause__)}; run the command again", ending.exit_code(error.__cause__)
        )
    except click.ClickException as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if isinstance(error, click.UsageError) and error.ctx else ""
        _exit("UsageError", error.format_message() + hint, error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        _exit_for(error)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_for(error: Exception) -> NoReturn:
    from stages.contract.errors import LetiError, describe_os_error, describe_shortage

    if isinstance(error, OSError):
        error = describe_os_error(error)
    error = describe_shortage(error) or error
    if not isinstance(error, LetiError):
        raise error
    _exit(type(error).__name__, str(error), error.exit_code)


def _exit(kind: str, message: str, code: int) -> NoReturn:
    line = " ".join(message.split("\n"))
    if "--json" in sys.argv:
        failure: dict[str, Any] = {"error": {"kind": kind, "message": line, "exit_code": code}}
        click.echo(json.dumps(failure))
    click.echo(f"leti-ctl: {line}", err=True)
    sys.exit(code)
