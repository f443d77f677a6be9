import time

import numpy as np
import pyarrow as pa
import pytest

from lstmfcn.data.columns import Roles
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.data.table import RowOrigin
from lstmfcn.errors import DataError

SOURCE = RowOrigin("a.csv", 100)


def make_schema(header, task="multiclass"):
    return SeriesSchema.from_header(header.split(","), task, "a.csv")


def refusal_text(call, *args):
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
def test_a_header_gives_labels_classes_and_probability_columns(
    task, header, labels, classes, probabilities
):
    schema = make_schema(header, task)
    assert schema.task == task
    assert schema.label_columns == labels
    assert schema.value_columns == ("x_1",)
    assert schema.classes == classes
    assert schema.probability_columns == probabilities


def test_value_columns_keep_the_headers_order():
    schema = make_schema("x_2,id,x_10,y,x_1,Xtra")
    assert schema.value_columns == ("x_2", "x_10", "x_1")
    assert schema.n_timepoints == 3


@pytest.mark.parametrize(
    ("task", "header", "message"),
    [
        ("multiclass", "y,z", "a.csv: found no value column in the header (y, z); start the "
         "names of the value columns with x, or add --value-columns NAMES"),
        ("multiclass", "y,t1,t2,v", "a.csv: found no value column in the header (y, t1, t2, v); "
         "start the names of the value columns with x, or add --value-columns 't*'"),
        ("multiclass", "id,year,t1,t2,Label", "a.csv: found no value column in the header (id, "
         "year, t1, t2, Label); start the names of the value columns with x, or add "
         "--label-column Label --value-columns 't*'"),
        ("multiclass", "y;x_1;x_2", "a.csv: found no value column in the header (y;x_1;x_2); "
         "start the names of the value columns with x, and separate names by commas"),
        ("multiclass", "x_1,z", "a.csv: found no label column in the header (x_1, z); start the "
         "names of the label columns with y, or add --label-column NAME"),
        ("multiclass", "y,year,x_1", "a.csv: found 2 columns whose names start with y (y, year); "
         "keep only y (class names), or only y_1, y_2, ... (0 or 1); rename columns that are "
         "not labels"),
        ("multilabel", "y_a,yaw,y_b,x_1", "a.csv: found the label column yaw beside y_a, y_b; "
         "rename columns that are not labels (names that start with y are labels), or name all "
         "labels y_1, y_2, ..."),
        ("multiclass", "Y,X_1,X_2", "a.csv: found no value column in the header (Y, X_1, X_2); "
         "names are case-sensitive: rename X_1 to x_1, X_2 to x_2, Y to y"),
        ("multiclass", "Y,x_1,x_2", "a.csv: found no label column in the header (Y, x_1, x_2); "
         "names are case-sensitive: rename Y to y"),
        ("multiclass", "0.5,1e-3,-2,a", "a.csv: found numbers instead of column names (0.5, 1e-3, "
         "-2, a); add a first line with the column names, such as y,x_1,x_2"),
        ("multiclass", "y,x_1,x_2,x_1", "a.csv: found the column x_1 more than once; give each "
         "column a different name"),
        ("multilabel", "y_1,y_1,x_1", "a.csv: found the column y_1 more than once; give each "
         "column a different name"),
        ("binary", "y_1,y_2,y_3,x_1", "a.csv: found 3 label columns (y_1, y_2, y_3) for the task "
         "binary; use --task multiclass or multilabel, or keep one or two label columns"),
    ],
)  # fmt: skip
def test_a_header_without_its_roles_is_refused(task, header, message):
    assert refusal_text(make_schema, header, task) == message


def test_many_columns_are_abbreviated():
    assert refusal_text(make_schema, "a,b,c,d,e,f") == (
        "a.csv: found no value column in the header (a, b, c, d, e, f); "
        "start the names of the value columns with x, or add --label-column NAME --value-columns "
        "NAMES"
    )
    assert refusal_text(make_schema, "a,b,c,d,e,f,g") == (
        "a.csv: found no value column in the header (a, b, ... g (7 in all)); "
        "start the names of the value columns with x, or add --label-column NAME --value-columns "
        "NAMES"
    )


