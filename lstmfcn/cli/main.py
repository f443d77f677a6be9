"""The command line: its commands, and how each ends.

The one place where errors become exit codes: an error that the user can correct is one line on
stderr, with exit code 2 (1 if a training failed, 130 if it was stopped); a bug keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, NoReturn

from cyclopts import (
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
    ValidationError,
)
from pydantic import ValidationError as PydanticValidationError

from lstmfcn.cli.app import PAGES, add, app
from lstmfcn.cli.check import check
from lstmfcn.cli.completion import completion
from lstmfcn.cli.convert import convert
from lstmfcn.cli.evaluate import evaluate
from lstmfcn.cli.export import export
from lstmfcn.cli.flags import EMPTY_PATH, PRINTING
from lstmfcn.cli.predict import predict
from lstmfcn.cli.report import report
from lstmfcn.cli.resume_command import resume_command
from lstmfcn.cli.sample import sample
from lstmfcn.cli.serve import serve
from lstmfcn.cli.split import split
from lstmfcn.cli.train import train
from lstmfcn.cli.tune import tune
from lstmfcn.console import OutputMode, configure_output, show_all_characters
from lstmfcn.errors import LstmfcnError, RunInterruptedError, one_line
from lstmfcn.hyperparameters import format_validation_error
from lstmfcn.signals import graceful_interrupts

for command in (
    *(sample, convert, split, check, train, tune, evaluate, report, predict, serve, export),
    completion,
):
    add(command)

_AS_ERRORS: dict[str, Any] = {
    "exit_on_error": False,
    "print_error": False,
    "result_action": "return_value",
}


@app.meta.default
def _global_options(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    quiet: Annotated[bool, PRINTING] = False,
    as_json: Annotated[bool, Parameter(name="--json"), PRINTING] = False,
    verbose: Annotated[bool, PRINTING] = False,
) -> None:
    """Run a command, and print its output as these flags say.

    Parameters
    ----------
    quiet
        Print only the result, warnings and errors.
    as_json
        Print the result as one line of JSON; progress goes to stderr.
    verbose
        Also print the log of Ray and its processes.
    """
    configure_output(OutputMode(quiet, as_json, verbose))
    app(words, **_AS_ERRORS)


def run(*command: str) -> NoReturn:
    """Run the command line of this process, after the words given here, and end the process."""
    exit_code = main([*command, *sys.argv[1:]])
    with suppress(OSError):  # the reader has gone: Python reports that
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)  # all is written; taking PyTorch apart takes 0.1 to 0.6 s more
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    show_all_characters()
    try:
        with graceful_interrupts(partial(resume_command, arguments)):
            app.meta(arguments, **_AS_ERRORS)
    except CycloptsError as error:
        return _refuse(_usage(error, arguments), 2)
    except RunInterruptedError as error:
        again = f"; resume with: {resume_command(arguments)}" if error.resumable else ""
        return _refuse(f"{error}{again}", error.exit_code)
    except LstmfcnError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse(
            "stopped; run the same command to start again", RunInterruptedError.exit_code
        )
    return 0


def _usage(error: CycloptsError, arguments: Sequence[str]) -> str:
    cause = error.__cause__
    if isinstance(error, ValidationError) and isinstance(cause, PydanticValidationError):
        return format_validation_error(cause)
    return _misplaced(error, arguments) or " ".join(str(error).split()) + " See lstmfcn --help."


def _misplaced(error: CycloptsError, arguments: Sequence[str]) -> str | None:
    """What to say of data or a model that is missing, or that stands in the wrong place."""
    if "-" in arguments:
        return "found -: data is read twice, a stream only once; write a file and name that"
    if "" in arguments:
        return EMPTY_PATH
    command = error.command_chain[0] if error.command_chain else ""
    page = next((PAGES[function] for function in PAGES if function.__name__ == command), None)
    if page and isinstance(error, MissingArgumentError) and _stands_first(error):
        first = page.usage.split()[0].rstrip(".").lower()
        return f"{command}: found no {first}; it comes first, as in {page.examples[0]}"
    if page and isinstance(error, UnusedCliTokensError):
        word = next(iter(error.unused_tokens or []), "")
        return (
            f"{command}: found {word!r}, one argument too many; what stands before all flags is "
            f"not named by a flag again. See lstmfcn {command} --help."
        )
    return None


def _stands_first(error: MissingArgumentError) -> bool:
    """Whether what is missing has its place before all flags."""
    return error.argument is not None and error.argument.index is not None


def _refuse(message: str, exit_code: int) -> int:
    print(f"lstmfcn: {one_line(message)}", file=sys.stderr)
    return exit_code
