"""Parse the rows of CSV with pyarrow, in segments of whole rows, several of them at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from lstmfcn.data.parquet import Types
from lstmfcn.data.shards import Shard
from lstmfcn.signals import map_in_order

BLOCK_BYTES = 16 << 20
"""The largest block of CSV that is parsed at once; no row may be longer."""

_MIN_BLOCK_BYTES, _BLOCK_BYTES_PER_COLUMN = 1 << 20, 3 << 10
"""With 192 columns, blocks of 1 MiB (in the processor's cache) were parsed twice as fast as 16 MiB;
with 3,001 columns, 8 MiB was five times as fast as 1 MiB, which has few rows."""

SEGMENT_BYTES = 4 << 20
"""What a thread parses at a time, in blocks; to begin takes it a few milliseconds."""

_MOST_THREADS = 16
"""Segments are cut at 1 GB/s, and parsed at 0.1 GB/s by a thread."""

_QUOTE = b'"'


def parse_csv(
    shard: Shard, types: Types, gap_texts: Sequence[str], threads: int
) -> Iterator[pa.Table]:
    """Parse segments of CSV, several at a time; tables come in order."""
    parse = partial(_parse, shard, types, gap_texts)
    with shard.open() as stream:
        segments = _segments(stream, shard.layout.n_lines_before)
        for parsed in map_in_order(parse, segments, threads):
            yield from parsed.tables()


def useful_threads(shard: Shard, threads: int) -> int:
    """So many threads; fewer if they would wait for segments, or if there is only one."""
    return min(threads, _MOST_THREADS) if shard.size >= SEGMENT_BYTES else 1


class _Parsed(NamedTuple):
    """The rows of a segment, and the error that ended them."""

    batches: list[pa.RecordBatch]
    error: pa.ArrowInvalid | None

    def tables(self) -> Iterator[pa.Table]:
        """All rows as one table, if there are any; then raises the error."""
        if self.batches:
            yield pa.Table.from_batches(self.batches)
        if self.error:
            raise self.error


class _Segment(NamedTuple):
    """Whole rows of CSV."""

    lines: memoryview
    is_first: bool
    has_quotes: bool


def _segments(stream: pa.NativeFile, n_lines_before: int) -> Iterator[_Segment]:
    """Cut CSV into segments, the first of which has a line below the header.

    What no block can hold may be cut elsewhere: a longer row, or one with a lone quote.
    """
    rest, n_lines = b"", n_lines_before + 2
    while more := stream.read(SEGMENT_BYTES):
        held = rest + more
        has_quotes = _QUOTE in held
        if end := _end_of_rows(held, n_lines, has_quotes):
            yield _Segment(memoryview(held)[:end], n_lines > 1, has_quotes)
            n_lines = 1
        rest = held[end:]
    if rest.strip():
        yield _Segment(memoryview(rest), n_lines > 1, _QUOTE in rest)


def _end_of_rows(held: bytes, n_lines: int, has_quotes: bool) -> int:
    """Where the last whole row of these bytes ends, if so many lines end before; else 0."""
    newline = b"\n" if b"\n" in held else b"\r"
    end = end_of_lines = held.rfind(newline) + 1
    n_quotes = held.count(_QUOTE, 0, end) if has_quotes else 0  # slow: 20 times as a search
    while n_quotes % 2:  # the last one opens a cell that goes on behind the end
        before = held.rfind(newline, 0, held.rfind(_QUOTE, 0, end)) + 1
        n_quotes -= held.count(_QUOTE, before, end)
        end = before
    if n_lines > 1 and held.count(newline, 0, end) < n_lines:
        end = 0
    if not end and len(held) > BLOCK_BYTES:
        return end_of_lines or len(held)
    return end


def _parse(shard: Shard, types: Types, gap_texts: Sequence[str], segment: _Segment) -> _Parsed:
    """Parse a segment of CSV, block by block."""
    layout = shard.layout
    block_bytes = max(_MIN_BLOCK_BYTES, _BLOCK_BYTES_PER_COLUMN * len(types))
    batches: list[pa.RecordBatch] = []
    try:
        with pa.csv.open_csv(
            pa.BufferReader(segment.lines),
            read_options=pa.csv.ReadOptions(
                use_threads=False,
                block_size=min(BLOCK_BYTES, block_bytes),
                skip_rows=layout.n_lines_before if segment.is_first else 0,
                column_names=None if segment.is_first else layout.header,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.dialect.separator, newlines_in_values=segment.has_quotes
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: kind or pa.string() for name, kind in types.items()},
                include_columns=list(types),
                null_values=list(gap_texts),
                decimal_point=layout.dialect.decimal,
            ),
        ) as reader:
            for batch in reader:
                if batch.num_rows:
                    batches.append(batch)  # noqa: PERF401 - those before an error are kept
    except pa.ArrowInvalid as error:
        return _Parsed(batches, error)
    return _Parsed(batches, None)
