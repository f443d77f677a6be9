import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.data.writer import write_shards
from lstmfcn.errors import OutputError

# A class is any text of one line that UTF-8 can hold.
CLASS_NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8
)


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_shards_hold_a_header_and_the_rows_in_order(tmp_path):
    write_shards(tmp_path / "new", ["a", "b", "c"], [[1, 2.5], [3, 4], ["5.00", "6"]], 2)
    contents = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert contents == {
        "part-000.csv": b"y,x_1,x_2\na,1,2.5\nb,3,4\n",
        "part-001.csv": b"y,x_1,x_2\nc,5.00,6\n",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_class_names_are_quoted_where_they_need_it(tmp_path):
    write_shards(tmp_path / "new", ["a,b", 'say "c"'], [[1], [2]], 1)
    assert (tmp_path / "new" / "part-000.csv").read_text() == ('y,x_1\n"a,b",1\n"say ""c""",2\n')


@settings(max_examples=40, database=None)
@given(data=st.data(), classes=st.lists(CLASS_NAMES, min_size=1, max_size=12))
def test_no_row_is_lost_or_moved_by_the_number_of_shards(data, classes, tmp_path_factory):
    n_shards = data.draw(st.integers(1, len(classes)))
    series = [[i, -i] for i in range(len(classes))]
    folder = tmp_path_factory.mktemp("shards") / "new"
    write_shards(folder, classes, series, n_shards)
    parts = [read_rows(path) for path in sorted(folder.iterdir())]
    assert len(parts) == n_shards
    assert all(header == ["y", "x_1", "x_2"] for header, *_ in parts)
    sizes = [len(rows) for _, *rows in parts]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert [row for _, *rows in parts for row in rows] == [
        [name, str(i), str(-i)] for i, name in enumerate(classes)
    ]


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as refusal:
        write_shards(tmp_path, ["a"], [[1]], 1)
    assert str(refusal.value) == (
        f"{tmp_path}: is not empty; add --overwrite, or choose another --output"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_appears_when_a_row_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_shards(tmp_path / "new", ["a", "b"], [[1], None], 2)
    assert list(tmp_path.iterdir()) == []
