"""Images from folders, IDX files, archives, torchvision and data sets on disk."""

import gzip
import struct
import warnings

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.load import data_info, load_data
from limbeck.data.loader import eval_loader
from limbeck.errors import DataError, UnknownName

Image = pytest.importorskip("PIL.Image")


def load(source, labels="class", kind=None, **options):
    return load_data(DataRequest(str(source), **options), kind=kind, labels=labels)


def paint(path, value, size=(10, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    for i in range(12):
        paint(root / "cat" / f"{i}.png", (255, 0, 0))
        paint(root / "dog" / f"{i}.png", (0, 0, 51))
    return root


def test_folder(pets):
    splits = load(f"folder:{pets}")
    assert splits.info.class_names == ("cat", "dog")
    assert splits.info.input_shape == (3, 8, 10)
    batch = splits.train.__getitems__([0, len(splits.train) - 1])
    assert batch.labels.tolist() == [0, 1]
    assert batch.inputs[0, :, 0, 0].tolist() == [1, 0, 0]
    assert batch.inputs[1, 2, 0, 0].item() == pytest.approx(0.2)
    cats = (splits.train.labels == 0).double().mean().item()
    np.testing.assert_allclose(splits.info.mean, (cats, 0, 0.2 * (1 - cats)), atol=1e-6)
    assert splits.info.std[1] == 1.0


def test_lazy_and_cached_folders_are_equal(pets):
    for options in ({}, {"size": 6}):
        cached, lazy = load(f"folder:{pets}", **options), load(f"folder:{pets}", args={"cache_mb": 0}, **options)
        assert type(cached.train.store) is not type(lazy.train.store)
        assert cached.info == lazy.info
        for one, other in zip(eval_loader(cached.test, batch_size=3), eval_loader(lazy.test, batch_size=3, workers=1), strict=True):
            assert torch.equal(one.inputs, other.inputs)


def test_modes_become_the_asked_channels(tmp_path):
    for name, mode, value in (
        ("a", "L", 100),
        ("b", "RGBA", (100, 100, 100, 0)),
        ("c", "1", 1),
        ("d", "P", 3),
        ("e", "CMYK", (0, 0, 0, 9)),
    ):
        for i in range(6):
            paint(tmp_path / name / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}", value, mode=mode)
    for i in range(6):
        (tmp_path / "f").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 10), 25700, dtype=np.uint16)).save(tmp_path / "f" / f"{i}.png")
    for channels in (1, 3):
        splits = load(f"folder:{tmp_path}", args={"channels": channels})
        assert splits.info.input_shape[0] == channels
        by_class = {int(b.labels[0]): b.inputs for b in (splits.train[i] for i in range(len(splits.train)))}
        for label in (0, 1, 5):
            torch.testing.assert_close(by_class[label], torch.full_like(by_class[label], 100 / 255))


def test_parts_of_its_own(tmp_path):
    for part, count in (("train", 8), ("val", 2), ("test", 4)):
        for name in "ab":
            for i in range(count):
                paint(tmp_path / part / name / f"{i}.png", (1, 2, 3))
    splits = load(f"folder:{tmp_path}")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [16, 4, 8]
    paint(tmp_path / "test" / "bb" / "0.png", (1, 2, 3))
    with pytest.raises(DataError, match=r"is a class that .*train lacks"):
        load(f"folder:{tmp_path}")


def test_a_class_called_test_is_a_class(tmp_path):
    for name in ("test", "other"):
        for i in range(10):
            paint(tmp_path / name / f"{i}.png", (1, 2, 3))
    assert load(f"folder:{tmp_path}").info.class_names == ("other", "test")


def test_different_sizes_need_a_size(pets):
    paint(pets / "dog" / "wide.png", (0, 0, 0), size=(20, 8))
    for call in (load, lambda source: data_info(DataRequest(source), kind=None, labels="class")):
        with pytest.raises(DataError, match=r"is 8 x 10, .*wide\.png is 8 x 20 .*Set data\.size"):
            call(f"folder:{pets}")
    assert load(f"folder:{pets}", size=5).info.input_shape == (3, 5, 5)


def test_damaged_images_are_named(pets):
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 255, (8, 10, 3), dtype=np.uint8))
    noise.save(pets / "dog" / "big.png")
    cut = (pets / "dog" / "big.png").read_bytes()
    (pets / "dog" / "big.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(DataError, match=r"big\.png: the image is damaged"):
        load(f"folder:{pets}")
    (pets / "dog" / "big.png").rename(pets / "later.png")
    lazy = load(f"folder:{pets}", args={"cache_mb": 0})
    (pets / "dog" / "0.png").write_bytes((pets / "later.png").read_bytes())
    with pytest.raises(DataError, match=r"dog/0\.png: the image is damaged"):  # met when a batch asks for it
        lazy.train.store.gather(torch.arange(len(lazy.train.store)))
    (pets / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dog/0\.png: not a readable image"):
        load(f"folder:{pets}")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda root: root.mkdir(), "has no subfolders"),
        (lambda root: (root / "a").mkdir(parents=True), "holds no images"),
        (lambda root: [paint(root / "a" / f"{i}.png", (0, 0, 0)) for i in range(5)], "at least two"),
        (lambda root: root.write_text(""), "is a file"),
    ],
)
def test_other_folders_are_explained(tmp_path, make, text):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=text):
        load(f"folder:{tmp_path / 'root'}")


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("RGB", (10, 8)).save(tmp_path / name / f"{i}.jpg", exif=exif)
    assert load(f"folder:{tmp_path}").info.input_shape == (3, 10, 8)


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">i", n) for n in array.shape)
    raw = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.fixture
