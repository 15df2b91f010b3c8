"""Augmentation is a pure function of seed, epoch and index, whatever the batch."""

import numpy as np
import pytest
import torch

from limbeck.data.base import Examples
from limbeck.data.stores import TensorStore
from limbeck.data.transforms import TRANSFORMS
from limbeck.data.transforms._parse import check_transforms, parse_transform, parse_transforms
from limbeck.data.transforms.base import Draws
from limbeck.errors import DataError, UnknownName

ALL = [
    *TRANSFORMS.names(),
    {"tv:ColorJitter": {"brightness": 0.5, "hue": 0.2}},
    {"tv:RandomErasing": {"p": 1.0}},
    "tv:RandomHorizontalFlip",
]


def examples(transforms, shape=(3, 9, 11), count=37):
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    return Examples(TensorStore(pixels), torch.zeros(count, dtype=torch.int64), None, parse_transforms(transforms))


def images_at(view, order, size):
    out = {}
    for start in range(0, len(order), size):
        batch = view.__getitems__(order[start : start + size])
        out.update(zip(batch.index.tolist(), batch.inputs, strict=True))
    return out


@pytest.mark.parametrize("entry", ALL, ids=str)
@pytest.mark.parametrize("shape", [(3, 9, 11), (1, 8, 8), (3, 32, 32)])
def test_batch_composition_changes_no_bit(entry, shape):
    if shape[0] == 1 and str(entry).find("tv:ColorJitter") >= 0:
        pytest.skip("hue is for colour images")
    view = examples([entry], shape).augmented(7, 2)
    whole = images_at(view, list(range(37)), 37)
    for size, order in ((1, list(range(37))), (5, list(range(36, -1, -1))), (16, list(range(0, 37, 2)))):
        for index, image in images_at(view, order, size).items():
            assert torch.equal(image, whole[index]), (size, index)


def test_threads_change_no_bit():
    view = examples(list(ALL), (3, 64, 64)).augmented(0, 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = view.__getitems__(list(range(37))).inputs
        torch.set_num_threads(2)
        two = view.__getitems__(list(range(37))).inputs
        single = torch.cat([view[i].inputs for i in range(37)])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)
    assert torch.equal(one, single)


@pytest.mark.parametrize("entry", ALL, ids=str)
def test_something_happens_and_depends_on_seed_epoch_and_index(entry):
    data = examples([entry])
    plain = data.__getitems__(list(range(37))).inputs
    views = [data.augmented(seed, epoch).__getitems__(list(range(37))).inputs for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(not torch.equal(plain, view) for view in views)
    if not (isinstance(entry, str) and entry.startswith("tv:")):
        assert not torch.equal(views[0], views[1])
        assert not torch.equal(views[0], views[2])
    assert torch.equal(plain, data.__getitems__(list(range(37))).inputs)  # the stored images are unchanged


@pytest.mark.parametrize("entry", [e for e in ALL if e != "noise"], ids=str)
def test_values_stay_in_range(entry):
    inputs = examples([entry]).augmented(0, 0).__getitems__(list(range(37))).inputs
    assert inputs.dtype == torch.float32
    assert inputs.shape == (37, 3, 9, 11)
    assert inputs.min() >= 0
    assert inputs.max() <= 1 + 1e-6


def apply(entry, images, seed=0):
    return parse_transform(entry).apply(images, Draws(seed, 0, np.arange(len(images)), 0))


def test_flip_mirrors_about_half():
    images = torch.arange(12.0).reshape(1, 1, 3, 4).expand(400, 1, 3, 4)
    out = apply("flip", images)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert ((out == images).flatten(1).all(1) ^ mirrored).all()
    assert 0.4 < mirrored.float().mean() < 0.6
    assert torch.equal(apply({"vflip": 1.0}, images), images.flip(-2))


def test_crop_is_a_window_of_the_padded_image():
    images = torch.rand(50, 2, 5, 6)
    out = apply({"crop": {"padding": 2}}, images)
    padded = torch.nn.functional.pad(images, [2] * 4)
    offsets = set()
    for image, source in zip(out, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, source[:, y : y + 5, x : x + 6])]
        assert found
        offsets.add(found[0])
    assert len(offsets) > 10


def test_identity_limits():
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(apply({"noise": {"std": 0.0}}, images), images)
    for entry in ({"rotate": 0.0}, {"affine": {"degrees": 0, "translate": 0, "scale": 0}}, {"resized_crop": {"area": 1.0, "ratio": 1.0}}):
        torch.testing.assert_close(apply(entry, images), images)
    for entry in ({"color_jitter": {"brightness": 0, "contrast": 0, "saturation": 0}}, {"erase": {"probability": 0.0}}):
        assert torch.equal(apply(entry, images), images)


def test_rotation_by_a_right_angle_moves_pixels_exactly():
    from limbeck.data.transforms._warp import rotations, warp

    images = torch.rand(1, 1, 6, 6)
    cosine, sine = rotations(torch.tensor([90.0], dtype=torch.float64))
    zero = torch.zeros_like(cosine)
    maps = torch.stack([torch.stack([cosine, sine, zero], 1), torch.stack([-sine, cosine, zero], 1)], 1)
    torch.testing.assert_close(warp(images, maps), torch.rot90(images, -1, (2, 3)), atol=1e-5, rtol=0)


