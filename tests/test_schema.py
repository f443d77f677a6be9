import time

import numpy as np
import pyarrow as pa
import pytest

from lstmfcn.cells import Source
from lstmfcn.errors import DataError
from lstmfcn.schema import SeriesSchema

SOURCE = Source("a.csv", 100)


def schema_of(header, task="multiclass"):
    return SeriesSchema.from_header(header.split(","), task, "a.csv")


def refused(call, *args):
    with pytest.raises(DataError) as refusal:
        call(*args)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("task", "header", "labels", "classes", "probabilities"),
    [
        ("binary", "y,x_1", ("y",), ("0", "1"), ("p",)),
        ("binary", "y_no,y_yes,x_1", ("y_no", "y_yes"), ("y_no", "y_yes"), ("p_no", "p_yes")),
        ("multiclass", "y_b,x_1,y_a,y_c", ("y_b", "y_a", "y_c"), ("y_b", "y_a", "y_c"),
         ("p_b", "p_a", "p_c")),
        ("multiclass", "y,x_1", ("y",), (), ()),
        ("multilabel", "y_1,y_2,x_1", ("y_1", "y_2"), ("y_1", "y_2"), ("p_1", "p_2")),
        ("multilabel", "y_only,x_1", ("y_only",), ("y_only",), ("p_only",)),
    ],
)  # fmt: skip
def test_a_header_tells_labels_classes_and_probabilities(
    task, header, labels, classes, probabilities
):
    schema = schema_of(header, task)
    assert schema.task == task
    assert schema.label_columns == labels
    assert schema.value_columns == ("x_1",)
    assert schema.classes == classes
    assert schema.probability_columns == probabilities


def test_value_columns_keep_the_headers_order():
    schema = schema_of("x_2,id,x_10,y,x_1,Xtra")
    assert schema.value_columns == ("x_2", "x_10", "x_1")
    assert schema.n_timepoints == 3


@pytest.mark.parametrize(
    ("task", "header", "message"),
    [
        ("multiclass", "y,z", "a.csv: found no value column in the header (y, z); give the values "
         "columns whose names start with x, separated by commas"),
        ("multiclass", "y;x_1;x_2", "a.csv: found no value column in the header (y;x_1;x_2); give "
         "the values columns whose names start with x, separated by commas"),
        ("multiclass", "x_1,z", "a.csv: found no label column in the header (x_1, z); give the "
         "labels columns whose names start with y"),
        ("multiclass", "y,year,x_1", "a.csv: found 2 label columns that start with y (y, year); "
         "keep y alone, which holds class names, or y_1, y_2, ... of 0 and 1; rename what is no "
         "label"),
        ("multilabel", "y_a,yaw,y_b,x_1", "a.csv: found the label column yaw beside y_a, y_b; "
         "rename what is no label, for names that start with y are labels; name all labels y_1, "
         "y_2, ..."),
        ("multiclass", "Y,X_1,X_2", "a.csv: found no value column in the header (Y, X_1, X_2); "
         "names are case-sensitive: rename X_1 to x_1, X_2 to x_2, Y to y"),
        ("multiclass", "Y,x_1,x_2", "a.csv: found no label column in the header (Y, x_1, x_2); "
         "names are case-sensitive: rename Y to y"),
        ("multiclass", "0.5,1e-3,-2,a", "a.csv: found numbers in place of column names (0.5, 1e-3, "
         "-2, a); write the names as the first line of the file, such as y,x_1,x_2"),
        ("multiclass", "y,x_1,x_2,x_1", "a.csv: found the column x_1 more than once; give every "
         "column a name of its own"),
        ("multilabel", "y_1,y_1,x_1", "a.csv: found the column y_1 more than once; give every "
         "column a name of its own"),
        ("binary", "y_1,y_2,y_3,x_1", "a.csv: found 3 label columns (y_1, y_2, y_3) for the task "
         "binary; use --task multiclass or multilabel, or keep one or two label columns"),
    ],
)  # fmt: skip
def test_a_header_without_its_roles_is_refused(task, header, message):
    assert refused(schema_of, header, task) == message


def test_many_columns_are_told_by_the_first_and_the_last():
    assert refused(schema_of, "a,b,c,d,e,f") == (
        "a.csv: found no value column in the header (a, b, c, d, e, f); "
        "give the values columns whose names start with x, separated by commas"
    )
    assert refused(schema_of, "a,b,c,d,e,f,g") == (
        "a.csv: found no value column in the header (a, b, ... g (7 in all)); "
        "give the values columns whose names start with x, separated by commas"
    )


