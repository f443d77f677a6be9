"""The command line: its commands, and how each ends.

The one place where errors become exit codes: what the user can mend is one line on stderr, with
exit code 2 (1 where a training failed, 130 where it was stopped); a bug keeps its traceback.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import Annotated, Any, NoReturn

from cyclopts import (
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
    ValidationError,
)
from pydantic import ValidationError as PydanticValidationError

from lstmfcn.commands.check import check
from lstmfcn.commands.completion import completion
from lstmfcn.commands.convert import convert
from lstmfcn.commands.evaluate import evaluate
from lstmfcn.commands.export import export
from lstmfcn.commands.flag_types import DATA_FLAGS, EMPTY
from lstmfcn.commands.going_on import going_on
from lstmfcn.commands.pages import add, app
from lstmfcn.commands.predict import predict
from lstmfcn.commands.report import report
from lstmfcn.commands.sample import sample
from lstmfcn.commands.serve import serve
from lstmfcn.commands.train import train
from lstmfcn.commands.tune import tune
from lstmfcn.errors import LstmfcnError, StoppedError
from lstmfcn.flag_groups import PRINTING
from lstmfcn.hyperparameters import explain
from lstmfcn.interrupts import stoppable
from lstmfcn.quoting import one_line
from lstmfcn.terminal import Manners, show_all_characters, use

for command in (
    *(sample, convert, check, train, tune, evaluate, report, predict, serve, export),
    completion,
):
    add(command)

_AS_ERRORS: dict[str, Any] = {
    "exit_on_error": False,
    "print_error": False,
    "result_action": "return_value",
}


@app.meta.default
def _in_a_manner(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    quiet: Annotated[bool, PRINTING] = False,
    as_json: Annotated[bool, Parameter(name="--json"), PRINTING] = False,
    verbose: Annotated[bool, PRINTING] = False,
) -> None:
    """Run a command, and print as asked.

    Parameters
    ----------
    quiet
        Print the result, warnings and errors only.
    as_json
        Print the result as one line of JSON; progress then goes to stderr.
    verbose
        Print what Ray and its processes log, too.
    """
    use(Manners(quiet, as_json, verbose))
    app(words, **_AS_ERRORS)


def run(*command: str) -> NoReturn:
    """Be the process of a command: the words given here, then those that the user typed."""
    exit_code = main([*command, *sys.argv[1:]])
    with suppress(OSError):  # whoever reads has gone: Python says so
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)  # all is written; taking PyTorch apart takes 0.1 to 0.6 s more
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    show_all_characters()
    try:
        with stoppable(partial(going_on, arguments)):
            app.meta(arguments, **_AS_ERRORS)
    except CycloptsError as error:
        return _refuse(_usage(error, arguments), 2)
    except StoppedError as error:
        again = f"; go on with: {going_on(arguments)}" if error.goes_on else ""
        return _refuse(f"{error}{again}", error.exit_code)
    except LstmfcnError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("stopped; the same command begins again", StoppedError.exit_code)
    return 0


def _usage(error: CycloptsError, arguments: Sequence[str]) -> str:
    cause = error.__cause__
    if isinstance(error, ValidationError) and isinstance(cause, PydanticValidationError):
        return explain(cause)
    return _misplaced(error, arguments) or " ".join(str(error).split()) + " See lstmfcn --help."


def _misplaced(error: CycloptsError, arguments: Sequence[str]) -> str | None:
    """What to say of words that stand where no data is looked for."""
    if "-" in arguments:
        return "found -: data is read twice, a stream only once; write a file and name that"
    if "" in arguments:
        return EMPTY
    command = error.command_chain[0] if error.command_chain else ""
    unused = error.unused_tokens if isinstance(error, UnusedCliTokensError) else None
    missing = isinstance(error, MissingArgumentError) and not error.keyword
    if command == "check" and (unused or missing):
        return "check: data comes first, as in lstmfcn check data/train --validation data/valid"
    if command in DATA_FLAGS and missing:
        words = arguments[list(arguments).index(command) + 1 :]
        unused = list(takewhile(lambda word: not word.startswith("-"), words))
    if command in DATA_FLAGS and unused:
        meant = f"{DATA_FLAGS[command]} {shlex.join(unused)}"
        return f"{command}: found {unused[0]!r} after no flag; did you mean {meant}?"
    return None


def _refuse(message: str, exit_code: int) -> int:
    print(f"lstmfcn: {one_line(message)}", file=sys.stderr)
    return exit_code
