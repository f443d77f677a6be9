"""Cases of outputs: addresses that are not folders, and characters that a terminal cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lstmfcn.errors import LstmfcnError
from lstmfcn.inference.predictor import Classifier
from tests.cases.arrays import trained
from tests.cases.case import Case, refused, run

Act = Callable[[Path, Path], None]
COMMANDS = {
    "train": "train --train {base} --epochs 1 --output {uri}",
    "tune": "tune --train {base} --validation {base} --epochs 1 --num-samples 1 --output {uri}",
    "predict": "predict --model {model} --input {base} --output {uri}",
    "evaluate": "evaluate --model {model} --data {base} --output {uri}",
    "report": "report --model {model} --data {base} --output {uri}",
    "export": "export --model {model} --output {uri}",
    "convert": "convert --input {tsv} --output {uri}",
    "sample": "sample --rows 30 --output {uri}",
    "check --fix": "check {base} --fix --output {uri}",
    "evaluate --model": "evaluate --model {uri} --data {base}",
    "predict --model": "predict --model {uri} --input {base} --output out",
    "train --model": "train --train {base} --model {uri} --output out",
    "serve --model": "serve --model {uri}",
    "serve --model NAME=": "serve --model beats={uri}",
}
ADDRESSES = (
    "s3:/bucket/run",
    "file:///data/run",
    "foo://bucket/run",
    "memory::",
    "abfs:/c@a/run",
)


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for name, words in COMMANDS.items():
        yield Case("addresses as outputs", f"{name} s3:/", _address(words, ADDRESSES[0]))
    for uri in ADDRESSES[1:]:
        for name in ("train", "predict", "evaluate --model"):
            yield Case("addresses as outputs", f"{name} {uri}", _address(COMMANDS[name], uri))
    yield Case("addresses as outputs", "Classifier.load", _loading)
    for encoding in ("ascii", "latin-1"):
        yield Case("terminals", f"class größer ▲ in {encoding}", _encoded(encoding))
    yield Case("terminals", "an escape in a class name", _escape)


def _model(folder: Path) -> Path:
    trained().artifact.save(folder / "model")
    return folder / "model"


def _address(words: str, uri: str) -> Act:
    def act(inputs: Path, folder: Path) -> None:
        model, here = _model(folder), Path.cwd()
        there = folder / "here"
        there.mkdir()
        filled = words.format(
            base=inputs / "base.csv", tsv=inputs / "Toy_TRAIN.TSV", model=model, uri=uri
        )
        os.chdir(there)
        try:
            refused(run(*filled.split()), uri.split(":")[0])
        finally:
            os.chdir(here)
        assert not any(there.iterdir()), list(there.iterdir())

    return act


def _loading(_: Path, __: Path) -> None:
    with pytest.raises(LstmfcnError, match="s3:/bucket/model"):
        Classifier.load("s3:/bucket/model")


def _encoded(encoding: str) -> Act:
    def act(inputs: Path, folder: Path) -> None:
        data = folder / "data.csv"
        data.write_text((inputs / "foreign.csv").read_text().replace("down", "▲"), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-m", "lstmfcn", "check", data],
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-400:]
        assert b"Traceback" not in ended.stderr

    return act


def _escape(inputs: Path, folder: Path) -> None:
    data = folder / "data.csv"
    data.write_text((inputs / "base.csv").read_text().replace("up", "\x1b[31mup"))
    ended = run("check", data)
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "up" in ended.stdout