def test_erase_area():
    out = apply({"erase": {"size": 3}}, torch.ones(200, 1, 9, 9))
    erased = (out == 0).flatten(1).sum(1)
    assert erased.max() == 9
    assert erased.min() == 4  # a corner of the image in the square's middle


def test_noise_has_the_asked_deviation():
    out = apply({"noise": 0.3}, torch.zeros(200, 3, 16, 16))
    assert abs(out.std().item() - 0.3) < 0.01
    assert abs(out.mean().item()) < 0.01


def test_positions_are_independent():
    twice = examples(["flip", "flip"], (1, 4, 4), 64)
    out = twice.augmented(0, 0).__getitems__(list(range(64))).inputs
    assert not torch.equal(out, twice.__getitems__(list(range(64))).inputs)


def test_torchvision_leaves_the_global_state():
    view = examples([{"tv:RandomRotation": {"degrees": 30}}]).augmented(0, 0)
    state = torch.get_rng_state()
    view.__getitems__([0, 1, 2])
    assert torch.equal(state, torch.get_rng_state())


def test_torchvision_change_of_shape_is_an_error():
    with pytest.raises(DataError, match=r"tv:CenterCrop' changes the shape from \(3, 9, 11\) to \(3, 4, 4\)"):
        examples([{"tv:CenterCrop": {"size": 4}}]).augmented(0, 0).__getitems__([0])


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ("flp", UnknownName, "no transform is called 'flp'. Did you mean 'flip'"),
        (
            {"crop": {"pading": 2}},
            DataError,
            "transform 'crop': no argument is called 'pading'. Did you mean 'padding'? Accepted: padding, fill.",
        ),
        ({"crop": {"padding": "4"}}, DataError, "padding must be a whole number, got '4'"),
        ({"crop": {"padding": True}}, DataError, "padding must be a whole number, got True"),
        ({"crop": {"padding": 0}}, DataError, "padding must be > 0, got 0"),
        ({"crop": {"fill": "black"}}, DataError, "fill must be one of 'zero', 'reflect', 'edge'"),
        ({"flip": 1.5}, DataError, "probability must be <= 1, got 1.5"),
        ({"affine": {"scale": 1.0}}, DataError, "affine needs scale < 1"),
        ({"flip": {}, "crop": {}}, DataError, "each entry is a name or one"),
        (3, DataError, "each entry is a name or one"),
        ("tv:RandomFlip", UnknownName, "Did you mean"),
        ({"tv:ColorJitter": {"brightnes": 1}}, DataError, "Did you mean 'brightness'"),
        ({"tv:RandomErasing": {"p": 3}}, DataError, "tv:RandomErasing"),
    ],
    ids=str,
)
def test_errors_say_what_is_accepted(entry, error, text):
    with pytest.raises(error) as caught:
        parse_transform(entry)
    assert text in str(caught.value)


def test_check_reports_every_fault_with_its_position():
    faults = check_transforms(["flip", "flp", {"crop": {"pading": 1}}, "mine:Blur"], kind="tabular")
    assert [position for position, _ in faults] == [0, 1, 2]
    assert "is for image data" in faults[0][1]
    assert check_transforms(["noise"], kind="tabular") == []


@pytest.mark.parametrize("key", ["brightness", "contrast", "saturation"])
def test_color_jitter_equals_torchvision(key):
    """With the same factors; torchvision's luma weights are rounded differently in the fourth digit."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = torch.rand(20, 3, 12, 12)
    strengths = dict.fromkeys(("brightness", "contrast", "saturation"), 0) | {key: 0.5}
    out = apply({"color_jitter": strengths}, images)
    number = list(strengths).index(key)
    factors = Draws(0, 0, np.arange(20), 0).uniform(number, 0.5, 1.5).tolist()
    expected = [getattr(functional, f"adjust_{key}")(image, factor) for image, factor in zip(images, factors, strict=True)]
    torch.testing.assert_close(out, torch.stack(expected), atol=2e-3, rtol=0)
    assert min(factors) < 0.7 < 1.3 < max(factors)


def test_affine_shifts_each_way_on_its_own():
    images = torch.zeros(300, 1, 21, 21)
    images[:, :, 10, 10] = 1
    out = apply({"affine": {"degrees": 0, "translate": 0.3, "scale": 0}}, images)[:, 0]
    at = torch.arange(21.0)
    y, x = ((out.sum(3 - side) * at).sum(1) / out.sum((1, 2)) - 10 for side in (1, 2))
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.15
    for shift in (x, y):
        assert 5.5 < shift.abs().max() < 6.4
        assert abs(shift.mean()) < 0.6


def test_affine_scale_and_shear():
    """A bar through the centre: scaling changes its length, shearing tilts it."""
    images = torch.zeros(300, 1, 41, 41)
    images[:, :, 10:31, 19:22] = 1
    area = apply({"affine": {"degrees": 0, "translate": 0, "scale": 0.3}}, images).sum((1, 2, 3)) / 63
    assert 0.49 <= area.min() < 0.6
    assert 1.5 < area.max() <= 1.75
    out = apply({"affine": {"degrees": 0, "translate": 0, "scale": 0, "shear": 30}}, images)[:, 0]
    torch.testing.assert_close(out.sum((1, 2)), torch.full((300,), 63.0), atol=1.5, rtol=0)
    top = (out[:, 11] * torch.arange(41.0)).sum(1) / out[:, 11].sum(1) - 20
    assert 4.5 < top.abs().max() < 5.5  # nine rows above the centre, times tan 30 degrees
