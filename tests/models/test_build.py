"""Models by reference: what is built, how inputs are normalised, and what a wrong reference says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.errors import CodeNotAllowed, LimbeckError, ModelError, ShapeMismatch, UnknownName
from limbeck.models.base import ModelRequest, Normalization
from limbeck.models.build import BUILTINS, build_model, is_local_code
from limbeck.models.checkpoints import save_weights
from limbeck.types import DataInfo

GREY = DataInfo("image", "class", 10, (1, 8, 8), mean=(0.3,), std=(0.2,))
COLOUR = DataInfo("image", "class", 7, (3, 32, 32), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
TABLE = DataInfo("tabular", "real", 2, (5,), mean=(0.0,) * 5, std=(1.0,) * 5)
TEXT = DataInfo("text", "class", 3, (16,))


def build(model: str, info: DataInfo = GREY, *, load: bool = True, allow_code: bool = False, **request: Any) -> Any:
    return build_model(ModelRequest(model, **request), info, load=load, allow_code=allow_code)


@pytest.mark.parametrize("info", [GREY, COLOUR])
@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet", "wrn", "vgg", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_builtins_run_train_and_build_without_contents(name: str, info: DataInfo) -> None:
    assert name in BUILTINS.names()
    module = build(name, info).module
    x = torch.randn(4, *info.input_shape)
    out = module(x)
    assert out.shape == (4, info.num_outputs)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    with torch.device("meta"):
        twin = build(name, info, load=False).module
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}
    assert all(v.is_meta for v in twin.state_dict().values())
    assert twin(x.to("meta")).shape == out.shape


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_resnet_has_the_papers_size(depth: int, millions: float) -> None:
    """Table 6 of the paper."""
    with torch.device("meta"):
        module = build("resnet", DataInfo("image", "class", 10, (3, 32, 32)), args={"depth": depth}, load=False).module
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)
    layers = [m for m in module.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    shortcuts = 2
    assert len(layers) - shortcuts == depth


@pytest.mark.parametrize(
    ("name", "args", "parameters"),
    [
        ("wrn", {"depth": 40, "width": 2}, 2_255_156),
        ("wrn", {"depth": 16}, 703_284),
        ("wrn", {"depth": 40, "width": 1}, 569_780),
        ("vgg", {"depth": 13}, 9_462_180),
        ("vgg", {}, 3_965_028),
        ("resnet", {"depth": 32, "width": 4, "stem": 32}, 7_433_860),
        ("resnet", {"depth": 8, "width": 4, "stem": 32}, 1_233_540),
        ("resnet", {"depth": 56}, 861_620),
    ],
)
def test_networks_of_the_cifar_tables_have_their_size(name: str, args: dict[str, Any], parameters: int) -> None:
    """With 100 classes, as the collections of methods for CIFAR-100 count them."""
    with torch.device("meta"):
        module = build(name, DataInfo("image", "class", 100, (3, 32, 32)), args=args, load=False).module
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_a_wide_network_normalises_before_it_convolves() -> None:
    module = build("wrn", COLOUR, args={"depth": 10, "width": 1}).module.eval()
    assert [n for n, _ in module.named_children()] == ["conv1", "layer1", "layer2", "layer3", "norm", "head"]
    block, wide = module.layer1[0], module.layer2[0]
    x = torch.randn(2, 16, 8, 8)
    y = block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu())
    assert torch.allclose(block(x), x + y)
    assert wide(x).shape == (2, 32, 4, 4)
    seen = wide.bn1(x).relu()
    assert torch.allclose(wide(x), wide.shortcut(seen) + wide.conv2(wide.bn2(wide.conv1(seen)).relu()))
    deeper = build("wrn", COLOUR, args={"depth": 16, "width": 1}).module
    assert [len(getattr(deeper, f"layer{i}")) for i in (1, 2, 3)] == [2, 2, 2]


@pytest.mark.parametrize(("size", "last"), [(32, 4), (64, 4), (63, 7)])
def test_vgg_halves_three_times_and_large_images_once_more(size: int, last: int) -> None:
    module = build("vgg", DataInfo("image", "class", 7, (3, size, size)), args={"depth": 11}).module
    assert [n for n, _ in module.named_children()] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    sizes: list[tuple[int, ...]] = []
    for layer in (module.stem, module.layer1, module.layer2, module.layer3, module.layer4):
        layer.register_forward_hook(lambda _module, _args, output: sizes.append(tuple(output.shape[1:3])))
    assert module(torch.randn(2, 3, size, size)).shape == (2, 7)
    assert [channels for channels, _ in sizes] == [64, 128, 256, 512, 512]
    assert [height for _, height in sizes] == [size, size // 2, size // 4, size // 8, last]


def test_arguments_of_builtins() -> None:
    module = build("convnet", args={"channels": [4, 6, 8], "blocks": 2, "dropout": 0.5, "num_outputs": 3}).module
    assert [n for n, _ in module.named_children()] == ["stage1", "stage2", "stage3", "head"]
    assert module(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    mlp = build("mlp", TABLE, args={"hidden": [8], "activation": "gelu", "dropout": 0.1}).module
    assert [n for n, _ in mlp.named_children()] == ["hidden1", "head"]
    assert mlp(torch.randn(2, 5)).shape == (2, 2)


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        (
            "convnet",
            {"chanels": [1]},
            "has no argument 'chanels'. Did you mean 'channels'? It accepts: num_outputs, input_shape, channels, blocks",
        ),
        ("convnet", {"channels": "16"}, "channels must be a list of positive integers such as [16, 32], got '16'"),
        ("convnet", {"channels": [True]}, "got [True]"),
        ("convnet", {"channels": []}, "got []"),
        ("convnet", {"blocks": 0}, "blocks must be a positive integer, got 0"),
        ("mlp", {"hidden": [8, -1]}, "hidden must be a list of positive integers"),
        ("mlp", {"dropout": 1}, "dropout must be at least 0 and below 1, got 1"),
        ("mlp", {"activation": "rely"}, "Did you mean 'relu'?"),
        ("resnet", {"depth": 26}, "depth must be one of 8, 14, 18, 20, 32, 34, 44, 50, 56, 101, 110, 152, got 26"),
        ("mobilenetv2", {"width": 0.1}, "width must be a number of at least 0.125, got 0.1"),
        ("mobilenetv2", {"width": "half"}, "width must be a number of at least 0.125, got 'half'"),
        ("mobilenetv2", {"width": True}, "got True"),
        ("shufflenetv1", {"groups": 5}, "groups must be one of 1, 2, 3, got 5"),
        ("shufflenetv2", {"width": 3}, "width must be one of 0.5, 1, 1.5, 2, got 3"),
        ("resnet", {"stem": 0}, "stem must be a positive integer, got 0"),
        ("wrn", {"depth": 17}, "depth must be 6n + 4, such as 10, 16, 22, 28 or 40, got 17"),
        ("wrn", {"depth": 4}, "got 4"),
        ("vgg", {"depth": 9}, "depth must be one of 8, 11, 13, 16, 19, got 9"),
        ("timm:resnet18", {"drop_rte": 0.1}, "Did you mean 'drop_rate'"),
        ("torchvision:resnet18", {"zero_init": True}, "Did you mean 'zero_init_residual'?"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "write weights: pretrained beside the model"),
        ("hf:vit", {"hiden_size": 8}, "Did you mean 'hidden_size'"),
    ],
)
def test_wrong_arguments(model: str, args: dict[str, Any], message: str) -> None:
    if ":" in model:
        pytest.importorskip({"hf": "transformers"}.get(model.partition(":")[0], model.partition(":")[0]))
    with torch.device("meta"), pytest.raises(ModelError) as caught:
        build(model, COLOUR, args=args, load=False)
    assert message in str(caught.value)
    assert str(caught.value).startswith(model)


@pytest.mark.parametrize(
    ("model", "info", "error", "message"),
    [
        ("convnt", GREY, UnknownName, "Did you mean 'convnet'?"),
        ("resnet18", GREY, UnknownName, "timm:NAME, torchvision:NAME, hf:ID_OR_FOLDER"),
        ("model.safetensors", GREY, UnknownName, "A file goes under weights"),
        ("timm:resnet1", GREY, UnknownName, "no timm model is called 'resnet1'. Did you mean 'resnet18'"),
        ("torchvision:resnet19", COLOUR, UnknownName, "Did you mean 'resnet18'"),
        ("tim:resnet18", GREY, UnknownName, "no source of models is called 'tim'. Did you mean 'timm'?"),
        ("mine:Net", GREY, CodeNotAllowed, "--allow-code"),
        ("torchvision:resnet18", GREY, ModelError, "reads images of 3 channels; the data has 1. Use a timm model"),
        ("convnet", TABLE, ModelError, "convnet reads images (channels, height, width); the data has inputs of shape (5,). Try mlp."),
        ("convnet", TEXT, ModelError, "does not read text"),
        ("timm:resnet18", TABLE, ModelError, "reads images; the data is tabular"),
        ("hf:bert", TABLE, ModelError, "reads text or images"),
        ("hf:bert", COLOUR, ModelError, "hf:bert (bert) is no classifier of image data"),
        ("hf:./nowhere", TEXT, ModelError, "there is no such folder"),
        ("hf:someone/nothing", TEXT, ModelError, "hf download someone/nothing config.json"),
    ],
)
def test_wrong_references(model: str, info: DataInfo, error: type[LimbeckError], message: str) -> None:
    with torch.device("meta"), pytest.raises(error) as caught:
        build(model, info, load=False)
    assert message in str(caught.value)


def test_pretrained_without_any() -> None:
    with pytest.raises(ModelError, match="convnet has no pretrained weights"):
        build("convnet", weights="pretrained")


def test_offline_fetches_are_clear_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    import timm

    def offline(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to host\nlong story")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ModelError, match=r"pretrained weights of timm:resnet18 could not be fetched: ConnectionError: no route to host Check"
    ):
        build("timm:resnet18", COLOUR, weights="pretrained")
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="the configuration of hf:someone/nothing could not be fetched"):
        build("hf:someone/nothing", TEXT)


def test_timm_takes_outputs_and_channels_from_the_data() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        module = build("timm:resnet18", GREY, load=False).module
        assert module.conv1.in_channels == 1
        assert module.fc.out_features == 10
        assert build("timm:resnet18", GREY, args={"num_classes": 4}, load=False).module.fc.out_features == 4


def test_torchvision() -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        assert build("torchvision:mobilenet_v3_small", COLOUR, load=False).module.classifier[-1].out_features == 7
        googlenet = build("torchvision:googlenet", COLOUR, load=False).module
        assert googlenet.train()(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 7)


def test_normalization() -> None:
    own = Normalization((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert build("convnet").normalization == Normalization((0.3,), (0.2,))
    assert build("convnet", normalize="data").normalization == Normalization((0.3,), (0.2,))
    assert build("convnet", normalize="none").normalization is None
    assert build("convnet", COLOUR, normalize=own).normalization == own
    assert build("convnet", DataInfo("image", "class", 2, (1, 8, 8))).normalization is None
    pytest.importorskip("timm")
    with torch.device("meta"):
        pretrained = build("timm:resnet18.a1_in1k", COLOUR, weights="pretrained", load=False)
        assert pretrained.normalization == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        grey = build("timm:resnet18.a1_in1k", GREY, weights="pretrained", load=False).normalization
        assert grey == Normalization((pytest.approx(0.449),), (pytest.approx(0.226),))  # pyright: ignore[reportArgumentType]
        assert build("timm:resnet18", COLOUR, weights="pretrained", normalize="data", load=False).normalization.mean == COLOUR.mean
        tv = build("torchvision:resnet18", COLOUR, weights="pretrained", load=False)
        assert tv.normalization.mean == (0.485, 0.456, 0.406)


def test_normalization_apply() -> None:
    x = torch.rand(2, 3, 4, 4)
    n = Normalization((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    expected = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 1.0, (x[:, 2] - 0.3) / 2.0], 1)
    torch.testing.assert_close(n.apply(x), expected)
    torch.testing.assert_close(Normalization((0.5,), (2.0,)).apply(x), (x - 0.5) / 2)
    columns = torch.rand(4, 3)
    torch.testing.assert_close(n.apply(columns), (columns - torch.tensor(n.mean)) / torch.tensor(n.std))
    assert n.apply(x.double()).dtype == torch.float64
    assert n.apply(x.to("meta")).is_meta
    with torch.device("meta"):
        assert n.apply(x).device.type == "cpu"
    with torch.inference_mode():
        fresh = Normalization((0.7,), (0.9,))
        fresh.apply(x)
    y = x.clone().requires_grad_()
    fresh.apply(y).sum().backward()
    assert y.grad is not None
    with pytest.raises(ShapeMismatch, match="3 values, the input of shape"):
        n.apply(torch.rand(2, 1, 4, 4))


LOCAL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, width=2):
        super().__init__()
        self.sizes = (num_classes, in_channels, width)

def shaped(input_shape, num_outputs):
    return nn.Linear(input_shape[0], num_outputs)

def plain():
    return nn.Identity()

def wrong():
    return 3

def breaks():
    raise RuntimeError("boom")

value = 3
"""


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "lb_local_models.py").write_text(LOCAL)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("lb_local_models", None)


