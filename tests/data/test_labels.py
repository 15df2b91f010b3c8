"""Labels in all the forms in which sources hold them."""

import numpy as np
import pytest
import torch

from limbeck.data.labels import encode_labels
from limbeck.errors import DataError
from limbeck.types import IGNORE


def encode(raw, kind="class", names=()):
    return encode_labels(raw, kind, names=names, where="here")


@pytest.mark.parametrize(
    ("raw", "values", "names"),
    [
        (["dog", "cat", "dog", "cat"], [1, 0, 1, 0], ("cat", "dog")),
        (["10", "9", "10", "9"], [1, 0, 1, 0], ("9", "10")),
        (np.array([5, 7, 5, 7]), [0, 1, 0, 1], ("5", "7")),
        (np.array([-1, 1, 1, -1]), [0, 1, 1, 0], ("-1", "1")),
        (np.array([0.0, 2.0, np.nan, 0.0, 2.0]), [0, 1, IGNORE, 0, 1], ("0", "2")),
        (np.array([IGNORE, 0, 1, 0, 1]), [IGNORE, 0, 1, 0, 1], ("0", "1")),
        ([True, False, True, False], [1, 0, 1, 0], ("0", "1")),
        (np.array([[1], [2], [1], [2]]), [0, 1, 0, 1], ("1", "2")),
        (["a", None, "", "b", " a "], [0, IGNORE, IGNORE, 1, 0], ("a", "b")),
        (np.array([b"x", b"y", b"x", b"y"]), [0, 1, 0, 1], ("x", "y")),
        (np.array(["x", "y", "x", "y"]), [0, 1, 0, 1], ("x", "y")),
        ([1, "a", 1, "a"], [0, 1, 0, 1], ("1", "a")),
    ],
    ids=str,
)
def test_classes(raw, values, names):
    labels = encode(raw)
    assert labels.values.tolist() == values
    assert labels.values.dtype == torch.int64
    assert labels.names == names


def test_known_names_keep_absent_classes():
    labels = encode(np.array([0, 2, 0, 2]), names=("a", "b", "c"))
    assert labels.values.tolist() == [0, 2, 0, 2]
    assert labels.names == ("a", "b", "c")
    with pytest.raises(DataError, match="between 0 and 1, found 0 to 2"):
        encode(np.array([0, 2]), names=("a", "b"))


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (np.array([0.5, 1.0]), "class", "0.5 is no class label"),
        (np.arange(100), "class", "hardly classes"),
        ([str(i) + "x" for i in range(100)], "class", "hardly classes"),
        (["a", "a"], "class", "at least two classes"),
        ([None, ""], "class", "no row has a label"),
        (np.zeros((3, 2)), "class", "one label an example"),
        (["a", "b"], "real", "row 0 is 'a', which is not a number"),
        ([None, None], "real", "no row has all its targets"),
        (np.array([[0.0, 2.0]]), "multilabel", "hold 0 or 1, found 2"),
        (["", None], "multilabel", "no row has a label"),
        (np.zeros((3, 2, 2)), "real", "one row of numbers"),
    ],
    ids=str,
)
def test_errors(raw, kind, text):
    with pytest.raises(DataError, match=text):
        encode(raw, kind)


def test_real_targets():
    labels = encode(["1.5", "", None, "2"], "real", ("price",))
    assert labels.values[[0, 3], 0].tolist() == [1.5, 2.0]
    assert labels.values[[1, 2]].isnan().all()
    assert labels.names == ("price",)
    assert encode(np.zeros((4, 2)), "real").names == ("target 0", "target 1")


def test_multilabel_columns_and_tags():
    labels = encode([("1", "0"), ("", "1"), (0, 1)], "multilabel", ("x", "y"))
    assert labels.values[[0, 2]].tolist() == [[1, 0], [0, 1]]
    assert labels.values[1].isnan().tolist() == [True, False]
    tags = encode(["b|a", "", "c", None, "a|c "], "multilabel")
    assert tags.names == ("a", "b", "c")
    assert tags.values[[0, 2, 4]].tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 1]]
    assert tags.values[[1, 3]].isnan().all()
