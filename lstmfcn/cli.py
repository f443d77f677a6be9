"""The command line: its commands, and how each ends.

The one place where errors become exit codes: what the user can mend is one line on stderr, with
exit code 2 (1 where a training failed, 130 where it was stopped); a bug keeps its traceback.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, ValidationError
from pydantic import ValidationError as PydanticValidationError

import lstmfcn
from lstmfcn.commands.check import check
from lstmfcn.commands.convert import convert
from lstmfcn.commands.evaluate import evaluate
from lstmfcn.commands.export import export
from lstmfcn.commands.predict import predict
from lstmfcn.commands.sample import sample
from lstmfcn.commands.serve import serve
from lstmfcn.commands.train import train
from lstmfcn.commands.tune import tune
from lstmfcn.errors import LstmfcnError, StoppedError
from lstmfcn.hyperparameters import explain

app = App(
    name="lstmfcn",
    help="Train and use the LSTM-FCN time-series classifier on CSV shards, through Ray.",
    version=lstmfcn.__version__,
)
for command in (train, tune, evaluate, predict, serve, export, check, convert, sample):
    app.command(command)


def run(*command: str) -> NoReturn:
    """Be the process of a command: the words given here, then those that the user typed."""
    exit_code = main([*command, *sys.argv[1:]])
    gc.freeze()  # else Python looks through all of PyTorch once more before it ends, for 0.6 s
    sys.exit(exit_code)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _refuse(_usage(error), 2)
    except LstmfcnError as error:
        return _refuse(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _refuse("stopped", StoppedError.exit_code)
    return 0


def _usage(error: CycloptsError) -> str:
    cause = error.__cause__
    if isinstance(error, ValidationError) and isinstance(cause, PydanticValidationError):
        return explain(cause)
    return " ".join(str(error).split()) + " See lstmfcn --help."


def _refuse(message: str, exit_code: int) -> int:
    print(f"lstmfcn: {message}", file=sys.stderr)
    return exit_code
