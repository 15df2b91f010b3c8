"""Corrupted test inputs: what each kind does, that seeds decide and batches do not, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.text_models import save_text_model, sentences

from limbeck.data.base import DataRequest, Examples
from limbeck.data.corruptions import LEVELS, Corruption, corrupted, kinds_of
from limbeck.data.load import load_data
from limbeck.data.stores import TensorStore, TokenStore
from limbeck.data.transforms.base import Draws
from limbeck.data.typos import misspelt, with_typos, without_words
from limbeck.data.views import ViewRequest
from limbeck.errors import DataError, UnknownName


def _apply(name, strength, inputs, **fields):
    return Corruption(name=name, strength=strength, **fields).apply(inputs.clone(), Draws(0, 0, np.arange(len(inputs)), 0))


def _digits(**options):
    return load_data(DataRequest("sklearn:digits", **options), kind="image", labels="class")


def _images(count=6, side=8):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LEVELS["image"])
def test_every_kind_is_worse_the_more_severe_it_is(name):
    splits = _digits()
    clean = splits.test.__getitems__(range(64)).inputs
    changed = []
    for severity in (1, 3, 5):
        found = corrupted(splits.test, splits.info, name, severity, seed=4).__getitems__(range(64))
        assert found.inputs.shape == clean.shape
        assert found.inputs.min() >= 0
        assert found.inputs.max() <= 1
        assert found.labels is not None
        assert torch.equal(found.labels, splits.test.labels[:64])
        changed.append((found.inputs - clean).abs().mean().item())
    assert 0.004 < changed[0] < changed[1] < changed[2]


@pytest.mark.parametrize("name", LEVELS["image"])
def test_neither_order_nor_batch_changes_an_example(name):
    splits = _digits()
    examples = corrupted(splits.test, splits.info, name, 3, seed=4)
    batch = examples.__getitems__([7, 2, 30]).inputs
    assert torch.equal(examples.__getitems__([2]).inputs[0], batch[1])
    again = corrupted(splits.test, splits.info, name, 3, seed=4).__getitems__([7, 2, 30]).inputs
    assert torch.equal(batch, again)
    other = corrupted(splits.test, splits.info, name, 3, seed=5).__getitems__([7, 2, 30]).inputs
    assert torch.equal(batch, other) == (name in ("blur", "pixelate", "contrast", "brightness"))


def test_values_by_hand():
    images = _images()
    assert torch.allclose(_apply("brightness", 0.2, images), (images + 0.2).clamp(max=1))
    mean = images.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(_apply("contrast", 0.5, images), mean + 0.5 * (images - mean), atol=1e-6)
    flat = torch.full((2, 1, 8, 8), 0.3)
    assert torch.allclose(_apply("blur", 0.05, flat), flat, atol=1e-6)
    assert torch.allclose(_apply("pixelate", 0.5, images)[:, :, ::2, ::2], torch.nn.functional.avg_pool2d(images, 2), atol=1e-6)
    hidden = _apply("occlusion", 0.25, torch.zeros(5, 1, 8, 8))
    assert (hidden == 0.5).sum((1, 2, 3)).tolist() == [16] * 5
    salted = _apply("impulse", 0.4, torch.full((40, 1, 8, 8), 0.5))
    assert (salted == 1).double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert (salted == 0).double().mean().item() == pytest.approx(0.2, abs=0.03)
    counted = _apply("shot", 20.0, torch.full((40, 1, 8, 8), 0.5))
    assert counted.mean().item() == pytest.approx(0.5, abs=0.01)
    assert counted.std().item() == pytest.approx((0.5 / 20) ** 0.5, rel=0.1)
    assert (_apply("noise", 0.1, torch.full((40, 1, 8, 8), 0.5)) - 0.5).std().item() == pytest.approx(0.1, rel=0.05)


def test_a_blur_is_gaussian():
    point = torch.zeros(1, 1, 33, 33)
    point[0, 0, 16, 16] = 1
    found = _apply("blur", 0.05, point)[0, 0]
    sigma, offset = 0.4 + 0.05 * 33, torch.arange(-16, 17).float()
    weight = torch.exp(-(offset**2) / (2 * sigma**2)) * (offset.abs() <= round(3 * sigma))
    weight = weight / weight.sum()
    assert torch.allclose(found, weight[:, None] * weight[None], atol=1e-6)


def test_images_keep_their_own_range():
    splits = _digits()
    values = splits.test.__getitems__(range(50)).inputs * 4 - 2
    examples = Examples(TensorStore(values), splits.test.labels[:50])
    found = corrupted(examples, splits.info, "brightness", 5, seed=0).__getitems__(range(50)).inputs
    assert torch.allclose(found, (values + 0.5 * 4).clamp(max=2), atol=1e-5)


def test_tables_in_the_scale_of_their_columns():
    rows = torch.zeros(4000, 2)
    noisy = _apply("noise", 0.5, rows, std=(1.0, 10.0))
    assert noisy.std(0).tolist() == pytest.approx([0.5, 5.0], rel=0.05)
    missing = _apply("missing", 0.3, rows, mean=(7.0, -7.0))
    assert (missing == torch.tensor([7.0, -7.0])).double().mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.03)
    splits = load_data(DataRequest("sklearn:wine"), kind="tabular", labels="class")
    found = corrupted(splits.test, splits.info, "missing", 5, seed=0).__getitems__(range(20)).inputs
    clean = splits.test.__getitems__(range(20)).inputs
    replaced = found != clean
    assert torch.equal(found[replaced], torch.tensor(splits.info.mean).expand_as(found)[replaced])
    assert 0.35 < replaced.double().mean() < 0.65


def test_views_are_corrupted_too():
    splits = _digits(views={"big": ViewRequest(size=16)})
    batch = corrupted(splits.test, splits.info, "brightness", 5, seed=0).__getitems__([0])
    clean = splits.test.__getitems__([0])
    assert torch.allclose(batch.views["big"], (clean.views["big"] + 0.5).clamp(max=1))
    wrong = replace(splits.info, views={"big": replace(splits.info, kind="tabular")})
    with pytest.raises(DataError, match="the view 'big' shows tabular data, noise is for image data"):
        corrupted(splits.test, wrong, "noise", 1, seed=0)


def test_a_shift_of_the_test_data_comes_first():
    shifted = _digits(test_transforms=[{"noise": {"std": 0.1}}])
    before = shifted.test.__getitems__([3]).inputs
    found = corrupted(shifted.test, shifted.info, "brightness", 2, seed=9).__getitems__([3]).inputs
    assert torch.allclose(found, (before + 0.16).clamp(0, 1), atol=1e-6)


def test_names():
    assert kinds_of(["all"], "tabular") == ["noise", "missing"]
    assert kinds_of(["blur", "noise", "blur"], "image") == ["blur", "noise"]
    with pytest.raises(UnknownName, match=re.escape("corruption of image data is called 'blurr'. Did you mean 'blur'")):
        kinds_of(["blurr"], "image")


def test_typos():
    text = "the quick brown fox jumps over the lazy dog " * 20
    assert with_typos(text, 0.0, "a") == text
    assert with_typos(text, 0.2, "a") == with_typos(text, 0.2, "a") != with_typos(text, 0.2, "b")
    changed = with_typos(text, 0.2, "a")
    assert 0.8 < len(changed) / len(text) < 1.2
    assert with_typos("12 34 !", 1.0, "a") == "12 34 !"
    # Every letter is mistyped: some are swapped, lost, doubled or replaced.
    outcomes = {with_typos("ab", 1.0, str(seed)) for seed in range(200)}
    assert {"ba", "", "aabb"} <= outcomes
    assert any(len(found) == 2 and found not in ("ab", "ba") for found in outcomes)


def test_words_are_lost_but_never_all():
    text = " ".join(map(str, range(1000)))
    assert len(without_words(text, 0.3, "x").split()) == pytest.approx(700, abs=60)
    assert without_words("one two", 1.0, "x") == "one"
    assert without_words(text, 0.0, "x") == text


def test_texts_are_read_again_by_the_tokenizer(tmp_path):
    pytest.importorskip("transformers")
    folder = save_text_model(tmp_path / "model", hidden=8, layers=1)
    lines = "\n".join(f'{{"text": "{line}", "label": {label}}}' for line, label in sentences(60))
    (tmp_path / "lines.jsonl").write_text(lines)
    request = DataRequest(f"jsonl:{tmp_path / 'lines.jsonl'}", tokenizer=str(folder), max_length=16)
    splits = load_data(request, kind="text", labels="class")
    some = list(range(len(splits.test)))
    clean = splits.test.__getitems__(some).inputs["input_ids"]
    store = splits.test.store
    assert isinstance(store, TokenStore)
    same = misspelt(store, splits.test.rows, lambda text, share, seed: text, 0.0, seed=0, tokenizer=str(folder))
    assert torch.equal(same.gather(torch.tensor(some))["input_ids"], clean)
    batch = corrupted(splits.test, splits.info, "typos", 5, seed=0, tokenizer=str(folder)).__getitems__(some)
    assert batch.labels is not None
    assert torch.equal(batch.labels, splits.test.labels)
    unknown = (batch.inputs["input_ids"] == 1).double().mean()
    assert unknown > 0.1 + (clean == 1).double().mean()
    shorter = corrupted(splits.test, splits.info, "dropped_words", 5, seed=0, tokenizer=str(folder)).__getitems__(some)
    assert shorter.inputs["attention_mask"].sum() < splits.test.__getitems__(some).inputs["attention_mask"].sum()
    emptied = misspelt(store, splits.test.rows, lambda text, share, seed: "", 0.0, seed=0, tokenizer=str(folder))
    assert torch.equal(emptied.gather(torch.tensor(some))["input_ids"], clean)


def test_pairs_of_texts_stay_pairs(tmp_path):
    pytest.importorskip("transformers")
    folder = save_text_model(tmp_path / "model", hidden=8, layers=1)
    from limbeck.data.text import tokenise

    store = tokenise([("the film was good", "a film"), ("bad", "very bad")], str(folder), 16)
    found = misspelt(store, torch.tensor([1, 0]), lambda text, share, seed: text, 0.0, seed=0, tokenizer=str(folder))
    both = torch.tensor([1, 0])
    assert {key: value.tolist() for key, value in found.gather(torch.tensor([0, 1])).items()} == {
        key: value.tolist() for key, value in store.gather(both).items()
    }