def digits_idx(tmp_path):
    images, labels = np.arange(60 * 4 * 5).reshape(60, 4, 5) % 256, np.arange(60) % 3
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images[:40])
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels[:40])
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[40:])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", labels[40:])
    return tmp_path


def test_idx(digits_idx):
    splits = load(f"idx:{digits_idx}", args={"names": ["x", "y", "z"]})
    assert splits.info.input_shape == (1, 4, 5)
    assert splits.info.class_names == ("x", "y", "z")
    assert len(splits.test) == 20
    assert splits.test[0].inputs.flatten()[1].item() == pytest.approx(((40 * 20 + 1) % 256) / 255)


def test_broken_idx(digits_idx):
    path = digits_idx / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        load(f"idx:{digits_idx}")
    path.unlink()
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte"):
        load(f"idx:{digits_idx}")
    (digits_idx / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, *[0, 0, 0, 9] * 3]) + bytes(8))
    with pytest.raises(DataError, match="is cut off"):
        load(f"idx:{digits_idx}")


def test_npz(tmp_path):
    y = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=np.random.rand(40, 7), y=y)
    assert load(f"npz:{tmp_path / 'a.npz'}").info.input_shape == (7,)
    np.savez(tmp_path / "b.npz", x=np.zeros((40, 9, 8, 3), np.uint8), y=y)
    assert load(f"npz:{tmp_path / 'b.npz'}").info.input_shape == (3, 9, 8)
    assert load(f"npz:{tmp_path / 'b.npz'}", kind="tabular").info.input_shape == (216,)
    np.savez(tmp_path / "c.npz", x_train=np.zeros((40, 8, 8)), y_train=y, x_test=np.zeros((10, 8, 8)), y_test=y[:10])
    splits = load(f"npz:{tmp_path / 'c.npz'}")
    assert splits.info.input_shape == (1, 8, 8)
    assert len(splits.test) == 10


@pytest.mark.parametrize(
    ("arrays", "args", "text"),
    [
        ({"x": np.zeros((40, 3, 8, 3)), "y": np.arange(40) % 2}, {}, "Set args.layout to NCHW or NHWC"),
        ({"x": np.full((40, 3), np.nan), "y": np.arange(40) % 2}, {}, "NaN or infinity, such as in row 0"),
        ({"x": np.zeros((40, 3)), "y": np.arange(39) % 2}, {}, "they need as many rows"),
        ({"x": np.zeros((40, 3)), "labels": np.arange(40) % 2}, {}, "has no array 'y'"),
        ({"x": np.array([None] * 40), "y": np.arange(40) % 2}, {}, "plain arrays"),
        ({"x": np.full((40, 8, 8), 300), "y": np.arange(40) % 2}, {}, "must be bytes"),
        ({"x": np.zeros(40), "y": np.arange(40) % 2}, {}, "2 dimensions"),
    ],
)
def test_npz_faults(tmp_path, arrays, args, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=text):
        load(f"npz:{tmp_path / 'a.npz'}", args=args)


def test_npz_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"junk")
    with pytest.raises(DataError, match="plain arrays"):
        load(f"npz:{tmp_path / 'a.npz'}")


def test_torchvision_downloads_nothing(tmp_path):
    pytest.importorskip("torchvision")
    with pytest.raises(DataError, match=r"args\.download: true"):
        load("torchvision:CIFAR10", args={"root": str(tmp_path)})
    with pytest.raises(UnknownName, match="Did you mean 'CIFAR10'"):
        load("torchvision:CIFR10")


def test_torchvision_reads_local_files(digits_idx):
    pytest.importorskip("torchvision")
    raw = digits_idx / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = np.zeros((40, 28, 28)), np.arange(40) % 10
    for prefix in ("train", "t10k"):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)
    splits = load("torchvision:MNIST", args={"root": str(digits_idx)})
    assert splits.info.input_shape == (1, 28, 28)
    assert splits.info.num_outputs == 10
    assert len(splits.test) == 40


def test_hf_images_from_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"image": [Image.new("RGB", (6, 5), (i, 0, 0)) for i in range(40)], "label": [i % 2 for i in range(40)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)})
        made.save_to_disk(str(tmp_path / "set"))
        splits = load(f"hf:{tmp_path / 'set'}")
    assert splits.info.input_shape == (3, 5, 6)
    assert splits.info.class_names == ("no", "yes")


@pytest.mark.shared
def test_fashion_mnist(shared):
    splits = load(f"idx:{shared / 'fashion_mnist'}", limit=2000, valid=0.05)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [2000, 3000, 10000]
    assert splits.info.input_shape == (1, 28, 28)
    assert splits.info.mean[0] == pytest.approx(0.286, abs=0.01)  # the published figures of the training part
    assert splits.info.std[0] == pytest.approx(0.353, abs=0.01)
    assert torch.bincount(splits.train.labels).tolist() == [200] * 10
