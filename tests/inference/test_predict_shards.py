import csv
import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lstmfcn.data.csv_parser
from lstmfcn.data.scaler import Scaler
from lstmfcn.data.shards import find_shards
from lstmfcn.errors import DataError, OutputError
from lstmfcn.inference.explanation import outputs_to_explain
from lstmfcn.inference.predict_shards import (
    explain_shard,
    list_explanation_columns,
    predict_batches,
    predict_shard,
    validate_keep_columns,
)
from tests.helpers.small_shards import KINDS, classifier_of, schema_of, shard_of, values_of


def written(kind, table, folder, **schema_arguments):
    """The cells of a prediction file as text, with the header as columns."""
    output = folder / "predicted.csv"
    predict_shard(
        classifier_of(kind, **schema_arguments), shard_of(table, folder / "a.csv"), output
    )
    return pd.read_csv(output, dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("one-hot", "y_1,y_2,y_3,p_1,p_2,p_3"),
        ("names", "y,p_ant,p_bee,p_cat"),
        ("binary", "y_1,p_1"),
        ("binary pair", "y_1,y_2,p_1,p_2"),
        ("multilabel", "y_a,y_b,p_a,p_b"),
        ("one label", "y_1,p_1"),
    ],
)
def test_the_header_names_labels_then_probabilities(tmp_path, kind, header):
    assert ",".join(written(kind, values_of(3), tmp_path).columns) == header


def test_each_row_of_one_hot_labels_has_its_one_at_the_largest_probability(tmp_path):
    cells = written("one-hot", values_of(60), tmp_path)
    labels = cells[["y_1", "y_2", "y_3"]].to_numpy()
    largest = cells[["p_1", "p_2", "p_3"]].astype(float).to_numpy().argmax(axis=1)
    assert set(largest) == {0, 1, 2}
    np.testing.assert_array_equal(labels, np.array(["0", "1"])[np.eye(3, dtype=int)[largest]])


def test_a_name_is_that_of_the_largest_probability(tmp_path):
    cells = written("names", values_of(60), tmp_path)
    shares = cells[["p_ant", "p_bee", "p_cat"]].astype(float)
    assert shares.idxmax(axis=1).tolist() == [f"p_{name}" for name in cells["y"]]
    assert set(cells["y"]) == {"ant", "bee", "cat"}


@pytest.mark.parametrize("kind", ["binary", "one label"])
def test_a_single_label_is_one_above_a_half(tmp_path, kind):
    cells = written(kind, values_of(60), tmp_path)
    above = cells["p_1"].astype(float) > 0.5
    assert cells["y_1"].tolist() == ["1" if yes else "0" for yes in above]
    assert set(cells["y_1"]) == {"0", "1"}


def test_two_binary_columns_complement_each_other(tmp_path):
    cells = written("binary pair", values_of(60), tmp_path).astype(float)
    np.testing.assert_allclose(cells["p_1"] + cells["p_2"], 1, atol=1e-6)
    np.testing.assert_array_equal(cells["y_1"] + cells["y_2"], 1)
    np.testing.assert_array_equal(cells["y_2"] == 1, cells["p_2"] > 0.5)


def test_awkward_class_names_survive_as_csv(tmp_path):
    names = ("NA", "a,b", 'say "x"', "zwölf")
    cells = written("names", values_of(200), tmp_path, names=names)
    assert list(cells.columns) == ["y", *(f"p_{name}" for name in names)]
    assert set(cells["y"]) <= set(names)
    assert len(set(cells["y"])) > 1


def test_rows_stay_in_order_and_the_header_comes_once_over_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(lstmfcn.data.csv_parser, "SEGMENT_BYTES", 4096)
    classifier, table = classifier_of("one-hot"), values_of(300)
    shard, output = shard_of(table, tmp_path / "a.csv"), tmp_path / "new" / "folder" / "p.csv"
    assert len(list(predict_batches(classifier, shard, labels=False))) > 3
    assert predict_shard(classifier, shard, output) == 300
    rows = list(csv.reader(output.read_text(encoding="utf-8").splitlines()))
    assert rows.count(rows[0]) == 1
    found = np.array(rows[1:], dtype=np.float32)[:, 3:]
    np.testing.assert_allclose(found, classifier.predict_proba(table.to_numpy()), atol=1e-6)
    assert b"\r" not in output.read_bytes()


