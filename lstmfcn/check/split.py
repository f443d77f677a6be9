"""Split shards into training, validation and test rows: at random, by group, or in their order.

Rows are copied as they are. At random, each class has its share in each part. With groups (such as
patients), all rows of a group go to the same part, and the classes' shares are met as well as whole
groups allow.

Shapes: N rows, C classes, G groups, P parts.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstmfcn.check.clean import refuse_data_places
from lstmfcn.check.raw_rows import copy_shard, read_cells
from lstmfcn.data.columns import (
    BY_FIRST_LETTER,
    Roles,
    abbreviate,
    label_name_faults,
    no_columns_fault,
)
from lstmfcn.data.listing import Data, join_arguments, to_arguments
from lstmfcn.data.reader import read_header, refuse_absent
from lstmfcn.data.shards import Shard, find_shards
from lstmfcn.data.table import class_name, is_missing
from lstmfcn.errors import DataError, raise_first
from lstmfcn.storage.files import atomic_directory, exists, new_folder
from lstmfcn.storage.outputs import output_folder
from lstmfcn.storage.places import Place

PARTS = ("train", "validation", "test")

RECORD = "split.json"
"""How the data were split; by it a later split knows the folder of an earlier one."""

_Indices = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class Shares(NamedTuple):
    """The shares of the rows that go to validation and test; the rest is for training."""

    validation: float = 0.2
    test: float = 0.0

    @property
    def all(self) -> list[float]:
        """The share of each of `PARTS`."""
        return [1 - self.validation - self.test, self.validation, self.test]


_DEFAULT_SHARES = Shares()


class SplitPart(NamedTuple):
    """What one part of a split has: rows of each class, and groups."""

    name: str
    rows: int
    classes: dict[str, int]
    groups: int


def split(
    data: Data,
    output: Place,
    shares: Shares = _DEFAULT_SHARES,
    *,
    group_column: str = "",
    in_order: bool = False,
    seed: int = 0,
    roles: Roles = BY_FIRST_LETTER,
    overwrite: bool = False,
) -> list[SplitPart]:
    """Copy labelled shards into the folders ``train``, ``validation`` and ``test`` of the output.

    Args:
        group_column: a column whose rows of one text stay together.
        in_order: the last rows are for validation and test, in the order of the shards.
        roles: which columns are labels.
        overwrite: replace an earlier split.

    Raises:
        DataError: a label or a group is missing, or a part would have no rows.
        OutputError: the folder cannot be used.
    """
    refuse_data_places(to_arguments(data), output, overwrite)
    shards = find_shards(data)
    labels, groups, n_rows = _read_labels(shards, roles, group_column)
    classes, codes = np.unique(np.array(labels), return_inverse=True)
    _refuse_one_class(classes.tolist(), join_arguments(data))
    if in_order:
        parts = cut_in_order(len(codes), shares)
    elif group_column:
        _, group_codes = np.unique(np.array(groups), return_inverse=True)
        parts = assign_groups(codes, group_codes, shares, seed)
    else:
        parts = assign_rows(codes, shares, seed)
    found = [_describe(k, parts, codes, classes.tolist(), groups) for k in range(len(PARTS))]
    found = [part for part, share in zip(found, shares.all, strict=True) if share > 0]
    _refuse_empty(found, join_arguments(data), group_column)
    with output_folder(output) as folder:
        replaces = overwrite and exists(folder / RECORD)
        place = folder if replaces else new_folder(folder)
        with atomic_directory(place, may_go=(*PARTS, RECORD) if replaces else ()) as unfinished:
            _copy(shards, n_rows, parts, unfinished)
            record = {"group_column": group_column, "in_order": in_order, "seed": seed}
            record |= {**shares._asdict(), "parts": [part._asdict() for part in found]}
            text = json.dumps(record, indent=2, ensure_ascii=False)
            (unfinished / RECORD).write_text(f"{text}\n", encoding="utf-8")
    return found


def assign_rows(codes: _Indices, shares: Shares, seed: int) -> _Indices:
    """Choose the part of each row at random, so that each class has its share in each part.

    Args:
        codes: the class of each row, (N,).

    Returns:
        The index in `PARTS` of each row, (N,). Every class has a row for training.
    """
    random, parts = np.random.default_rng(seed), np.zeros(len(codes), dtype=np.int64)
    n_before = 0
    for code in np.unique(codes):
        rows = random.permutation(np.flatnonzero(codes == code))
        stop = 0
        for part, share in ((1, shares.validation), (2, shares.test)):
            # rounded over all classes so far, so that rare ones add up to their share
            wanted = round((n_before + len(rows)) * share) - round(n_before * share)
            start, stop = stop, min(stop + wanted, len(rows) - 1)
            parts[rows[start:stop]] = part
        n_before += len(rows)
    return parts


def assign_groups(codes: _Indices, groups: _Indices, shares: Shares, seed: int) -> _Indices:
    """Choose the part of each group: large ones first, each where the classes need it most.

    Args:
        codes: the class of each row, (N,).
        groups: the group of each row, (N,).

    Returns:
        The index in `PARTS` of each row, (N,). No part is empty if there are groups enough.
    """
    n_groups, n_classes = int(groups.max()) + 1, int(codes.max()) + 1
    counts = np.zeros((n_groups, n_classes))
    np.add.at(counts, (groups, codes), 1)
    totals = counts.sum(axis=0)
    open_parts = [part for part, share in enumerate(shares.all) if share > 0]
    missing = np.outer(np.array(shares.all), totals)  # rows that each part still needs, (P, C)
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    part_of, empty = np.zeros(n_groups, dtype=np.int64), set(open_parts)
    for n_done, group in enumerate(order):
        after = (((missing - counts[group]) ** 2 - missing**2) / totals).sum(axis=1)
        may_take = empty if len(empty) >= n_groups - n_done else open_parts
        part = min(may_take, key=lambda part: (float(after[part]), part))
        part_of[group] = part
        missing[part] -= counts[group]
        empty.discard(part)
    return part_of[groups]


def cut_in_order(n_rows: int, shares: Shares) -> _Indices:
    """Give the first rows to training, and the last ones to validation and then test, (N,)."""
    stops = np.round(np.cumsum(shares.all) * n_rows)
    return np.searchsorted(stops, np.arange(n_rows), side="right").clip(max=len(PARTS) - 1)


def _read_labels(
    shards: Sequence[Shard], roles: Roles, group_column: str
) -> tuple[list[str], list[str], list[int]]:
    """Read the class and the group of each row, and the number of rows of each shard."""
    labels: list[str] = []
    groups: list[str] = []
    n_rows = []
    for shard in shards:
        header = read_header(shard, labels=not roles.label_column)
        columns = roles.labels(header)
        if not columns:
            raise no_columns_fault(header, "label", shard.path, roles=roles)
        if not roles.label_column:
            raise_first(label_name_faults(columns, shard.path))
        wanted = [*columns, *([group_column] if group_column else [])]
        refuse_absent(wanted, header, shard)
        before = len(labels)
        for number, cells in enumerate(read_cells(shard, wanted), start=1):
            for column, cell in zip(wanted, cells, strict=True):
                if is_missing(cell, texts=False):
                    raise DataError(
                        "an empty cell",
                        "give each row a label and a group, or remove the row",
                        file=shard.path,
                        row=number,
                        column=column,
                    )
            labels.append(_class_of(columns, cells))
            groups.extend(cells[len(columns) :])
        n_rows.append(len(labels) - before)
    if not labels:
        raise DataError("a header but no rows", "add rows", file=shards[0].path)
    return labels, groups, n_rows


def _class_of(columns: Sequence[str], cells: Sequence[str]) -> str:
    """The name of a row's class: its text, or the label columns that are 1."""
    names = [class_name(cell) for cell in cells[: len(columns)]]
    if len(columns) == 1:
        return names[0]
    ones = [column for column, name in zip(columns, names, strict=True) if name in ("1", "True")]
    return "+".join(ones) or "none"


