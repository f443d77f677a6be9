"""Run every case against the installed package, and print a table: `python -m tests.cases`.

Words choose the cases whose name holds one of them.
Ends with exit code 1 where a case is wrong.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.cases import arrays, asking, commands, converting, outputs, shards
from tests.cases.case import Case
from tests.cases.inputs import write_inputs

MODULES = (shards, converting, arrays, asking, outputs, commands)


def main(words: list[str]) -> int:
    """Run all cases; the exit code says whether any failed."""
    folder = Path(mkdtemp(prefix="cases-"))
    write_inputs(folder / "inputs")
    results = []
    for case in (case for module in MODULES for case in module.cases()):
        if words and not any(word in str(case) for word in words):
            continue
        started = time.perf_counter()
        wrong = judge(case, folder / "inputs", folder / "own")
        seconds = time.perf_counter() - started
        results.append(not wrong)
        print(f"{'right' if not wrong else 'WRONG':5}  {seconds:6.1f} s  {case}", flush=True)
        if wrong:
            print(f"       {wrong}", flush=True)
    shutil.rmtree(folder)
    print(f"\n{sum(results)} of {len(results)} cases right")
    return 0 if all(results) else 1


def judge(case: Case, inputs: Path, own: Path) -> str:
    """Run a case; return why it failed, or an empty text."""
    own.mkdir()
    try:
        case.act(inputs, own)
    except (Exception, pytest.fail.Exception) as error:  # whatever it is, the case is wrong
        return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
