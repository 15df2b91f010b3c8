"""CSV, JSON lines and Parquet: columns, targets, missing values, faults."""

import json

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.load import data_info, load_data
from limbeck.errors import DataError
from limbeck.types import IGNORE


def load(source, labels="class", kind=None, **options):
    return load_data(DataRequest(str(source), **options), kind=kind, labels=labels)


def rows(count=60):
    return [f"{i},{i * 0.5},{'red' if i % 3 else 'blue'},{'yes' if i % 2 else 'no'}" for i in range(count)]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["id,size,colour,label", *rows()]) + "\n")
    return path


def test_numbers_and_categories(table):
    splits = load(f"csv:{table}", args={"drop": "id"})
    assert splits.info.input_shape == (3,)
    assert splits.info.class_names == ("no", "yes")
    assert splits.info.mean[1:] == (0.0, 0.0)
    assert splits.info.std[1:] == (1.0, 1.0)
    inputs, original = splits.train.__getitems__(range(len(splits.train))).inputs, splits.train.rows
    assert torch.equal(inputs[:, 0], original * 0.5)
    assert torch.equal(inputs[:, 1], (original % 3 == 0).float())
    assert torch.equal(inputs[:, 2], (original % 3 != 0).float())
    assert torch.equal(splits.train.labels, original % 2)


def test_chosen_and_ordinal_columns(table):
    splits = load(f"csv:{table}", args={"columns": ["colour", "size"], "encoding": "ordinal"})
    inputs, original = splits.train.__getitems__(range(len(splits.train))).inputs, splits.train.rows
    assert torch.equal(inputs[:, 0], (original % 3 != 0).float())
    assert torch.equal(inputs[:, 1], original * 0.5)


def test_quotes_bom_blank_lines_and_windows_ends(tmp_path):
    path = tmp_path / "odd.csv"
    lines = ['\ufeffx,"a, b",label', "", *[f'{i},"1,""{i % 2}""",c{i % 2}' for i in range(20)], ""]
    path.write_bytes("\r\n".join(lines).encode("utf-8"))
    info = load(f"csv:{path}").info
    assert info.input_shape == (3,)  # x and the two quoted texts
    assert info.class_names == ("c0", "c1")


def test_missing_values_are_filled_from_training_and_said(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join(["x,c,label", *[f"{'' if i % 5 == 0 else i},{'?' if i % 7 == 0 else 'k'},{i % 2}" for i in range(100)]]))
    splits = load(f"csv:{path}")
    assert splits.info.input_shape == (3,)  # x, where x was missing, c
    inputs = splits.test.__getitems__(range(len(splits.test))).inputs
    gaps = splits.test.rows % 5 == 0
    train = splits.train.rows[splits.train.rows % 5 != 0]
    assert torch.equal(inputs[gaps][:, 0], torch.full((int(gaps.sum()),), float(np.median(train))))
    assert torch.equal(inputs[:, 1], gaps.float())
    assert any("column 'x': 20 missing values became the training median" in note for note in splits.notes)
    assert any("column 'c': 15 missing values" in note for note in splits.notes)


def test_rows_without_target_are_unlabelled_training_examples(tmp_path):
    path = tmp_path / "part.csv"
    path.write_text("\n".join(["x,label", *[f"{i},{'' if i < 30 else i % 2}" for i in range(100)]]))
    splits = load(f"csv:{path}")
    assert (splits.test.labels != IGNORE).all()
    assert (splits.train.labels == IGNORE).sum() == 30
    assert any("30 training examples have no" in note for note in splits.notes)