def test_probabilities_are_given_back_bit_by_bit_by_their_text(tmp_path):
    classifier, shard = classifier_of("one-hot"), shard_of(values_of(300), tmp_path / "a.csv")
    predict_shard(classifier, shard, tmp_path / "p.csv")
    text = pd.read_csv(tmp_path / "p.csv", dtype=str)[["p_1", "p_2", "p_3"]].to_numpy()
    expected = np.concatenate([p.probabilities for p in predict_batches(classifier, shard, False)])
    assert expected.dtype == np.float32
    found = np.array([[np.float32(cell) for cell in row] for row in text])
    np.testing.assert_array_equal(found, expected)
    assert max(map(len, text.ravel())) <= 14


def test_compressed_output_is_gzip_with_equal_bytes_each_time(tmp_path):
    classifier, table = classifier_of("names"), values_of(40)
    shard = shard_of(table, tmp_path / "a.csv.gz")
    first, second = tmp_path / "1" / "a.csv.gz", tmp_path / "2" / "b.csv.gz"
    predict_shard(classifier, shard, first)
    predict_shard(classifier, shard, second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[:8] == b"\x1f\x8b\x08\x00" + bytes(4)  # no name, no time stamp
    predict_shard(classifier, shard_of(table, tmp_path / "a.csv"), tmp_path / "plain.csv")
    assert gzip.decompress(first.read_bytes()) == (tmp_path / "plain.csv").read_bytes()


def test_a_parquet_shard_is_predicted_as_csv(tmp_path):
    classifier, table = classifier_of("one-hot"), values_of(40)
    shard = shard_of(table, tmp_path / "a.parquet")
    predict_shard(classifier, shard, tmp_path / "parquet")
    predict_shard(classifier, shard_of(table, tmp_path / "a.csv"), tmp_path / "csv")
    assert (tmp_path / "parquet").read_bytes() == (tmp_path / "csv").read_bytes()


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz"])
@pytest.mark.parametrize(
    ("cell", "found"), [("abc", "'abc'"), ("", "an empty cell"), ("inf", "inf, which is no")]
)
def test_a_bad_row_in_the_middle_leaves_no_file(tmp_path, monkeypatch, name, cell, found):
    monkeypatch.setattr(lstmfcn.data.csv_parser, "SEGMENT_BYTES", 4096)
    table = values_of(300).astype(object)
    table.loc[199, "x_5"] = cell
    shard, output = shard_of(table, tmp_path / "a.csv"), tmp_path / "output" / name
    with pytest.raises(DataError) as refusal:
        predict_shard(classifier_of("one-hot"), shard, output)
    assert str(refusal.value).startswith(f"{shard.path}, row 200, column x_5: found {found}")
    assert list(output.parent.iterdir()) == []


def test_a_bad_row_leaves_the_former_file_as_it_was(tmp_path):
    table = values_of(3).astype(object)
    table.loc[2, "x_1"] = "?"
    output = tmp_path / "output" / "p.csv"
    output.parent.mkdir()
    output.write_text("former")
    with pytest.raises(DataError):
        predict_shard(classifier_of("one-hot"), shard_of(table, tmp_path / "a.csv"), output)
    assert [path.read_text() for path in output.parent.iterdir()] == ["former"]


@pytest.mark.parametrize("kind", KINDS)
def test_label_and_other_columns_are_passed_over(tmp_path, kind):
    classifier, table = classifier_of(kind), values_of(20)
    disguised = table[table.columns[::-1]].assign(note="hm, 1")
    for i, name in enumerate(["y_1", "y", "yet_another"]):
        disguised.insert(i, name, "?")
    predict_shard(classifier, shard_of(table, tmp_path / "a.csv"), tmp_path / "plain")
    predict_shard(classifier, shard_of(disguised, tmp_path / "b.csv"), tmp_path / "labelled")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "labelled").read_bytes()