def test_local_code(local: None) -> None:
    def make(name: str, **request: Any) -> Any:
        return build(f"lb_local_models:{name}", COLOUR, allow_code=True, **request).module

    assert make("Net").sizes == (7, 3, 2)
    assert make("Net", args={"width": 5, "num_classes": 2}).sizes == (2, 3, 5)
    assert make("shaped").weight.shape == (7, 3)
    assert isinstance(make("plain"), torch.nn.Identity)
    for name, message in [
        ("wrong", "must give an nn.Module, it gave int"),
        ("value", "must be a function or class"),
        ("breaks", "RuntimeError: boom"),
        ("Nett", "Did you mean 'Net'?"),
    ]:
        with pytest.raises(LimbeckError) as caught:
            make(name)
        assert message in str(caught.value)
    with pytest.raises(ModelError, match=r"has no argument 'widht'. Did you mean 'width'"):
        make("Net", args={"widht": 3})
    with pytest.raises(CodeNotAllowed):
        build("lb_local_models:Net", COLOUR)


def test_is_local_code() -> None:
    assert is_local_code("my.module:Net")
    assert not any(map(is_local_code, ["convnet", "timm:resnet18", "torchvision:resnet18", "hf:./folder"]))


def tiny_bert(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=40, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return model


def test_hf_local_folder(tmp_path: Path) -> None:
    saved = tiny_bert(tmp_path / "bert")
    reference = f"hf:{tmp_path / 'bert'}"
    built = build(reference, TEXT, weights="pretrained")
    assert built.normalization is None
    assert built.module.training
    torch.testing.assert_close(dict(built.module.state_dict()), dict(saved.state_dict()))
    other_head = build(reference, DataInfo("text", "class", 5, (16,)), weights="pretrained").module
    assert other_head.classifier.weight.shape == (5, 8)
    torch.testing.assert_close(other_head.bert.state_dict(), saved.bert.state_dict())
    random = build(reference, TEXT, args={"num_hidden_layers": 1}).module
    assert len(random.bert.encoder.layer) == 1
    with torch.device("meta"):
        assert all(p.is_meta for p in build(reference, TEXT, weights="pretrained", load=False).module.parameters())
    loaded = build(reference, TEXT, weights=str(tmp_path / "bert" / "model.safetensors")).module
    torch.testing.assert_close(dict(loaded.state_dict()), dict(saved.state_dict()))


def test_hf_folder_without_a_configuration(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"the folder has no config.json; expected what save_pretrained writes. It has: notes.txt"):
        build(f"hf:{tmp_path}", TEXT)
    with pytest.raises(ModelError, match="names a kind of model, which has no weights"):
        build("hf:bert", TEXT, weights="pretrained")


def test_hf_image_model_states_its_normalisation(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    args = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
    transformers.ViTForImageClassification(transformers.ViTConfig(**args)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}))
    built = build(f"hf:{tmp_path}", COLOUR, weights="pretrained")
    assert built.normalization == Normalization((0.5,) * 3, (0.5,) * 3)
    assert built.module(torch.randn(2, 3, 32, 32)).logits.shape == (2, 7)
    with pytest.raises(ModelError, match="reads images of 3 channels; the data has 1"):
        build(f"hf:{tmp_path}", GREY, weights="pretrained")


def test_a_run_directory_brings_weights_and_normalisation(tmp_path: Path) -> None:
    source = build("convnet").module
    save_weights(source, tmp_path / "run" / "student" / "model.safetensors")
    (tmp_path / "run" / "student" / "model.json").write_text(json.dumps({"normalization": {"mean": [0.9], "std": [0.8]}}))
    for weights in ("run", "run/student", "run/student/model.safetensors"):
        built = build("convnet", weights=str(tmp_path / weights))
        assert built.normalization == Normalization((0.9,), (0.8,))
        torch.testing.assert_close(dict(built.module.state_dict()), dict(source.state_dict()), rtol=0, atol=0)
    assert build("convnet", weights=str(tmp_path / "run"), normalize="data").normalization == Normalization((0.3,), (0.2,))