def _describe(
    number: int, parts: _Indices, codes: _Indices, classes: Sequence[str], groups: Sequence[str]
) -> SplitPart:
    mine = np.flatnonzero(parts == number)
    counts = Counter(classes[code] for code in codes[mine].tolist())
    n_groups = len({groups[row] for row in mine.tolist()}) if groups else 0
    in_order = {name: counts[name] for name in classes}
    return SplitPart(PARTS[number], len(mine), in_order, n_groups)


def _refuse_one_class(classes: Sequence[str], data: str) -> None:
    """Refuse (`DataError`) rows of one class, as of a column that is no label."""
    if len(classes) < 2:
        raise DataError(
            f"only the class {classes[0]}",
            "give rows of at least two classes, or name the label in --label-column",
            file=data,
        )


def _refuse_empty(parts: Sequence[SplitPart], data: str, group_column: str) -> None:
    """Refuse (`DataError`) a part without rows; warn of classes that training would not see."""
    for part in parts:
        if not part.rows:
            kind = f"groups in the column {group_column!r}" if group_column else "rows"
            raise DataError(
                f"too few {kind} for {len(parts)} parts, of which {part.name} would be empty",
                "give more of them, or ask for fewer or larger parts",
                file=data,
            )
    training, *others = parts
    absent = [name for name, count in training.classes.items() if not count]
    if absent:
        logger.warning("train has no row of %s: all of them are in other parts", abbreviate(absent))
    for part in others:
        if absent := [name for name, count in part.classes.items() if not count]:
            logger.warning("%s has no row of %s", part.name, abbreviate(absent))


def _copy(shards: Sequence[Shard], n_rows: Sequence[int], parts: _Indices, folder: Path) -> None:
    """Copy each shard to each part, without the rows of other parts, and not if none is left."""
    start = 0
    for shard, n in zip(shards, n_rows, strict=True):
        of_shard = parts[start : start + n]
        for number, name in enumerate(PARTS):
            left_out = set((np.flatnonzero(of_shard != number) + 1).tolist())
            if len(left_out) < n:
                copy_shard(shard, folder / name / shard.name, left_out)
        start += n
