"""Groups of examples, read beside the data."""

import csv

import numpy as np
import pytest

from limbeck.data.base import DataRequest
from limbeck.data.grouping import group_names
from limbeck.data.joint import DatasetRequest
from limbeck.data.sources._lengths import by_length
from limbeck.errors import DataError


@pytest.fixture
def people(tmp_path):
    with (tmp_path / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "sex", "region", "bought"])
        writer.writerows([[20 + i, "fm"[i % 2], "north", ("no", "yes")[i % 3 == 0]] for i in range(60)])
    return DataRequest(f"csv:{tmp_path / 'people.csv'}", args={"target": "bought", "drop": ["sex"]})


def test_a_column_names_the_groups(people):
    found = group_names(people, "sex", kind="tabular", labels="class")
    assert found.tolist() == ["f", "m"] * 30


def test_other_groups_that_a_source_knows():
    found = group_names(DataRequest("sklearn:digits"), "block", kind="image", labels="class")
    assert found[[0, 99, 100, 1796]].tolist() == ["0", "0", "1", "17"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sx", r"evaluate.groups: no column is called 'sx'. Did you mean 'sex'"),
        ("age", r"evaluate.groups: 'age' has 60 different values; groups are from 2 to 50"),
        ("region", r"evaluate.groups: 'region' has 1 different values"),
    ],
)
def test_what_is_no_group(people, name, message):
    with pytest.raises(DataError, match=message):
        group_names(people, name, kind="tabular", labels="class")


def test_a_source_without_groups():
    with pytest.raises(DataError, match=r"evaluate\.groups: sklearn:wine has no groups called 'sex'"):
        group_names(DataRequest("sklearn:wine"), "sex", kind="tabular", labels="class")


def test_several_data_sets():
    request = DataRequest("", datasets={"a": DatasetRequest("sklearn:wine", "class", {})})
    with pytest.raises(DataError, match="groups are for one data set"):
        group_names(request, "sex", kind="tabular", labels="joint")


def test_rows_are_those_of_the_splits(people):
    from limbeck.data.load import load_data

    splits = load_data(people, kind="tabular", labels="class")
    groups = group_names(people, "sex", kind="tabular", labels="class")
    ages = splits.test.__getitems__(range(len(splits.test))).inputs[:, 0].numpy()
    assert np.array_equal(groups[splits.test.rows.numpy()] == "m", ages % 2 == 1)


def test_texts_by_length():
    texts = ["a b c", "a", ("a b", "c d e"), "a b c d", " a  b ", "a b c d e f"]
    assert by_length(texts).tolist() == ["middle", "short", "long", "middle", "short", "long"]
    assert by_length(["a b", "c d", "e f"]).tolist() == ["short"] * 3
    assert by_length(["a", "a b", "a b c"]).tolist() == ["short", "middle", "long"]


def reviews(tmp_path, *columns):
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *columns])
        writer.writerows([["good " * (1 + i % 3), i % 2, *["xy"[i % 2] for _ in columns]] for i in range(12)])
    return DataRequest(f"csv:{tmp_path / 'reviews.csv'}")


def test_groups_of_texts(tmp_path):
    found = group_names(reviews(tmp_path), "length", kind="text", labels="class")
    assert found.tolist() == ["short", "middle", "long"] * 4
    found = group_names(reviews(tmp_path, "topic"), "topic", kind="text", labels="class")
    assert found.tolist() == ["x", "y"] * 6
    found = group_names(reviews(tmp_path, "length"), "length", kind="text", labels="class")
    assert found.tolist() == ["x", "y"] * 6
    with pytest.raises(DataError, match=r"evaluate.groups: no column is called 'topic'.* Columns: text, label"):
        group_names(reviews(tmp_path), "topic", kind="text", labels="class")


def test_tables_have_no_length(people):
    with pytest.raises(DataError, match=r"evaluate.groups: no column is called 'length'"):
        group_names(people, "length", kind="tabular", labels="class")