def test_folder_with_parts_and_neighbouring_files(tmp_path):
    for name, count in (("train", 40), ("val", 10), ("test", 20)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,label", *[f"{i},{i % 2}" for i in range(count)]]))
    splits = load(f"csv:{tmp_path}")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [40, 10, 20]
    splits = load(f"csv:{tmp_path}/train.csv", args={"test": "test.csv"}, valid=0.25)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [30, 10, 20]


def test_without_header_and_other_separator(tmp_path):
    path = tmp_path / "plain.tsv"
    path.write_text("\n".join(f"{i}\t{i % 2}" for i in range(40)))
    assert load(f"csv:{path}", args={"header": False, "target": "1"}).info.input_shape == (1,)
    assert load(f"csv:{path}", args={"header": False, "names": ["a", "b"], "target": "b"}).info.input_shape == (1,)


def test_several_targets(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("\n".join(["x,a,b", *[f"{i},{i % 2},{'' if i == 3 else i % 3 % 2}" for i in range(60)]]))
    splits = load(f"csv:{path}", "multilabel", args={"target": ["a", "b"]})
    assert splits.info.class_names == ("a", "b")
    assert splits.train.labels.isnan().any(1).sum() == 1
    splits = load(f"csv:{path}", "real", args={"target": ["a", "b"]})
    assert splits.info.num_outputs == 2
    with pytest.raises(DataError, match="one target"):
        load(f"csv:{path}", args={"target": ["a", "b"]})


@pytest.mark.parametrize(
    ("content", "args", "text"),
    [
        ("x,label\n1,a\n2,b,3\n", {}, "table.csv:3: expected 2 cells, found 3"),
        ("x;label\n1;a\n", {}, "set args.separator: ';'"),
        ("x,x,label\n1,2,a\n", {}, "column 'x' occurs twice"),
        ("", {}, "is empty"),
        ("x,label\n", {}, "has no rows"),
        ("x,lable\n1,a\n2,b\n", {}, "no column is called 'label'. Did you mean 'lable'? Columns: x, lable."),
        ("x,label\n1,a\n2,b\n", {"drop": ["y"]}, "args.drop: no column is called 'y'"),
        ("x,label\n1,a\n2,b\n", {"columns": ["label"]}, "is the target and cannot be an input"),
        ("x,label\n1,a\n2,b\n", {"separater": ","}, "Did you mean 'separator'"),
        ("x,label\n1,a\n2,b\n", {"separator": ",,"}, "must be one character"),
        ("x,label\n" + "1,a\n2,b\n" * 20 + "oops,a\n", {}, "column 'x' holds numbers, but 'oops' in row 41"),
        ("label\n" + "a\nb\n" * 20, {}, "no input column is left"),
        ("x,label\n" + "".join(f"name{i},{i % 2}\n" for i in range(60)), {}, "that is an identifier or free text"),
        ("x,label\n" + ",a\n,b\n" * 20, {}, "column 'x' has no number in the training rows"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_faults_are_located(tmp_path, content, args, text):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load(f"csv:{path}", args=args)
    assert text in str(caught.value)


def test_missing_file_suggests(table):
    with pytest.raises(DataError, match=r"has no 'tabel.csv'. Did you mean 'table.csv'"):
        load(f"csv:{table.parent / 'tabel.csv'}")
    with pytest.raises(DataError, match=r"has no train.csv. It holds table.csv"):
        load(f"csv:{table.parent}")


def test_wrong_charset(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("x,label\n1,é\n2,b\n".encode("latin-1") * 1)
    with pytest.raises(DataError, match=r"Set args\.charset"):
        load(f"csv:{path}")


def test_jsonl_table_and_faults(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps({"x": i, "flag": i % 2 == 0, "label": f"c{i % 2}"}) for i in range(30)))
    assert load(f"jsonl:{path}").info.input_shape == (2,)
    path.write_text('{"x": 1}\n{"x": 2\n')
    with pytest.raises(DataError, match=r"t\.jsonl:2: not a JSON object"):
        load(f"jsonl:{path}")
    path.write_text('{"x": [1], "label": 1}\n{"x": [2], "label": 0}\n' * 20)
    with pytest.raises(DataError, match="column 'x' holds a list"):
        load(f"jsonl:{path}")


def test_parquet_equals_csv(table, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "id": list(range(60)),
        "size": [None if i == 5 else i * 0.5 for i in range(60)],
        "colour": pa.array(["red" if i % 3 else "blue" for i in range(60)]).dictionary_encode(),
        "label": ["yes" if i % 2 else "no" for i in range(60)],
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    text = table.read_text().replace("\n5,2.5,", "\n5,,")
    table.write_text(text)
    one, other = load(f"csv:{table}"), load(f"parquet:{tmp_path / 'table.parquet'}")
    assert one.info == other.info
    assert torch.equal(one.train.store.values, other.train.store.values)
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(f"parquet:{tmp_path / 'bad.parquet'}")


@pytest.mark.shared
def test_real_tables(shared):
    folder = shared / "molecules_chemprop"
    args = {"target": ["mu", "gap"], "drop": ["smiles"]}
    splits = load(f"csv:{folder}/qm9_multitask_regression.csv", "real", args=args)
    assert splits.info.input_shape == (10,)
    assert splits.info.class_names == ("mu", "gap")
    with pytest.raises(DataError, match="column 'smiles'"):
        load(f"csv:{folder}/lipo_regression.csv", "real", args={"target": "lipo"})
    args = {"target": "OT", "drop": "date"}
    splits = load(f"csv:{shared}/etth1/ETTh1.csv", "real", args=args, limit=500)
    assert len(splits.train) == 500
    assert data_info(DataRequest(f"csv:{shared}/etth1/ETTh1.csv", args=args), kind=None, labels="real").input_shape == (6,)