def test_another_header_may_differ_in_order_and_ignored_columns_only():
    schema = schema_of("y_1,y_2,x_1,x_2")
    schema.check_header(["x_2", "id", "y_2", "y_1", "x_1"], "b.csv", labels=True)
    schema.check_header(["x_2", "x_1", "y_9", "y_9"], "b.csv", labels=False)
    repeated = refused(schema.check_header, ["x_1", "x_2", "x_1", "y_1", "y_2"], "b.csv", True)
    assert repeated == (
        "b.csv: found the column x_1 more than once; give every column a name of its own"
    )


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["10", "9", "-1", "1.5"], ("-1", "1.5", "9", "10")),
        (["dog", "cat", "Ant"], ("Ant", "cat", "dog")),
        (["b", "10", "9", "a"], ("9", "10", "a", "b")),
    ],
)
def test_named_classes_are_sorted_numbers_as_numbers(names, classes):
    schema = schema_of("y,x_1").with_classes(names)
    assert schema.classes == classes
    assert schema.probability_columns == tuple(f"p_{name}" for name in classes)


@pytest.mark.parametrize(("names", "found"), [(["a"], "only the class a"), ([], "no class")])
def test_fewer_than_two_named_classes_are_refused(names, found):
    assert refused(schema_of("y,x_1").with_classes, names) == (
        f"column y: found {found}; training needs rows of at least two classes"
    )


def test_numbers_written_differently_are_one_class():
    table = pa.table({"y": ["1", "1.0", " 1 ", "1.00", "-2.0", "1.5", "a.0"]})
    names = schema_of("y,x_1").label_names(table)
    assert names == ["1", "1", "1", "1", "-2", "1.5", "a.0"]
    for numbers in ([1, 2], [1.0, 2.0]):
        assert schema_of("y,x_1").label_names(pa.table({"y": numbers})) == ["1", "2"]


@pytest.mark.parametrize("marker", ["nan", "NaN", "None", "NA", "N/A", "#N/A", "<NA>", " NA "])
def test_text_that_marks_a_missing_label_is_refused_unless_it_is_a_name(marker):
    schema, table = schema_of("y,x_1"), pa.table({"y": ["a", marker]})
    assert refused(schema.label_names, table, SOURCE) == (
        f"a.csv, row 102, column y: found {marker.strip()!r}, a missing label; write the row's "
        "class there or leave the row out, or keep such names as classes with --missing-labels name"
    )
    naming = schema.model_copy(update={"missing_labels": "name"})
    assert naming.label_names(table) == ["a", marker.strip()]
    known = schema.model_copy(update={"classes": ("a", marker.strip())})
    assert known.encode_labels(table).tolist() == [0, 1]  # a loaded model's class


@pytest.mark.parametrize("missing_labels", ["refuse", "name"])
@pytest.mark.parametrize("number", [float("nan"), None])
def test_a_label_that_is_nan_is_missing_and_never_a_name(number, missing_labels):
    schema = schema_of("y,x_1").model_copy(update={"missing_labels": missing_labels})
    table = pa.table({"y": pa.array([1.0, number])})
    assert "row 102, column y: found an empty cell; " in refused(schema.label_names, table, SOURCE)
    one_hot, cells = schema_of("y_1,y_2,x_1"), {"y_1": [1.0, 0.0], "y_2": pa.array([0.0, number])}
    message = refused(one_hot.encode_labels, pa.table(cells), SOURCE)
    assert message.startswith("a.csv, row 102, column y_2: found ")


def test_a_missing_label_is_not_told_as_an_unknown_class_too():
    schema = schema_of("y,x_1").with_classes(["a", "b"])
    names = ["a", "NA", "", "c"]
    assert [fault.row for fault in schema.empty_name_faults(names, SOURCE)] == [102, 103]
    assert [fault.row for fault in schema.unknown_name_faults(names, SOURCE)] == [104]


@pytest.mark.parametrize("classes", [("0.000000000000000000e+00", "1.000000000000000000e+00"),
                                     ("0", "1"), ("-0.0", "1.")])  # fmt: skip
def test_a_models_numbers_are_known_however_they_are_written(classes):
    schema = schema_of("y,x_1").model_copy(update={"classes": classes})
    labels = ["1", "0", "1.0", "-0", "+1", "1e0", "1E+00", "0.000000000000000000e+00", " 1. "]
    assert schema.encode_labels(pa.table({"y": labels})).tolist() == [1, 0, 1, 0, 1, 1, 1, 0, 1]
    assert schema.encode_labels(pa.table({"y": [1.0, 0.0]})).tolist() == [1, 0]
    assert "found the class '10'" in refused(schema.encode_labels, pa.table({"y": ["10"]}))


