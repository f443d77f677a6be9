"""Write the inputs of the cases: small files like those of real users."""

from __future__ import annotations

import bz2
import gzip
import lzma
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

N, T = 60, 20
RANDOM = np.random.default_rng(0)
NAMES = np.where(RANDOM.random(N) < 0.5, "up", "down")
SLOPES = np.where(NAMES == "up", 1, -1)[:, None] * np.linspace(-1, 1, T)
X = np.round(SLOPES + RANDOM.normal(0, 0.3, (N, T)), 4)
UP = (NAMES == "up").astype(float)
VALUES = pd.DataFrame(X, columns=[f"x_{i}" for i in range(1, T + 1)])
BASE = pd.concat([pd.Series(NAMES, name="y"), VALUES], axis=1)
COUNTS = {"down": int((NAMES == "down").sum()), "up": int((NAMES == "up").sum())}
NUMBERED = {"0": COUNTS["down"], "1": COUNTS["up"]}

MISSING_LABELS = ("nan", "NaN", "None", "NA", "N/A", "null", "NULL", "<NA>", "#N/A")
GAPS = ("NA", "N/A", "#N/A", "null", "None", "<NA>", "NaN")


def write_inputs(folder: Path) -> None:
    """All cases of this module."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in (
        _dialects,
        _first_lines,
        _packed,
        _labels,
        _columns,
        _parquet,
        _archives,
        _folders,
    ):
        part(folder)


def csv_of(table: pd.DataFrame, **options: object) -> str:
    """Write the table as CSV."""
    return str(table.to_csv(index=False, **options))


def _text(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.write_bytes(text.encode(encoding))


def _dialects(folder: Path) -> None:
    _text(folder / "base.csv", csv_of(BASE))
    _text(folder / "semicolon.csv", csv_of(BASE, sep=";"))
    _text(folder / "semicolon_decimal_comma.csv", csv_of(BASE, sep=";", decimal=","))
    _text(folder / "tab.csv", csv_of(BASE, sep="\t"))
    quoted = BASE.rename(columns={"y": "y"}).assign(note="a,b;c")
    _text(folder / "semicolon_quoted_note.csv", csv_of(quoted, sep=";"))
    _text(folder / "tab_named.tsv", csv_of(BASE, sep="\t"))
    _text(folder / "bom.csv", "\ufeff" + csv_of(BASE))
    _text(folder / "carriage_returns.csv", csv_of(BASE).replace("\n", "\r\n"))


def _first_lines(folder: Path) -> None:
    header, rows = csv_of(BASE).split("\n", 1)
    units = "label," + ",".join(["mV"] * T)
    _text(folder / "excel_sep_line.csv", f"sep=,\n{header}\n{rows}")
    _text(folder / "comment_line.csv", f"# written by a logger\n{header}\n{rows}")
    _text(folder / "units_line.csv", f"{header}\n{units}\n{rows}")
    _text(folder / "two_files_joined.csv", csv_of(BASE) * 2)
    _text(folder / "empty_rows_at_end.csv", csv_of(BASE) + ("," * T + "\n") * 3)
    _text(folder / "utf16.csv", csv_of(BASE), "utf-16")
    foreign = BASE.replace("up", "größer")
    _text(folder / "latin1.csv", csv_of(foreign), "latin-1")
    _text(folder / "foreign.csv", csv_of(foreign))
    np.savetxt(folder / "no_header_label_last.csv", np.column_stack([X, UP]), delimiter=",")
    np.savetxt(folder / "no_header_label_first.csv", np.column_stack([UP, X]), delimiter=",")
    _text(folder / "no_header_names.csv", rows)


def _packed(folder: Path) -> None:
    data = csv_of(BASE).encode()
    parquet = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(BASE), parquet)
    zstd = pa.compress(data, codec="zstd", asbytes=True)
    for name, content in {
        "UPPER.CSV": data,
        "packed.csv.bz2": bz2.compress(data),
        "packed.csv.xz": lzma.compress(data),
        "packed.csv.zst": zstd,
        "packed.csv.GZ": gzip.compress(data),
        "gzip_named.csv": gzip.compress(data),
        "parquet_named.csv": parquet.getvalue().to_pybytes(),
        "table.parq": parquet.getvalue().to_pybytes(),
        "TABLE.PARQUET": parquet.getvalue().to_pybytes(),
    }.items():
        (folder / name).write_bytes(content)


def _labels(folder: Path) -> None:
    for name, label in {
        "0e+00": "{:.18e}",
        "0_1": "{:.0f}",
        "0.0": "{:.1f}",
        "plus": "+{:.0f}",
        "dot": "{:.0f}.",
        "capital_e": "{:.0E}",
        "exponent": "{:.0f}e0",
    }.items():
        labels = [label.format(value) for value in UP]
        _text(folder / f"classes_{name}.csv", csv_of(BASE.assign(y=labels)))
    minus = ["-0" if value == 0 and i % 2 else f"{value:g}" for i, value in enumerate(UP)]
    _text(folder / "classes_minus_zero.csv", csv_of(BASE.assign(y=minus)))
    for i, marker in enumerate(MISSING_LABELS):
        labels = [marker if row % 7 == 0 else name for row, name in enumerate(NAMES)]
        _text(folder / f"label_{i}.csv", csv_of(BASE.assign(y=labels)))
    for i, marker in enumerate((*GAPS, "?")):
        gaps = VALUES.astype(object)
        gaps.iloc[::5, 3] = marker
        _text(folder / f"gap_{i}.csv", csv_of(pd.concat([BASE.y, gaps], axis=1)))
    onehot = pd.get_dummies(BASE.y, prefix="y")
    _text(folder / "onehot_true_false.csv", csv_of(pd.concat([onehot, VALUES], axis=1)))
    pd.concat([onehot, VALUES], axis=1).to_parquet(folder / "onehot_true_false.parquet")
    _text(folder / "true_false.csv", csv_of(BASE.assign(y=UP == 1)))
    BASE.assign(y=UP == 1).to_parquet(folder / "true_false.parquet")
    forms = [
        unicodedata.normalize("NFD" if i % 2 else "NFC", "größe") if name == "up" else name
        for i, name in enumerate(NAMES)
    ]
    _text(folder / "two_unicode_forms.csv", csv_of(BASE.assign(y=forms)))


def _columns(folder: Path) -> None:
    ids = BASE.assign(xid=range(N))[["y", "xid", *VALUES]]
    _text(folder / "id_that_starts_with_x.csv", csv_of(ids))
    _text(folder / "year_beside_y.csv", csv_of(BASE.assign(year=2024)[["y", "year", *VALUES]]))
    _text(folder / "xmin_among.csv", csv_of(BASE.assign(xmin=X.min(axis=1))))
    _text(folder / "x_mean_among.csv", csv_of(BASE.assign(x_mean=X.mean(axis=1))))
    _text(folder / "yaw_beside_y.csv", csv_of(BASE.assign(yaw=0.5)))
    _text(folder / "youtube_id_beside_y.csv", csv_of(BASE.assign(youtube_id="dQw4")))
    _text(folder / "capital_names.csv", csv_of(BASE.rename(columns=str.upper)))
    ordered = sorted(VALUES)
    _text(folder / "sorted_columns.csv", csv_of(BASE[["y", *ordered]]))
    for name, pattern in {
        "acc_gyr": ("x_acc_{}", "x_gyr_{}"),
        "numbers": ("x_1_{}", "x_2_{}"),
        "joined": ("xacc_{}", "xgyr_{}"),
        "plain": ("x1_{}", "x2_{}"),
    }.items():
        columns = [form.format(i) for form in pattern for i in range(1, T + 1)]
        two = pd.DataFrame(np.hstack([X, -X]), columns=columns)
        _text(folder / f"channels_{name}.csv", csv_of(pd.concat([BASE.y, two], axis=1)))
    unequal = [f"x_acc_{i}" for i in range(1, T + 1)] + [f"x_gyr_{i}" for i in range(1, T)]
    fewer = pd.DataFrame(np.hstack([X, -X[:, 1:]]), columns=unequal)
    _text(folder / "channels_unequal.csv", csv_of(pd.concat([BASE.y, fewer], axis=1)))


def _parquet(folder: Path) -> None:
    def write(name: str, labels: object, **columns: object) -> None:
        values = columns or {c: VALUES[c].to_numpy() for c in VALUES}
        pq.write_table(pa.table({"y": labels, **values}), folder / f"{name}.parquet")

    names = NAMES.tolist()
    write("list_column", names, x=X.tolist())
    write("fixed_list_column", names, x=pa.array(X.tolist(), pa.list_(pa.float32(), T)))
    write("list_columns_two_channels", names, x1=X.tolist(), x2=(-X).tolist())
    write("lists_unequal", names, x=[row[: T - i % 3] for i, row in enumerate(X.tolist())])
    write("string_view_labels", pa.array(names, pa.string_view()))
    write("large_string_labels", pa.array(names, pa.large_string()))
    write("binary_labels", pa.array([name.encode() for name in names], pa.binary()))
    gap = UP.copy()
    gap[4] = np.nan
    write("label_float_nan", gap)
    write("label_float_nan_32", gap.astype(np.float32))
    write("label_null", pa.array([None if i == 4 else name for i, name in enumerate(names)]))
    write("label_text_nan", [str(value) for value in gap])
    when = pd.date_range("2026-01-01", periods=N, freq="min")
    dated = BASE.assign(when=when, note=["a,b"] * N, day=when.date, flag=UP == 1)
    pq.write_table(pa.Table.from_pandas(dated), folder / "timestamps_beside.parquet")
    onehot = pd.DataFrame({"y_a": gap, "y_b": 1 - gap})
    both = pd.concat([onehot, VALUES], axis=1)
    pq.write_table(pa.Table.from_pandas(both, nthreads=1), folder / "onehot_nan.parquet")


def _archives(folder: Path) -> None:
    def ts(name: str, rows: list[str], *head: str) -> None:
        default = "@problemName a\n@timeStamps false\n@univariate true\n@classLabel true a b\n"
        start = "".join(f"{line}\n" for line in head) or default
        _text(folder / f"{name}.ts", start + "@data\n" + "".join(f"{row}\n" for row in rows))

    def joined(row: object) -> str:
        return ",".join(map(str, row))  # type: ignore[call-overload]

    plain = [f"{joined(row)}:{'ab'[i % 2]}" for i, row in enumerate(X[:8].tolist())]
    stamped = [
        ",".join(f"({j},{v})" for j, v in enumerate(row)) + f":{'ab'[i % 2]}"
        for i, row in enumerate(X[:8].tolist())
    ]
    dated = [
        ",".join(f"(2007-01-01 00:{j:02d}:00,{v})" for j, v in enumerate(row)) + f":{'ab'[i % 2]}"
        for i, row in enumerate(X[:8].tolist())
    ]
    uneven = [
        ",".join(f"({j * j},{v})" for j, v in enumerate(row)) + f":{'ab'[i % 2]}"
        for i, row in enumerate(X[:8].tolist())
    ]
    stamps = ("@timeStamps true", "@univariate true", "@classLabel true a b")
    ts("plain", plain)
    ts("comments_in_data", ["# a comment", *plain[:4], "% another", *plain[4:]])
    ts(
        "percent_comments",
        plain,
        "% made by hand",
        "#c",
        "@univariate true",
        "@classLabel true a b",
    )
    ts("time_stamps", stamped, *stamps)
    ts("dates", dated, *stamps)
    ts("uneven_time_stamps", uneven, *stamps)
    two = [
        f"{joined(a)}:{joined(b)}" for a, b in zip(X[:8].tolist(), X[8:16].tolist(), strict=True)
    ]
    ts("class_label_false", two, "@dimensions 2", "@classLabel false")
    ts("univariate_without_class", [joined(row) for row in X[:8].tolist()], "@classLabel false")
    ts("regression", [f"{joined(r)}:0.{i}31" for i, r in enumerate(X[:8])], "@targetLabel true")
    ts(
        "regression_capital",
        [f"{joined(r)}:{i}.5" for i, r in enumerate(X[:8])],
        "@TargetLabel True",
    )
    ts("unlisted_class", [*plain[:-1], plain[-1][:-1] + "c"])
    ts("unknown_class", [*plain[:-1], plain[-1][:-1] + "?"])
    ts(
        "more_dimensions",
        [f"{row[:-2]}:{row}" for row in plain],
        "@univariate true",
        "@classLabel true a b",
    )
    arff = "@relation a\n" + "".join(f"@attribute a{i} numeric\n" for i in range(T))
    arff += "@attribute target {up,down}\n@data\n"
    arff += "".join(f"{joined(row)},{name}\n" for row, name in zip(X, NAMES, strict=True))
    _text(folder / "weka.arff", arff)
    tsv = "".join(
        f"{name}\t" + "\t".join(map(str, row)) + "\n" for name, row in zip(NAMES, X, strict=True)
    )
    _text(folder / "Toy_TRAIN.TSV", tsv)
    (folder / "Toy_TRAIN.tsv.gz").write_bytes(gzip.compress(tsv.encode()))
    _text(folder / "underscore_numbers.tsv", tsv.replace(str(X[0, 0]), "1_000", 1))
    _text(folder / "arabic_digits.tsv", tsv.replace(str(X[0, 0]), "\u0661\u0662", 1))
    _text(
        folder / "Toy2015_TRAIN.txt",
        tsv.replace("up", "1").replace("down", "2").replace("\t", "  "),
    )
    long = VALUES.assign(id=range(N), y=NAMES)
    long = long.melt(id_vars=["id", "y"], var_name="t", value_name="value")
    _text(folder / "long_table.csv", csv_of(long))
    np.savez(folder / "arrays.npz", x=X, y=NAMES)


def _folders(folder: Path) -> None:
    for site in ("site_a", "site_b"):
        (folder / "same_names" / site).mkdir(parents=True, exist_ok=True)
        _text(folder / "same_names" / site / "day1.csv", csv_of(BASE))
    mixed = folder / "mixed"
    mixed.mkdir(exist_ok=True)
    _text(mixed / "A.CSV", csv_of(BASE))
    (mixed / "b.csv.bz2").write_bytes(bz2.compress(csv_of(BASE).encode()))
    (mixed / "c.csv.xz").write_bytes(lzma.compress(csv_of(BASE).encode()))
    for part in (0, 1):
        (folder / "two" / f"part-{part}.csv").parent.mkdir(exist_ok=True)
        _text(folder / "two" / f"part-{part}.csv", csv_of(BASE))
    hive = folder / "hive" / "y=up"
    hive.mkdir(parents=True, exist_ok=True)
    VALUES.to_parquet(hive / "part-0.parquet")
