"""From a request to splits, over sources that need no files."""

from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.load import data_info, load_data
from limbeck.errors import CodeNotAllowed, DataError, LimbeckError, UnknownName
from limbeck.types import IGNORE


def load(source, labels: Any = "class", kind=None, allow_code=False, **options):
    return load_data(DataRequest(source, **options), kind=kind, labels=labels, allow_code=allow_code)


def held_out(splits):
    assert splits.valid is not None
    return splits.valid


def test_digits():
    from sklearn.datasets import load_digits

    splits = load("sklearn:digits")
    assert splits.info.kind == "image"
    assert splits.info.input_shape == (1, 8, 8)
    assert splits.info.num_outputs == 10
    assert splits.info.class_names == tuple("0123456789")
    assert [len(part) for part in (splits.train, held_out(splits), splits.test)] == [1168, 270, 359]
    digits: Any = load_digits()
    batch: Any = splits.test.__getitems__([5, 0])
    rows = splits.test.rows[[5, 0]]
    np.testing.assert_allclose(batch.inputs[:, 0], digits.images[rows] / 16)
    assert batch.labels.tolist() == digits.target[rows].tolist()
    assert batch.index.tolist() == [5, 0]
    info: Any = splits.info
    every = splits.train.__getitems__(range(len(splits.train))).inputs.double()
    np.testing.assert_allclose(info.mean, [every.mean()])
    np.testing.assert_allclose(info.std, [every.std(unbiased=False)])


def test_size_scales_images():
    splits = load("sklearn:digits", size=16)
    assert splits.info.input_shape == (1, 16, 16)
    assert splits.train[0].inputs.shape == (1, 1, 16, 16)
    assert 0 <= splits.train[0].inputs.min() <= splits.train[0].inputs.max() <= 1


def test_digits_as_a_table():
    info: Any = load("sklearn:digits", kind="tabular").info
    assert (info.kind, info.input_shape, len(info.mean)) == ("tabular", (64,), 64)
    assert min(info.std) > 0  # some corner pixels never change


@pytest.mark.parametrize(("name", "columns", "classes"), [("iris", 4, 3), ("wine", 13, 3), ("breast_cancer", 30, 2)])
def test_tables(name, columns, classes):
    info = load(f"sklearn:{name}").info
    assert (info.kind, info.input_shape, info.num_outputs) == ("tabular", (columns,), classes)


def test_regression_keeps_units():
    splits = load("sklearn:diabetes", labels="real")
    assert splits.train.labels.shape == (len(splits.train), 1)
    assert splits.train.labels.dtype == torch.float32
    assert 140 < splits.train.labels.mean() < 165


def test_standardised_targets_use_the_labelled_training_rows():
    splits = load("sklearn:diabetes", labels="real", args={"standardise_target": True}, label_fraction=0.5)
    known = splits.train.labels[splits.train.labels.isfinite()]
    assert len(known) == len(splits.train) // 2
    torch.testing.assert_close(known.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(unbiased=False), torch.tensor(1.0))
    assert "targets are standardised" in splits.notes[0]
    with pytest.raises(LimbeckError, match="standardise_target is for regression"):
        load("sklearn:iris", args={"standardise_target": True})


def test_label_fraction_hides_labels_of_training_only():
    full, part = load("sklearn:digits"), load("sklearn:digits", label_fraction=0.05)
    assert len(part.train) == len(full.train)
    shown = part.train.labels != IGNORE
    assert shown.sum() == 58
    assert set(part.train.labels[shown].tolist()) == set(range(10))
    assert torch.equal(part.train.labels[shown], full.train.labels[shown])
    assert torch.equal(part.test.labels, full.test.labels)
    assert torch.equal(held_out(part).labels, held_out(full).labels)
    only = load("sklearn:digits", label_fraction=0.05, unlabelled=False)
    assert len(only.train) == 58
    assert torch.equal(only.train.rows, part.train.rows[shown])


def test_label_fraction_of_nothing():
    assert (load("sklearn:digits", label_fraction=0.0).train.labels == IGNORE).all()
    with pytest.raises(DataError, match="no training example is left"):
        load("sklearn:digits", label_fraction=0.0, unlabelled=False)


def test_limit_and_no_validation():
    splits = load("sklearn:digits", limit=100, valid=0.0)
    assert len(splits.train) == 100
    assert splits.valid is None


def test_the_training_seed_has_no_say():
    one, two = load("sklearn:digits"), load("sklearn:digits")
    assert torch.equal(one.train.rows, two.train.rows)


@pytest.mark.parametrize("kind", [None, "tabular"])
def test_info_without_reading_is_the_same(kind):
    request = DataRequest("sklearn:digits", size=12 if kind is None else None)
    full = load_data(request, kind=kind, labels="class").info
    cheap = data_info(request, kind=kind, labels="class")
    assert (cheap.kind, cheap.input_shape, cheap.num_outputs, cheap.class_names) == (
        full.kind,
        full.input_shape,
        full.num_outputs,
        full.class_names,
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"source": "sklearn:digts"}, UnknownName, "no data set of sklearn is called 'digts'. Did you mean 'digits'"),
        ({"source": "skleran:digits"}, UnknownName, "no data source is called 'skleran'. Did you mean 'sklearn'?"),
        ({"source": "data.csv"}, UnknownName, "such as csv:data.csv"),
        ({"source": "sklearn:digits", "args": {"x": 1}}, DataError, "no argument is called 'x'"),
        ({"source": "sklearn:digits", "labels": "real"}, DataError, "use task: classification"),
        ({"source": "sklearn:diabetes"}, DataError, "use task: regression"),
        ({"source": "sklearn:iris", "kind": "image"}, DataError, "gives tabular data, the task needs image data"),
        ({"source": "sklearn:iris", "transforms": ["flip"]}, DataError, "'flip' is for image data"),
        ({"source": "sklearn:iris", "valid": 0.6, "test": 0.6}, DataError, "leave nothing to train on"),
        ({"source": "limbeck.types:Batch"}, CodeNotAllowed, "--allow-code"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors(options, error, text):
    with pytest.raises(error) as caught:
        load(**options)
    assert text in str(caught.value)


class TestOwnCode:
    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        (tmp_path / "own_data.py").write_text(
            "import numpy as np\n"
            "def pair(n=40):\n    return np.random.RandomState(0).rand(n, 3), np.arange(n) % 2\n"
            "def parts():\n    x, y = pair()\n    return {'test': (x[:10], y[:10]), 'train': (x[10:], y[10:])}\n"
            "def images():\n    return np.zeros((40, 3, 8, 8), dtype=np.uint8), [str(i % 4) for i in range(40)]\n"
            "def wrong():\n    return 3\n"
            "def broken():\n    raise KeyError('x')\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        return "own_data"

    def test_pairs_parts_and_images(self, module):
        splits = load(f"{module}:pair", allow_code=True, args={"n": 60})
        assert len(splits.train) + len(held_out(splits)) + len(splits.test) == 60
        splits = load(f"{module}:parts", allow_code=True)
        assert len(splits.test) == 10
        assert load(f"{module}:images", allow_code=True).info.input_shape == (3, 8, 8)

    def test_needs_permission(self, module):
        with pytest.raises(CodeNotAllowed):
            load(f"{module}:pair")

    @pytest.mark.parametrize(("name", "text"), [("wrong", "must return"), ("broken", "failed: KeyError"), ("pairs", "Did you mean 'pair'")])
    def test_faults_are_named(self, module, name, text):
        with pytest.raises(LimbeckError, match=text):
            load(f"{module}:{name}", allow_code=True)
