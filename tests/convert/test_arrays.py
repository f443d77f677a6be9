import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lstmfcn.errors import DataError
from tests.helpers.conversions import converted, lines_of


def npz(**stored):
    file = io.BytesIO()
    np.savez(file, **stored)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


X = np.array([[0.1, 2], [3, -4e-30]])


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("X", "labels"), ("data", "Y")])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["up", "größer"]), ["up", "größer"]),
        (np.array([b"up", b"down"]), ["up", "down"]),
        (np.array([[1.0], [0.5]]), ["1", "0.5"]),
        (np.array([0, -1]), ["0", "-1"]),
        (np.array([True, False]), ["True", "False"]),
    ],
)
def test_rows_and_labels_of_any_type(tmp_path, x, y, labels, names):
    content = npz(**{x: X, y: labels, "other": np.zeros(3)})
    rows = lines_of(tmp_path, "a.npz", content)
    assert rows == ["y,x_1,x_2", f"{names[0]},0.1,2.0", f"{names[1]},3.0,-4e-30"]


def test_three_axes_are_rows_channels_and_timepoints(tmp_path, caplog):
    caplog.set_level("INFO")
    content = npz(x=np.arange(12).reshape(2, 2, 3), y=["a", "b"])
    assert lines_of(tmp_path, "a.npz", content) == [
        "y,x1_1,x1_2,x1_3,x2_1,x2_2,x2_3",
        "a,0,1,2,3,4,5",
        "b,6,7,8,9,10,11",
    ]
    assert "read as (rows, channels, timepoints): 2 channels of 3 timepoints" in caplog.text


def test_a_npy_without_labels_and_nan_as_gaps(tmp_path):
    content = npy(np.array([[1, np.nan], [True, 3]], np.float32))
    rows = lines_of(tmp_path, "a.npy", content, label="none", missing="mask")
    assert rows == ["x_1,x_2", "1.0,", "1.0,3.0"]


@settings(max_examples=50, database=None)
@given(
    x=st.one_of(
        arrays.arrays(dtype, (2, 3), elements=elements)
        for dtype, elements in (
            (np.float64, st.floats(width=32, allow_nan=False, allow_infinity=False)),
            (np.float32, st.floats(width=32, allow_nan=False, allow_infinity=False)),
            (np.float16, st.floats(width=16, allow_nan=False, allow_infinity=False)),
            (np.uint64, st.integers(0, 2**53)),
            (np.bool_, st.booleans()),
        )
    )
)
def test_every_value_is_read_back_as_it_was(tmp_path_factory, x):
    folder = tmp_path_factory.mktemp("arrays")
    rows = lines_of(folder, "a.npz", npz(x=x, y=["a", "b"]))
    back = np.array([[float(cell) for cell in row.split(",")[1:]] for row in rows[1:]])
    assert (back.astype(np.float32) == x.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", npy(X), "values without labels; numpy.savez('NAME.npz', x=x, y=y) stores both; "
         "--label none converts without labels"),
        ("a.npz", npz(X_train=X, y_train=[1, 2]), "the arrays X_train, y_train; name one of them "
         "x: numpy.savez('NAME.npz', x=x, y=y)"),
        ("a.npz", npz(x=X, X=X, y=[1, 2]), "the arrays x, X, y; name one of them x: "
         "numpy.savez('NAME.npz', x=x, y=y)"),
        ("a.npz", npz(x=X, z=X), "the arrays x, z; name one of them y: numpy.savez('NAME.npz', "
         "x=x, y=y)"),
        ("a.npz", npz(x=X, y=np.array(["a", None])), "an array of Python objects; store text "
         "with y.astype(str)"),
        ("a.npz", npz(x=X[0], y=[1, 2]), "values of shape (2,) and type float64; store numbers "
         "of shape (rows, timepoints) or (rows, channels, timepoints)"),
        ("a.npz", npz(x=np.ones((2, 0, 3)), y=[1, 2]), "values of shape (2, 0, 3) and type "
         "float64; store numbers of shape (rows, timepoints) or (rows, channels, timepoints)"),
        ("a.npz", npz(x=X * 1j, y=[1, 2]), "values of shape (2, 2) and type complex128; store "
         "numbers of shape (rows, timepoints) or (rows, channels, timepoints)"),
        ("a.npz", npz(x=X, y=[1, 2, 3]), "labels of shape (3,) and type int64 beside 2 rows; "
         "store one number or text for each row"),
        ("a.npz", npz(x=X, y=np.eye(2)), "labels of shape (2, 2) and type float64 beside 2 rows; "
         "store one number or text for each row"),
        ("a.npz", npz(x=np.ones((2, 60, 1)), y=[1, 2]), "values of shape (2, 60, 1), 60 channels "
         "of 1 timepoint; the axes must be (rows, channels, timepoints): store x.transpose(0, "
         "2, 1)"),
        ("a.npz", npz(x=np.ones((0, 3)), y=np.ones(0)), "no series; give a file that has some"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_converted_are_refused(tmp_path, name, content, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, name, content)
    assert str(refusal.value) == f"{tmp_path / name}: found {message}"
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize(
    "content",
    [b"nonsense", npz(x=X, y=[1, 2])[:-30], npy(X)[:-3], npy(X)[:20]],
)
def test_broken_files_are_refused_in_one_line(tmp_path, name, content):
    with pytest.raises(DataError):
        converted(tmp_path, name, content, label="none")


@settings(max_examples=100, database=None)
@given(
    content=st.sampled_from([npz(x=X, y=["a", "b"]), npy(X)]),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
    byte=st.integers(0, 255),
)
def test_damaged_files_are_refused_in_a_line_or_converted(tmp_path_factory, content, places, byte):
    damaged = bytearray(content)
    for place in places:
        damaged[int(place * len(damaged))] = byte
    folder = tmp_path_factory.mktemp("damaged")
    try:
        converted(folder, "a.npz", bytes(damaged), label="none")
    except DataError:
        assert not (folder / "output").exists()


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e39])
def test_numbers_that_training_refuses_are_refused_by_row(tmp_path, value):
    with pytest.raises(DataError, match=r"row 2, column x_1: found '(inf|nan|1e\+39)'"):
        converted(tmp_path, "a.npz", npz(x=np.array([[1.0, 2], [value, 3]]), y=[1, 2]))


def test_a_missing_label_is_refused(tmp_path):
    with pytest.raises(DataError, match="row 2: found 'nan', which stands for a missing class"):
        converted(tmp_path, "a.npz", npz(x=X, y=[1.0, np.nan]))


def test_compressed_arrays_and_files_that_are_not_arrays(tmp_path):
    with pytest.raises(DataError) as refused:
        converted(tmp_path, "b.npy", b"no array", label="none")
    assert "found a file that NumPy cannot read (it does not start like an array)" in str(
        refused.value
    )
    stored = io.BytesIO()
    np.save(stored, np.array([[1.5, 2]]))
    rows = lines_of(tmp_path, "a.npy.gz", gzip.compress(stored.getvalue()), label="none")
    assert rows == ["x_1,x_2", "1.5,2.0"]