def test_a_models_classes_that_were_two_before_stay_two():
    schema = schema_of("y,x_1").model_copy(update={"classes": ("1.5", "1.50", "007", "7")})
    labels = pa.table({"y": ["1.50", "1.5", "1.500", "007", "7.0"]})
    assert schema.encode_labels(labels).tolist() == [1, 0, 0, 2, 3]


@pytest.mark.parametrize("spelt", ["true", "TRUE", "True"])
def test_a_models_truth_values_are_known_in_any_letters(spelt):
    for classes in (("False", "True"), ("false", "true")):
        schema = schema_of("y,x_1").model_copy(update={"classes": classes})
        assert schema.encode_labels(pa.table({"y": [spelt, "FALSE"]})).tolist() == [1, 0]


def test_composed_and_decomposed_letters_are_one_class():
    names = schema_of("y,x_1").label_names(pa.table({"y": ["gr\u00f6\u00dfe", "gro\u0308\u00dfe"]}))
    assert names == ["größe", "größe"]
    older = schema_of("y,x_1").model_copy(update={"classes": ("gro\u0308\u00dfe", "klein")})
    labels = pa.table({"y": ["gr\u00f6\u00dfe", "klein", "gro\u0308\u00dfe"]})
    assert older.encode_labels(labels).tolist() == [0, 1, 0]


@pytest.mark.parametrize("yes", ["True", "true", "TRUE", "1", "1.0", "1e0", " 1"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_true_and_false_are_1_and_0_in_label_columns(yes, task):
    no = "False" if yes[-1] in "eE" else "0"
    schema = schema_of("y_1,y_2,x_1", task)
    told = schema.encode_labels(pa.table({"y_1": [yes, no], "y_2": [no, yes]}))
    numbers = schema.encode_labels(pa.table({"y_1": [1, 0], "y_2": [0, 1]}))
    np.testing.assert_array_equal(told, numbers)
    bools = schema.encode_labels(pa.table({"y_1": [True, False], "y_2": [False, True]}))
    np.testing.assert_array_equal(bools, numbers)


def test_what_names_may_not_mean_is_told():
    assert schema_of("y,x_1,x_2").naming_warnings() == []
    for header, told in (("y,x_1,x_10,x_2", "x_10 and x_2"), ("y,x_a,x_b", "x_a, x_b"),
                         ("year,x_1", "the column year")):  # fmt: skip
        (warning,) = schema_of(header).naming_warnings()
        assert told in warning


def test_wide_headers_are_compared_in_no_time():
    names = [f"x_{t}" for t in range(100_000)]
    schema = SeriesSchema.from_header(["y", *names], "multiclass")
    began = time.perf_counter()
    message = refused(schema.check_header, [f"x{t}" for t in range(100_000)], "b.csv", True)
    assert "without x_0, x_1, ... x_99999 (100000 in all)" in message
    assert time.perf_counter() - began < 2  # comparing each with each took 38 s


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_row_without_a_name_is_refused(empty):
    assert refused(schema_of("y,x_1").label_names, pa.table({"y": ["a", empty]}), SOURCE) == (
        "a.csv, row 102, column y: found an empty cell; "
        "write the row's class there or leave the row out"
    )


def test_a_name_that_training_did_not_know_is_refused():
    schema = schema_of("y,x_1").with_classes(["a", "b"])
    assert refused(schema.encode_names, ["b", "c", "d"], SOURCE) == (
        "a.csv, row 102, column y: found the class 'c'; "
        "the model knows a, b; correct the label or train anew"
    )


def test_names_are_encoded_as_indices_into_the_classes():
    schema = schema_of("y,x_1").with_classes(["dog", "cat"])
    encoded = schema.encode_labels(pa.table({"y": ["dog", "cat", "dog"]}))
    assert encoded.tolist() == [1, 0, 1]
    assert encoded.dtype == np.int64


@pytest.mark.parametrize(
    ("task", "columns", "encoded", "dtype"),
    [
        ("binary", {"y": [0, 1, 1]}, [0, 1, 1], np.float32),
        ("binary", {"y_no": [1, 0, 0], "y_yes": [0, 1, 1]}, [0, 1, 1], np.float32),
        ("multiclass", {"y_1": [0.0, 1.0, 0.0], "y_2": [1, 0, 0], "y_3": [0, 0, 1]}, [1, 0, 2],
         np.int64),
        ("multilabel", {"y_1": [0, 1, 1], "y_2": [0, 1, 0]}, [[0, 0], [1, 1], [1, 0]], np.float32),
        ("multilabel", {"y_1": [0, 1, 1]}, [[0], [1], [1]], np.float32),
    ],
)  # fmt: skip
def test_labels_of_each_task_are_encoded_by_column_name(task, columns, encoded, dtype):
    schema = schema_of(",".join([*columns, "x_1"]), task)
    labels = schema.encode_labels(pa.table(dict(reversed(columns.items()))))
    assert labels.tolist() == encoded
    assert labels.dtype == dtype


@pytest.mark.parametrize("value", [-1, 0.5, 2])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_label_other_than_0_and_1_is_refused(task, value):
    table = pa.table({"y_1": [1.0, 0.0], "y_2": [0.0, float(value)]})
    assert refused(schema_of("y_1,y_2,x_1", task).encode_labels, table, SOURCE) == (
        f"a.csv, row 102, column y_2: found {value}; write 0 or 1 there"
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize(("row", "found"), [((0, 0), "no class"), ((1, 1), "2 classes (y_1, y_2)")])
def test_a_row_that_is_not_one_hot_is_refused(task, row, found):
    table = pa.table({"y_1": [0, 1, row[0]], "y_2": [1, 0, row[1]]})
    assert refused(schema_of("y_1,y_2,x_1", task).encode_labels, table, SOURCE) == (
        f"a.csv, row 103, column y_1 to y_2: found {found}; "
        "put a single 1 in the row, or use --task multilabel"
    )


def test_values_are_matched_by_name_as_float32():
    table = pa.table({"x_10": [10, 20], "z": ["no", "no"], "x_2": [0.1, 0.2]})
    values = schema_of("y,x_2,x_10").encode_values(table)
    assert values.dtype == np.float32
    assert values.tolist() == [[np.float32(0.1), 10], [np.float32(0.2), 20]]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "an empty cell"),
        (float("nan"), "nan, which is no finite 32-bit number"),
        (float("inf"), "inf, which is no finite 32-bit number"),
        (float("-inf"), "-inf, which is no finite 32-bit number"),
        (1e39, "1e+39, which is no finite 32-bit number"),
    ],
)
def test_a_value_that_is_missing_or_not_finite_is_refused(value, found):
    table = pa.table({"x_1": pa.array([1.0, 2.0]), "x_2": pa.array([3.0, value], pa.float64())})
    assert refused(schema_of("y,x_1,x_2").encode_values, table, SOURCE) == (
        f"a.csv, row 102, column x_2: found {found}; write a number there or leave the row out"
        + (", or train with --missing mask" if value is None or value != value else "")
    )


