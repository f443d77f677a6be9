"""``lstmfcn report``."""

from __future__ import annotations

from lstmfcn.commands.flag_types import Seed


def report(*, model: str, data: str, output: str, seed: Seed = 0) -> None:
    """Write a page on a model: how good it is on labelled shards, where it errs, and why.

    OUTPUT/report.html is one file that needs no other; its drawings lie beside it as PNGs. Rows are
    read and predicted in this process, without Ray.

    Parameters
    ----------
    model
        Model directory. In the folder of its run, the learning curves are drawn too.
    data
        Labelled shards: a file, folder, glob or URI.
    output
        New folder, or that of an earlier report.
    seed
        Seed of the rows that class medians are drawn from, and of the intervals.
    """
    from lstmfcn.report.write import write_report

    print(write_report(model, data, output, seed))