def test_another_header_may_differ_in_order_and_ignored_columns_only():
    schema = make_schema("y_1,y_2,x_1,x_2")
    schema.check_header(["x_2", "id", "y_2", "y_1", "x_1"], "b.csv", labels=True)
    schema.check_header(["x_2", "x_1", "y_9", "y_9"], "b.csv", labels=False)
    repeated = refusal_text(schema.check_header, ["x_1", "x_2", "x_1", "y_1", "y_2"], "b.csv", True)
    assert repeated == (
        "b.csv: found the column x_1 more than once; give each column a different name"
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
    schema = make_schema("y,x_1").with_classes(names)
    assert schema.classes == classes
    assert schema.probability_columns == tuple(f"p_{name}" for name in classes)


@pytest.mark.parametrize(("names", "found"), [(["a"], "only the class a"), ([], "no class")])
def test_fewer_than_two_named_classes_are_refused(names, found):
    assert refusal_text(make_schema("y,x_1").with_classes, names) == (
        f"column y: found {found}; training needs rows of at least two classes"
    )


def test_numbers_written_differently_are_one_class():
    table = pa.table({"y": ["1", "1.0", " 1 ", "1.00", "-2.0", "1.5", "a.0"]})
    names = make_schema("y,x_1").label_names(table)
    assert names == ["1", "1", "1", "1", "-2", "1.5", "a.0"]
    for numbers in ([1, 2], [1.0, 2.0]):
        assert make_schema("y,x_1").label_names(pa.table({"y": numbers})) == ["1", "2"]


@pytest.mark.parametrize("marker", ["nan", "NaN", "None", "NA", "N/A", "#N/A", "<NA>", " NA "])
def test_text_that_marks_a_missing_label_is_refused_unless_it_is_a_name(marker):
    schema, table = make_schema("y,x_1"), pa.table({"y": ["a", marker]})
    assert refusal_text(schema.label_names, table, SOURCE) == (
        f"a.csv, row 102, column y: found {marker.strip()!r}, which stands for a missing label; "
        "write the row's class or remove the row, or use --missing-labels name if it is a class"
    )
    naming = schema.model_copy(update={"missing_labels": "name"})
    assert naming.label_names(table) == ["a", marker.strip()]
    known = schema.model_copy(update={"classes": ("a", marker.strip())})
    assert known.encode_labels(table).tolist() == [0, 1]  # a loaded model's class


@pytest.mark.parametrize("missing_labels", ["refuse", "name"])
@pytest.mark.parametrize("number", [float("nan"), None])
def test_a_label_that_is_nan_is_missing_and_never_a_name(number, missing_labels):
    schema = make_schema("y,x_1").model_copy(update={"missing_labels": missing_labels})
    table = pa.table({"y": pa.array([1.0, number])})
    assert "row 102, column y: found an empty cell; " in refusal_text(
        schema.label_names, table, SOURCE
    )
    one_hot, cells = make_schema("y_1,y_2,x_1"), {"y_1": [1.0, 0.0], "y_2": pa.array([0.0, number])}
    message = refusal_text(one_hot.encode_labels, pa.table(cells), SOURCE)
    assert message.startswith("a.csv, row 102, column y_2: found ")


def test_a_missing_label_is_not_also_an_unknown_class():
    schema = make_schema("y,x_1").with_classes(["a", "b"])
    names = ["a", "NA", "", "c"]
    assert [fault.row for fault in schema.empty_name_faults(names, SOURCE)] == [102, 103]
    assert [fault.row for fault in schema.unknown_name_faults(names, SOURCE)] == [104]


@pytest.mark.parametrize("classes", [("0.000000000000000000e+00", "1.000000000000000000e+00"),
                                     ("0", "1"), ("-0.0", "1.")])  # fmt: skip
def test_classes_that_are_numbers_match_in_any_form(classes):
    schema = make_schema("y,x_1").model_copy(update={"classes": classes})
    labels = ["1", "0", "1.0", "-0", "+1", "1e0", "1E+00", "0.000000000000000000e+00", " 1. "]
    assert schema.encode_labels(pa.table({"y": labels})).tolist() == [1, 0, 1, 0, 1, 1, 1, 0, 1]
    assert schema.encode_labels(pa.table({"y": [1.0, 0.0]})).tolist() == [1, 0]
    assert "found the class '10'" in refusal_text(schema.encode_labels, pa.table({"y": ["10"]}))


def test_a_models_classes_that_were_two_before_stay_two():
    schema = make_schema("y,x_1").model_copy(update={"classes": ("1.5", "1.50", "007", "7")})
    labels = pa.table({"y": ["1.50", "1.5", "1.500", "007", "7.0"]})
    assert schema.encode_labels(labels).tolist() == [1, 0, 0, 2, 3]


@pytest.mark.parametrize("spelt", ["true", "TRUE", "True"])
def test_classes_true_and_false_match_in_any_case(spelt):
    for classes in (("False", "True"), ("false", "true")):
        schema = make_schema("y,x_1").model_copy(update={"classes": classes})
        assert schema.encode_labels(pa.table({"y": [spelt, "FALSE"]})).tolist() == [1, 0]


def test_composed_and_decomposed_letters_are_one_class():
    names = make_schema("y,x_1").label_names(
        pa.table({"y": ["gr\u00f6\u00dfe", "gro\u0308\u00dfe"]})
    )
    assert names == ["größe", "größe"]
    older = make_schema("y,x_1").model_copy(update={"classes": ("gro\u0308\u00dfe", "klein")})
    labels = pa.table({"y": ["gr\u00f6\u00dfe", "klein", "gro\u0308\u00dfe"]})
    assert older.encode_labels(labels).tolist() == [0, 1, 0]


@pytest.mark.parametrize("yes", ["True", "true", "TRUE", "1", "1.0", "1e0", " 1"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_true_and_false_are_1_and_0_in_label_columns(yes, task):
    no = "False" if yes[-1] in "eE" else "0"
    schema = make_schema("y_1,y_2,x_1", task)
    message = schema.encode_labels(pa.table({"y_1": [yes, no], "y_2": [no, yes]}))
    numbers = schema.encode_labels(pa.table({"y_1": [1, 0], "y_2": [0, 1]}))
    np.testing.assert_array_equal(message, numbers)
    bools = schema.encode_labels(pa.table({"y_1": [True, False], "y_2": [False, True]}))
    np.testing.assert_array_equal(bools, numbers)


@pytest.mark.parametrize(
    ("roles", "labels", "values", "n_channels"),
    [
        (Roles("diagnosis", "t*"), ["diagnosis"], ["t1", "t2"], 1),
        (Roles("diagnosis", "t1, t2"), ["diagnosis"], ["t1", "t2"], 1),
        (Roles("", "t*"), ["year"], ["t1", "t2"], 1),
        (Roles("diagnosis", ""), ["diagnosis"], ["x_1"], 1),
        (Roles("t1", "t*"), ["t1"], ["t2"], 1),  # a label is no value
        (Roles("", "year, t*"), [], ["year", "t1", "t2"], 1),
        (Roles("is_*", "acc_?,gyr_?"), ["is_a", "is_b"], ["acc_1", "gyr_1", "acc_2", "gyr_2"], 2),
        (Roles("", "x[1]"), ["year"], ["x[1]"], 1),
        (Roles("a,b", "t*"), ["a,b"], ["t1", "t2"], 1),  # a name may have a comma
    ],
)
def test_columns_may_be_named_instead(roles, labels, values, n_channels):
    header = [
        *("id", "diagnosis", "year", "t1", "t2", "x_1", "is_a", "is_b", "x[1]", "a,b"),
        *("acc_1", "gyr_1", "acc_2", "gyr_2"),
    ]
    if not roles.value_columns:
        header.remove("x[1]")
    assert (roles.labels(header), roles.values(header)) == (labels, values)
    assert roles.ignored([header]) == sorted({*header} - {*labels, *values})
    if not labels or values != list(dict.fromkeys(values)) or "year" in values:
        return
    schema = SeriesSchema.from_header(header, "multiclass", roles=roles)
    assert schema.label_columns == tuple(labels)
    assert sorted(schema.value_columns) == sorted(values)
    assert schema.n_channels == n_channels
    schema.check_header([name for name in header if name != "id"], "b.csv", labels=True)
    schema.check_header([name for name in header if name not in labels], "b.csv", labels=False)
    with pytest.raises(DataError, match=r"^b\.csv: found "):
        schema.check_header([name for name in header if name != values[0]], "b.csv", labels=True)
    assert SeriesSchema.model_validate(schema.model_dump()) == schema


def test_one_hot_labels_that_are_named_have_probabilities_of_their_names():
    roles = Roles("is_*", "t*")
    schema = SeriesSchema.from_header(["is_a", "is_b", "t1"], "multiclass", roles=roles)
    assert schema.probability_columns == ("p_is_a", "p_is_b")


def test_a_name_that_no_column_has_is_refused():
    header = ["y", "t1"]
    with pytest.raises(
        DataError, match=r"no column 'u\*', as --value-columns names, in the header"
    ):
        SeriesSchema.from_header(header, "multiclass", roles=Roles("", "u*"))
    with pytest.raises(DataError, match=r"no column 'z', as --label-column names, in the header"):
        SeriesSchema.from_header(header, "multiclass", roles=Roles("z", "t*"))


def test_suspicious_column_names_give_a_warning():
    assert list(make_schema("y,x_1,x_2").naming_warnings()) == []
    for header, columns in (("y,x_1,x_10,x_2", "x_10 before x_2"), ("y,x_a,x_b", "x_a, x_b"),
                         ("year,x_1", "the column year")):  # fmt: skip
        (warning,) = make_schema(header).naming_warnings()
        assert columns in str(warning)


def test_wide_headers_are_compared_quickly():
    names = [f"x_{t}" for t in range(100_000)]
    schema = SeriesSchema.from_header(["y", *names], "multiclass")
    began = time.perf_counter()
    message = refusal_text(schema.check_header, [f"x{t}" for t in range(100_000)], "b.csv", True)
    assert "missing: x_0, x_1, ... x_99999 (100000 in all)" in message
    assert time.perf_counter() - began < 2  # comparing each with each took 38 s


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_row_without_a_name_is_refused(empty):
    assert refusal_text(
        make_schema("y,x_1").label_names, pa.table({"y": ["a", empty]}), SOURCE
    ) == ("a.csv, row 102, column y: found an empty cell; write the row's class or remove the row")


def test_a_name_that_training_did_not_know_is_refused():
    schema = make_schema("y,x_1").with_classes(["a", "b"])
    assert refusal_text(schema.encode_names, ["b", "c", "d"], SOURCE) == (
        "a.csv, row 102, column y: found the class 'c'; "
        "the model's classes are a, b; correct the label or train a new model"
    )


def test_names_are_encoded_as_indices_into_the_classes():
    schema = make_schema("y,x_1").with_classes(["dog", "cat"])
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
    schema = make_schema(",".join([*columns, "x_1"]), task)
    labels = schema.encode_labels(pa.table(dict(reversed(columns.items()))))
    assert labels.tolist() == encoded
    assert labels.dtype == dtype


@pytest.mark.parametrize("value", [-1, 0.5, 2])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_label_other_than_0_and_1_is_refused(task, value):
    table = pa.table({"y_1": [1.0, 0.0], "y_2": [0.0, float(value)]})
    assert refusal_text(make_schema("y_1,y_2,x_1", task).encode_labels, table, SOURCE) == (
        f"a.csv, row 102, column y_2: found {value}; write 0 or 1"
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize(("row", "found"), [((0, 0), "no class"), ((1, 1), "2 classes (y_1, y_2)")])
def test_a_row_that_is_not_one_hot_is_refused(task, row, found):
    table = pa.table({"y_1": [0, 1, row[0]], "y_2": [1, 0, row[1]]})
    assert refusal_text(make_schema("y_1,y_2,x_1", task).encode_labels, table, SOURCE) == (
        f"a.csv, row 103, column y_1 to y_2: found {found}; "
        "put exactly one 1 in the row, or use --task multilabel"
    )


def test_values_are_matched_by_name_as_float32():
    table = pa.table({"x_10": [10, 20], "z": ["no", "no"], "x_2": [0.1, 0.2]})
    values = make_schema("y,x_2,x_10").encode_values(table)
    assert values.dtype == np.float32
    assert values.tolist() == [[np.float32(0.1), 10], [np.float32(0.2), 20]]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "an empty cell"),
        (float("nan"), "nan, which is not a finite 32-bit number"),
        (float("inf"), "inf, which is not a finite 32-bit number"),
        (float("-inf"), "-inf, which is not a finite 32-bit number"),
        (1e39, "1e+39, which is not a finite 32-bit number"),
    ],
)
def test_a_value_that_is_missing_or_not_finite_is_refused(value, found):
    table = pa.table({"x_1": pa.array([1.0, 2.0]), "x_2": pa.array([3.0, value], pa.float64())})
    assert refusal_text(make_schema("y,x_1,x_2").encode_values, table, SOURCE) == (
        f"a.csv, row 102, column x_2: found {found}; write a number or remove the row"
        + (", or train with --missing mask" if value is None or value != value else "")
    )


def test_missing_values_are_nan_with_missing_mask():
    table = pa.table({"x_1": pa.array([1.0, None]), "x_2": pa.array([None, 3.0], pa.float64())})
    schema = make_schema("y,x_1,x_2").model_copy(update={"missing": "mask"})
    np.testing.assert_array_equal(schema.encode_values(table), [[1.0, np.nan], [np.nan, 3.0]])
    empty = pa.table({"x_1": pa.array([1.0, None]), "x_2": pa.array([None, None], pa.float64())})
    assert refusal_text(schema.encode_values, empty, SOURCE) == (
        "a.csv, row 102: found a row without any value; remove the row"
    )
    infinite = pa.table({"x_1": [1.0, 2.0], "x_2": [1.0, float("inf")]})
    assert "column x_2: found inf" in refusal_text(schema.encode_values, infinite, SOURCE)


def test_the_first_fault_by_row_is_raised():
    table = pa.table({"x_1": [1.0, 2.0, None], "x_2": [1.0, None, 3.0]})
    message = refusal_text(make_schema("y,x_1,x_2").encode_values, table)
    assert message.startswith("row 2, column x_2: found an empty cell; ")


def test_rows_of_each_class_are_counted():
    binary = make_schema("y,x_1", "binary")
    assert binary.class_counts(np.array([0, 1, 1], np.float32)) == {"0": 1, "1": 2}
    named = make_schema("y,x_1").with_classes(["a", "b", "c"])
    assert named.class_counts(np.array([2, 0, 2])) == {"a": 1, "b": 0, "c": 2}
    multilabel = make_schema("y_1,y_2,x_1", "multilabel")
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
    assert refusal_text(
        make_schema(header, task).refuse_absent_classes, np.array(labels), "train"
    ) == (
        f"train: found no row of the class {absent}; "
        "add training rows of this class or remove its column"
    )


def test_classes_that_all_have_training_rows_pass():
    assert make_schema("y_1,y_2,x_1").refuse_absent_classes(np.array([0, 1]), "train") is None
    ones = np.array([[1, 0], [0, 1]], np.float32)
    assert make_schema("y_1,y_2,x_1", "multilabel").refuse_absent_classes(ones, "train") is None


def test_column_types_are_labels_first_then_values_in_schema_order():
    named, one_hot = make_schema("x_2,y,x_1"), make_schema("x_2,y_1,x_1,y_2")
    values = [("x_2", pa.float32()), ("x_1", pa.float32())]
    assert list(named.column_types(labels=True).items()) == [("y", pa.string()), *values]
    assert list(named.column_types(labels=False).items()) == values
    assert list(one_hot.column_types(labels=True)) == ["y_1", "y_2", "x_2", "x_1"]
    assert one_hot.column_types(labels=True)["y_2"] == pa.string()  # true and 1.0 are both 1


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_schema_round_trips_through_json(task):
    schema = make_schema("x_10,y_ü,x_2,y_b", task)
    assert SeriesSchema.model_validate_json(schema.model_dump_json()) == schema
    named = make_schema("y,x_1").with_classes(["10", "9"])
    again = SeriesSchema.model_validate_json(named.model_dump_json())
    assert again == named
    assert again.classes == ("9", "10")


def test_spaces_around_a_column_name_are_refused():
    with pytest.raises(DataError, match="found spaces around the column name ' x_1'; remove them"):
        SeriesSchema.from_header(["y", " x_1", "x_2"], "multiclass", "a.csv")


def test_a_class_named_nan_has_its_place_in_the_alphabet():
    schema = SeriesSchema.from_header(["y", "x_1"], "multiclass")
    for names in (["b", "nan", "2"], ["nan", "2", "b"]):
        assert schema.with_classes(names).classes == ("2", "b", "nan")


def test_a_column_named_by_spaces_is_ignored():
    schema = SeriesSchema.from_header(["y", "x_1", " ", ""], "multiclass", "a.csv")
    schema.check_header([" ", "x_1", "y"], "b.csv", labels=True)
    assert (schema.label_columns, schema.value_columns) == (("y",), ("x_1",))


def test_a_single_class_is_refused_with_its_file():
    schema = SeriesSchema.from_header(["y", "x_1"], "multiclass")
    with pytest.raises(DataError, match=r"^train, column y: found only the class a; training"):
        schema.with_classes(["a"], "train")


def test_channels_are_stored_one_after_the_other_and_matched_by_name():
    schema = make_schema("y,x1_1,x2_1,x1_2,x2_2,x1_3,x2_3")
    assert (schema.n_channels, schema.n_timepoints, schema.n_values) == (2, 3, 6)
    assert schema.value_columns == ("x1_1", "x1_2", "x1_3", "x2_1", "x2_2", "x2_3")
    schema.check_header(["x2_3", "x2_2", "x2_1", "x1_1", "x1_2", "x1_3"], "b.csv", labels=False)
    table = pa.table({name: [float(name[1] + name[3])] for name in reversed(schema.value_columns)})
    assert schema.encode_values(table).tolist() == [[11, 12, 13, 21, 22, 23]]


def test_channels_that_do_not_fit_are_refused_by_the_file():
    assert refusal_text(make_schema, "y,x1_1,x2_2").startswith(
        "a.csv: found channel 2 without x2_1"
    )


def test_a_description_without_channels_is_of_one():
    described = make_schema("y,x_1,x_2").model_dump(mode="json")
    del described["n_channels"]
    assert SeriesSchema.model_validate(described) == make_schema("y,x_1,x_2")
