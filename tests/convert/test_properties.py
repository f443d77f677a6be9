"""For any file, convert either refuses it in one line or writes data that training accepts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lstmfcn.check.findings import check
from lstmfcn.errors import LstmfcnError
from tests.helpers.conversions import converted

# What a number, a gap and a class may look like, and what only looks like one.
CELLS = st.sampled_from(
    ["1", "-2.5", "+7", ".5", "5.", "1E+05", "1e-60", " 3", "1_000", "\u0661\u0662", "1e39", "inf",
     "NaN", "nan", "NAN", "?", "", "NA", "null", "0x1", "1d5", "1 2", "1'000", "\u00a01", "true"]
)  # fmt: skip
LABELS = st.sampled_from(
    ["a", "b", "A", "1", "1.0", "1e0", "007", "-0", "0", "NA", "nan", "None", "?", "", " a ", "'a'",
     "a:b", "x y", "gr\u00f6\u00dfer", "gro\u0308\u00dfer", "\u00a0", "inf", "True", "#1", "=1+1"]
)  # fmt: skip
GOOD = st.sampled_from(["1", "-2.5", "1E+05", "0", "3.25"])


@settings(max_examples=100, database=None)
@given(
    rows=st.lists(st.tuples(LABELS, st.lists(GOOD | CELLS, min_size=1, max_size=3)), max_size=4),
    name=st.sampled_from(["a.tsv", "a.txt", "a.ts", "a.arff"]),
    missing=st.sampled_from(["refuse", "mask"]),
)
def test_check_finds_no_fault_in_what_is_written(tmp_path_factory, rows, name, missing):
    folder = tmp_path_factory.mktemp("property")
    rows = [("a", ["1"] * 2), ("b", ["2"] * 2), *rows]
    separator, end = {"a.tsv": ("\t", "\t"), "a.txt": (",", ","), "a.ts": (",", ":")}.get(
        name, (",", ",")
    )
    header = {"a.ts": "@data\n", "a.arff": "@attribute a real\n@attribute b real\n"
              "@attribute c string\n@data\n"}.get(name, "")  # fmt: skip
    lines = [
        f"{separator.join(values)}{end}{label}" if header else separator.join([label, *values])
        for label, values in rows
    ]
    label = "last" if name == "a.arff" else None
    try:
        converted(folder, name, header + "\n".join(lines) + "\n", missing=missing, label=label)
    except LstmfcnError:
        assert not (folder / "output").exists()
        return
    findings = check(str(folder / "output"), missing=missing)
    assert [str(fault) for fault in findings.faults] == []
    assert findings.training.n_rows == len([line for line in lines if line.strip()])


FILES = {
    "a.ts": "@classLabel true a b\n@data\n1,2:a\n(1,2),(2,3):b\n",
    "a.arff": "@attribute t real\n@attribute u real\n@attribute c {'a',b}\n@data\n1,2,'a'\n",
    "b.arff": "@attribute r relational\n@attribute t real\n@end r\n@attribute c {a,b}\n@data\n"
    "'1\\n2',a\n'3\\n4',b\n",
    "a.tsv": "a\t1\t2\nb\t3\t4\n",
    "a.txt": " 1  0.5  2\n 2  3  4\n",
    "a.csv": "id,time,value,label\n1,1,5,a\n1,2,6,a\n2,1,7,b\n2,2,8,b\n",
}


@settings(max_examples=100, database=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    cuts=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 6)), max_size=4),
    put=st.lists(
        st.sampled_from(
            ["\n", ",", ":", "(", ")", "'", '"', "{", "}", "@", "@end\n", "\\", "\t", ";", "?", "#"]
        )
        | st.text(max_size=3),
        min_size=4,
        max_size=4,
    ),
    label=st.sampled_from([None, "first", "last", "none"]),
    missing=st.sampled_from(["refuse", "mask"]),
    header=st.booleans(),
)
def test_damaged_files_are_refused_in_a_line_or_converted(
    tmp_path_factory, name, cuts, put, label, missing, header
):
    content = FILES[name]
    for (place, length), text in zip(cuts, put, strict=False):
        content = content[:place] + text + content[place + length :]
    folder = tmp_path_factory.mktemp("damaged")
    content = content.encode("utf-8", "surrogatepass")
    try:
        converted(folder, name, content, label=label, missing=missing, header=header)
    except LstmfcnError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most files convert
        assert not (folder / "output").exists()
        return
    if label != "none":
        faults = check(str(folder / "output"), missing=missing).faults
        assert [str(fault) for fault in faults if "only the class" not in fault.found] == []