def test_labels_come_along_where_asked_for(tmp_path):
    table = values_of(3).assign(y=["cat", "ant", "bee"])
    shard = shard_of(table, tmp_path / "a.csv")
    (part,) = predict_batches(classifier_of("names"), shard, labels=True)
    assert part.labels.tolist() == [2, 0, 1]
    assert part.probabilities.shape == (3, 3)


def test_an_output_below_a_file_is_refused(tmp_path):
    shard = shard_of(values_of(3), tmp_path / "a.csv")
    with pytest.raises(OutputError, match="cannot be written"):
        predict_shard(classifier_of("one-hot"), shard, tmp_path / "a.csv" / "p.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_predicted_class_of_each_row_is_explained(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(lstmfcn.data.csv_parser, "SEGMENT_BYTES", 4096)
    classifier, table = classifier_of(kind), values_of(300).assign(id=range(300))
    shard = shard_of(table, tmp_path / "a.csv")
    predict_shard(classifier, shard, tmp_path / "p.csv", ["id"])
    assert explain_shard(classifier, shard, tmp_path / "e.csv", ["id"]) == 300
    found, predicted = pd.read_csv(tmp_path / "e.csv"), pd.read_csv(tmp_path / "p.csv")
    times = [f"t_{t}" for t in range(1, 9)]
    assert list(found.columns) == ["id", "explained", "bias", "lstm", *times]
    assert found["id"].equals(predicted["id"])
    shares = predicted[list(classifier.schema.probability_columns)].to_numpy()
    outputs = np.array(outputs_to_explain(classifier.schema))
    chosen = shares.argmax(axis=1) if len(outputs) > 1 else np.zeros(300, dtype=int)
    assert found["explained"].tolist() == outputs[chosen].tolist()
    expected = classifier.explain(table.drop(columns="id").to_numpy())
    each = np.arange(300)
    np.testing.assert_allclose(found[times], expected.timepoints[each, chosen], atol=1e-5)
    logits = found[["bias", "lstm", *times]].sum(axis=1)
    np.testing.assert_allclose(logits, expected.logits[each, chosen], atol=1e-5)


def test_explanations_are_computed_a_few_rows_at_a_time(tmp_path, monkeypatch):
    classifier = classifier_of("one-hot")
    rows, explain = [], classifier.explain

    def counted(values, source):
        rows.append((len(values), source.rows_before))
        return explain(values, source)

    monkeypatch.setattr(classifier, "explain", counted)
    explain_shard(classifier, shard_of(values_of(300), tmp_path / "a.csv"), tmp_path / "e.csv")
    assert rows == [(128, 0), (128, 128), (44, 256)]


def test_a_row_that_cannot_be_explained_is_named_and_leaves_no_file(tmp_path):
    table = values_of(300)
    table.loc[200, "x_3"] = 3.4e38
    classifier = classifier_of("one-hot")
    classifier.artifact = replace(
        classifier.artifact, scaler=Scaler(kind="global", mean=(0.0,), std=(1e-3,))
    )
    with pytest.raises(DataError, match=r"a.csv, row 201: found values too large"):
        explain_shard(classifier, shard_of(table, tmp_path / "a.csv"), tmp_path / "e.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_columns_of_explanations_are_not_kept():
    schema = schema_of("one-hot")
    assert list_explanation_columns(schema)[:4] == ["explained", "bias", "lstm", "t_1"]
    validate_keep_columns(schema, ["bias"])
    with pytest.raises(DataError, match="--keep-columns bias"):
        validate_keep_columns(schema, ["bias"], explain=True)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.bz2"])
def test_any_dialect_is_predicted_as_commas_are(tmp_path, separator, suffix):
    classifier, table = classifier_of("names"), values_of(40).round(3).assign(id='a;b, "c"')
    usual, other = tmp_path / "a.csv", tmp_path / f"b.{suffix}"
    table.to_csv(usual, index=False)
    table.to_csv(other, index=False, sep=separator, decimal="," if separator == ";" else ".")
    texts = []
    for path in (usual, other):
        (shard,) = find_shards(str(path))
        predict_shard(classifier, shard, tmp_path / "out.csv", ["id"])
        texts.append((tmp_path / "out.csv").read_bytes())
    assert texts[0] == texts[1]
