import pytest

from lstmfcn.errors import DataError
from tests.helpers.conversions import converted, lines_of

HEADER = "% a comment\n@relation Toy\n\n@attribute t0 numeric\n@Attribute 't 1' real\n"
CLASS = "@attribute target {up,'far down'}\n"
RELATIONAL = """\
@relation Toy
@attribute relationalAtt relational
  @attribute t0 numeric
  @attribute t1 numeric
@end relationalAtt
@attribute activity {Standing,"Not standing"}
@data
"1.5,-2\\n3e-5,4",Standing
'5, 6\\n7,8', "Not standing"
"""


def test_attributes_are_timepoints_and_the_nominal_one_is_the_class(tmp_path):
    text = f"{HEADER}{CLASS}@DATA\n% between\n1.50,-2,up\n\n 3e-5 , 4 , 'far down'\n"
    assert lines_of(tmp_path, "a.arff", text) == ["y,x_1,x_2", "up,1.50,-2", "far down,3e-5,4"]


@pytest.mark.parametrize("label", [None, "first"])
def test_the_class_may_be_first(tmp_path, label):
    text = f"@relation a\n{CLASS}@attribute t0 integer\n@data\nup,1\nfar down,2\n"
    assert lines_of(tmp_path, "a.arff", text, label=label)[1:] == ["up,1", "far down,2"]


def test_a_relational_attribute_has_one_line_for_each_channel(tmp_path):
    assert lines_of(tmp_path, "a.arff", RELATIONAL) == [
        "y,x1_1,x1_2,x2_1,x2_2",
        "Standing,1.5,-2,3e-5,4",
        "Not standing,5,6,7,8",
    ]


def test_gaps_become_empty_cells_where_asked_for(tmp_path):
    text = f"{HEADER}{CLASS}@data\n1,?,up\n?,2,up\n"
    assert lines_of(tmp_path, "a.arff", text, missing="mask")[1:] == ["up,1,", "up,,2"]


@pytest.mark.parametrize("label", ["last", "none"])
def test_labels_of_any_type_by_a_flag(tmp_path, label):
    text = f"{HEADER}@attribute target numeric\n@data\n1,2,0\n3,4,1\n"
    rows = lines_of(tmp_path, "a.arff", text, label=label)
    assert rows == (
        ["y,x_1,x_2", "0,1,2", "1,3,4"] if label == "last" else ["x_1,x_2,x_3", "1,2,0", "3,4,1"]
    )


def test_a_quote_within_quotes_is_one(tmp_path):
    text = "@attribute t real\n@attribute c {'it\\'s, well',b}\n@data\n1,'it\\'s, well'\n"
    assert lines_of(tmp_path, "a.arff", text)[1:] == ['"it\'s, well",1']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}{CLASS}@data\n1,2\n", ", row 1: found 2 cells; write 3 cells, one for each "
         "attribute"),
        (f"{HEADER}{CLASS}@data\n{{0 1, 2 up}}\n", ", row 1: found a sparse row; write 3 cells, "
         "one for each attribute"),
        (f"{HEADER}{CLASS}@data\n1,2,left\n", ", row 1: found the class 'left'; the header lists "
         "up, far down; correct one of the two"),
        (f"{HEADER}{CLASS}@data\n1,2,?\n", ", row 1: found '?', which stands for a missing class; "
         "write the class or remove the row; --label none converts without labels"),
        (f"{HEADER}{CLASS}@data\n1,?,up\n", ", row 1, column x_2: found '?'; values must be "
         "numbers; --missing mask turns gaps into empty cells"),
        (f"{HEADER}@data\n1,2\n", ": found 0 nominal attributes; one must be the class: choose "
         "it with --label first or last, or use --label none if there is no class"),
        (f"{CLASS}{HEADER}{CLASS}@data\n", ": found 2 nominal attributes (target, target); one "
         "must be the class: choose it with --label first or last, or use --label none if there "
          "is no class"),
        (f"{HEADER}@attribute note string\n{CLASS}@data\n", ": found the attribute note among "
         "the values, which is not numeric; remove it from the file"),
        (f"{HEADER}{CLASS}", ": found no line @data; give a file in Weka's .arff format"),
        ("1,2\n@data\n", ": found '1,2' before the line @data; use @relation and @attribute NAME "
         "TYPE there, and start comments with %"),
        (RELATIONAL.replace("7,8", "7"), ", row 2: found 1 value in dimension 2; the first series "
         "has 2; --missing mask fills shorter series with empty cells"),
        (f"{HEADER}{CLASS}@data\n", ": found no series; give a file that has some"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_converted_are_refused(tmp_path, text, message):
    with pytest.raises(DataError) as refusal:
        converted(tmp_path, "a.arff", text)
    assert str(refusal.value) == f"{tmp_path / 'a.arff'}{message}"
    assert not (tmp_path / "output").exists()