def test_missing_values_are_nan_where_they_may_be_missing():
    table = pa.table({"x_1": pa.array([1.0, None]), "x_2": pa.array([None, 3.0], pa.float64())})
    schema = schema_of("y,x_1,x_2").model_copy(update={"missing": "mask"})
    np.testing.assert_array_equal(schema.encode_values(table), [[1.0, np.nan], [np.nan, 3.0]])
    empty = pa.table({"x_1": pa.array([1.0, None]), "x_2": pa.array([None, None], pa.float64())})
    assert refused(schema.encode_values, empty, SOURCE) == (
        "a.csv, row 102: found no value at all; leave the row out"
    )
    infinite = pa.table({"x_1": [1.0, 2.0], "x_2": [1.0, float("inf")]})
    assert "column x_2: found inf" in refused(schema.encode_values, infinite, SOURCE)


def test_the_first_of_several_faults_by_row_is_told():
    table = pa.table({"x_1": [1.0, 2.0, None], "x_2": [1.0, None, 3.0]})
    message = refused(schema_of("y,x_1,x_2").encode_values, table)
    assert message.startswith("row 2, column x_2: found an empty cell; ")


def test_rows_of_each_class_are_counted():
    binary = schema_of("y,x_1", "binary")
    assert binary.class_counts(np.array([0, 1, 1], np.float32)) == {"0": 1, "1": 2}
    named = schema_of("y,x_1").with_classes(["a", "b", "c"])
    assert named.class_counts(np.array([2, 0, 2])) == {"a": 1, "b": 0, "c": 2}
    multilabel = schema_of("y_1,y_2,x_1", "multilabel")
    ones = np.array([[1, 0], [1, 1], [1, 0]], np.float32)
    assert multilabel.class_counts(ones) == {"y_1": 3, "y_2": 1}


@pytest.mark.parametrize(
    ("task", "header", "labels", "absent"),
    [
        ("binary", "y,x_1", [0.0, 0.0], "1"),
        ("multiclass", "y_1,y_2,y_3,x_1", [0, 2], "y_2"),
        ("multiclass", "y_1,y_2,y_3,x_1", [0, 0], "y_2, y_3"),
        ("multilabel", "y_1,y_2,x_1", [[1, 0], [0, 0]], "y_2"),
    ],
)
def test_a_class_without_training_rows_is_refused(task, header, labels, absent):
    assert refused(schema_of(header, task).refuse_absent_classes, np.array(labels), "train") == (
        f"train: found no row of the class {absent}; "
        "add rows of it to the training data or remove its column"
    )


def test_classes_that_all_have_training_rows_pass():
    assert schema_of("y_1,y_2,x_1").refuse_absent_classes(np.array([0, 1]), "train") is None
    ones = np.array([[1, 0], [0, 1]], np.float32)
    assert schema_of("y_1,y_2,x_1", "multilabel").refuse_absent_classes(ones, "train") is None


def test_column_types_are_labels_first_then_values_in_schema_order():
    named, one_hot = schema_of("x_2,y,x_1"), schema_of("x_2,y_1,x_1,y_2")
    values = [("x_2", pa.float32()), ("x_1", pa.float32())]
    assert list(named.column_types(labels=True).items()) == [("y", pa.string()), *values]
    assert list(named.column_types(labels=False).items()) == values
    assert list(one_hot.column_types(labels=True)) == ["y_1", "y_2", "x_2", "x_1"]
    assert one_hot.column_types(labels=True)["y_2"] == pa.string()  # true and 1.0 are both 1


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_schema_round_trips_through_json(task):
    schema = schema_of("x_10,y_ü,x_2,y_b", task)
    assert SeriesSchema.model_validate_json(schema.model_dump_json()) == schema
    named = schema_of("y,x_1").with_classes(["10", "9"])
    again = SeriesSchema.model_validate_json(named.model_dump_json())
    assert again == named
    assert again.classes == ("9", "10")


def test_blanks_around_a_column_name_are_refused_and_not_passed_over():
    with pytest.raises(DataError, match="found blanks around the column name ' x_1'; remove them"):
        SeriesSchema.from_header(["y", " x_1", "x_2"], "multiclass", "a.csv")


def test_a_class_named_nan_has_its_place_in_the_alphabet():
    schema = SeriesSchema.from_header(["y", "x_1"], "multiclass")
    for names in (["b", "nan", "2"], ["nan", "2", "b"]):
        assert schema.with_classes(names).classes == ("2", "b", "nan")


def test_a_column_named_by_blanks_alone_is_no_value_and_no_label():
    schema = SeriesSchema.from_header(["y", "x_1", " ", ""], "multiclass", "a.csv")
    schema.check_header([" ", "x_1", "y"], "b.csv", labels=True)
    assert (schema.label_columns, schema.value_columns) == (("y",), ("x_1",))


def test_a_single_class_is_refused_with_its_file():
    schema = SeriesSchema.from_header(["y", "x_1"], "multiclass")
    with pytest.raises(DataError, match=r"^train, column y: found only the class a; training"):
        schema.with_classes(["a"], "train")


def test_channels_are_stored_one_after_the_other_and_matched_by_name():
    schema = schema_of("y,x1_1,x2_1,x1_2,x2_2,x1_3,x2_3")
    assert (schema.n_channels, schema.n_timepoints, schema.n_values) == (2, 3, 6)
    assert schema.value_columns == ("x1_1", "x1_2", "x1_3", "x2_1", "x2_2", "x2_3")
    schema.check_header(["x2_3", "x2_2", "x2_1", "x1_1", "x1_2", "x1_3"], "b.csv", labels=False)
    table = pa.table({name: [float(name[1] + name[3])] for name in reversed(schema.value_columns)})
    assert schema.encode_values(table).tolist() == [[11, 12, 13, 21, 22, 23]]


def test_channels_that_do_not_fit_are_refused_by_the_file():
    assert refused(schema_of, "y,x1_1,x2_2").startswith("a.csv: found channel 2 without x2_1")


def test_a_description_without_channels_is_of_one():
    described = schema_of("y,x_1,x_2").model_dump(mode="json")
    del described["n_channels"]
    assert SeriesSchema.model_validate(described) == schema_of("y,x_1,x_2")
