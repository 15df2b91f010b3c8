"""Low-rank adapters: what they change, what learns, and what is left when they are merged."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest
import torch
from tests.language_models import tiny
from torch import Tensor, nn

from limbeck.engine.learner import Learner
from limbeck.errors import LimbeckError, MissingDependency, ModelError, UnknownName
from limbeck.models.base import BuiltModel, ModelRequest
from limbeck.models.build import build_model
from limbeck.models.language import language_head
from limbeck.models.lora import Lora, adapters, holds_adapters, merge_adapters, without_adapters
from limbeck.objective import Objective
from limbeck.types import DataInfo

INFO = DataInfo("text", "token", 61, (16,), language="causal_lm")
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
IDS = torch.arange(3, 21).view(2, 9)


def built(lora: Lora | None, **changes: Any) -> BuiltModel:
    """A Llama with adapters, the same at every call."""
    torch.manual_seed(0)
    wanted: dict[str, Any] = {"model": "hf:llama", "args": LLAMA, "lora": lora, **changes}
    return build_model(ModelRequest(**wanted), INFO)


def moved(model: BuiltModel) -> BuiltModel:
    """The same, as if its adapters had learnt."""
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in adapters(model.module):
            parameter.normal_(0, 0.3)
    return model


def logits(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return module.eval()(IDS).logits


def test_it_begins_as_the_model_itself():
    plain, own = built(None), built(Lora())
    assert torch.equal(logits(plain.module), logits(own.module))
    assert type(own.module) is type(plain.module)
    assert plain.frozen == frozenset()
    assert {name.replace(".base_layer", "") for name in own.frozen} == {name for name, _ in plain.module.named_parameters()}


def test_the_formula():
    module = built(None).module.eval()
    layer: Any = module.get_submodule("model.layers.1.self_attn.q_proj")
    own = moved(built(Lora(rank=3, alpha=12, targets=["q_proj"]))).module.eval()
    pair: Any = own.get_submodule("model.layers.1.self_attn.q_proj")
    x = torch.randn(5, 16)
    a, b = pair.lora_A["default"].weight, pair.lora_B["default"].weight
    assert (a.shape, b.shape) == ((3, 16), (16, 3))
    torch.testing.assert_close(pair(x), x @ layer.weight.T + 4 * x @ a.T @ b.T)


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ([], 14),
        (["q_proj", "v_proj"], 4),
        (["layers.1.self_attn.q_proj"], 1),
        (["model.layers.0.mlp.up_proj", "q_proj"], 3),
    ],
)
def test_targets(targets: list[str], count: int):
    own = built(Lora(rank=2, targets=targets))
    assert len(adapters(own.module)) == 2 * count
    assert {name for name, p in own.module.named_parameters() if p.requires_grad} == {name for name, _ in adapters(own.module)}
    assert language_head(own.module).layer is own.module.get_submodule("lm_head")


@pytest.mark.parametrize("kind", ["bert", "t5", "gpt2", "roberta", "albert", "bart"])
def test_kinds_of_models(kind: str, tmp_path: Any):
    tiny(kind).save_pretrained(tmp_path)
    language: Any = {"t5": "seq2seq_lm", "bart": "seq2seq_lm", "gpt2": "causal_lm"}.get(kind, "masked_lm")
    info = DataInfo("text", "token", 61, (16,), language=language)
    own = build_model(ModelRequest(f"hf:{tmp_path}", "pretrained", lora=Lora(rank=2)), info)
    assert adapters(own.module)
    more = {"decoder_input_ids": IDS} if language == "seq2seq_lm" else {}
    model: Any = own.module
    with torch.no_grad():
        before = model.eval()(input_ids=IDS, **more).logits
        expected = moved(own).module.double()(input_ids=IDS, **more).logits.float()
        assert not torch.allclose(before, expected, atol=1e-2)
        language_head(own.module)
        names = set(build_model(ModelRequest(f"hf:{tmp_path}"), info).module.state_dict())
        merge_adapters(own.module)
        assert set(own.module.state_dict()) == names
        torch.testing.assert_close(model(input_ids=IDS, **more).logits.float(), expected)


def test_the_head_of_a_classifier_learns():
    info = DataInfo("text", "class", 3, (16,))
    args = {**LLAMA, "vocab_size": 61, "pad_token_id": 0}
    own = build_model(ModelRequest("hf:llama", args=args, lora=Lora(rank=2)), info)
    learn = [name for name, _ in own.module.named_parameters() if name not in own.frozen]
    assert "score.weight" in learn
    assert len(learn) == len(adapters(own.module)) + 1
    assert "score.weight" in build_model(ModelRequest("hf:llama", args=args, lora=Lora(head=False)), info).frozen
    with (
        pytest.raises(ModelError, match=r"the student's head learns, too \(score\.weight\), .* lora: \{head: false\} leaves the head"),
        without_adapters(own.module, own.frozen),
    ):
        pass


def test_the_head_of_a_language_model_learns_if_asked():
    own = built(Lora(rank=2, head=True))
    assert "lm_head.weight" not in own.frozen
    assert "lm_head.weight" in built(Lora(rank=2)).frozen


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("q_porj", UnknownName, r"no linear layer is called 'q_porj'. Did you mean 'q_proj'.*`lora.targets` of hf:llama takes the names"),
        ("self_attn", UnknownName, r"no linear layer is called 'self_attn'"),
        ("lm_head", ModelError, r"hf:llama: 'lm_head' in lora.targets belongs to the head, which takes no adapters.*lora: \{head: true\}"),
    ],
)
def test_wrong_targets(target: str, error: type[LimbeckError], message: str):
    with pytest.raises(error, match=message):
        built(Lora(targets=["v_proj", target]))


def test_it_is_for_models_of_transformers():
    with pytest.raises(ModelError, match=r"mlp: lora is for models of transformers \(hf:...\); this one is a MLP"):
        build_model(ModelRequest("mlp", lora=Lora()), DataInfo("tabular", "class", 3, (4,)))


def test_without_peft(monkeypatch: pytest.MonkeyPatch):
    load = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependency, match=r"lora needs peft, which is not installed. Install it: pip install 'limbeck\[lora\]'"):
        built(Lora())


def test_on_the_meta_device():
    with torch.device("meta"):
        own = build_model(ModelRequest("hf:llama", args=LLAMA, lora=Lora(rank=2)), INFO, load=False)
    assert {p.device.type for p in own.module.parameters()} == {"meta"}
    assert own.frozen == built(Lora(rank=2)).frozen


def test_adapters_of_a_model_in_half_precision_are_in_full():
    own = moved(built(Lora(rank=2, alpha=0.5), dtype="bf16"))
    assert {p.dtype for _, p in adapters(own.module)} == {torch.float32}
    assert own.module.get_submodule("lm_head").weight.dtype == torch.bfloat16
    expected = logits(own.module)
    merge_adapters(own.module)
    assert {p.dtype for p in own.module.parameters()} == {torch.bfloat16}
    assert (logits(own.module) - expected).float().norm() < 0.05 * expected.float().norm()


def test_merged_it_answers_the_same_and_is_plain():
    own = moved(built(Lora(rank=2, alpha=8)))
    expected, plain = logits(own.module), built(None)
    assert holds_adapters(own.module.state_dict())
    assert (expected - logits(plain.module)).abs().max() > 0.05
    merge_adapters(own.module)
    torch.testing.assert_close(logits(own.module), expected, rtol=1e-4, atol=1e-4)
    assert own.module.state_dict().keys() == plain.module.state_dict().keys()
    assert not holds_adapters(own.module.state_dict())
    assert "peft_config" not in vars(own.module)


def test_without_its_adapters_it_is_what_it_was():
    own = moved(built(Lora(rank=2)))
    expected, (first, second) = logits(built(None).module), [p for _, p in adapters(own.module)][:2]
    first.requires_grad_(False)
    learnt = logits(own.module)
    with without_adapters(own.module, own.frozen):
        assert torch.equal(logits(own.module), expected)
    assert torch.equal(logits(own.module), learnt)
    assert not first.requires_grad
    assert second.requires_grad
    with pytest.raises(ZeroDivisionError), without_adapters(own.module, own.frozen):
        _ = 1 / 0
    assert torch.equal(logits(own.module), learnt)


def test_a_model_without_adapters_has_none_to_switch_off():
    plain = built(None)
    with (
        pytest.raises(ModelError, match=r"no adapters to switch off: .* student: \{lora: \{rank: 8\}\}"),
        without_adapters(plain.module, ()),
    ):
        pass


def learner(own: BuiltModel) -> Learner:
    return Learner(own.module, Objective([]), lambda model, batch: model(batch), frozen=own.frozen)


def test_only_adapters_learn_whatever_is_trainable():
    own = built(Lora(rank=2, targets=["q_proj"]))
    own.module.requires_grad_(False)
    mine, names = learner(own), {name for name, _ in adapters(own.module)}
    mine.train_only(())
    assert {name for name, p in own.module.named_parameters() if p.requires_grad} == names
    mine.train_only(["model.layers.1.*"])
    assert {name for name, p in own.module.named_parameters() if p.requires_grad} == {n for n in names if ".1." in n}
    with pytest.raises(UnknownName, match=r"no parameter is called 'lm_head.\*'"):
        mine.train_only(["lm_head.*"])


def test_copies_have_adapters_of_their_own():
    own = moved(built(Lora(rank=2)))
    other = copy.deepcopy(own.module)
    with without_adapters(own.module, own.frozen):
        assert not torch.equal(logits(other), logits(own.module))


def test_shrunk_first():
    from limbeck.models.shrink import Shrink

    own = built(Lora(rank=2, targets=["q_proj"]), shrink=Shrink("first", 1))
    assert len(adapters(own.module)) == 2
    assert own.frozen


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointed_layers_give_the_same_gradient(dropout: float):
    found: list[list[Tensor]] = []
    for checkpointing in (False, True):
        own = moved(built(Lora(rank=2, dropout=dropout), gradient_checkpointing=checkpointing))
        assert own.module.is_gradient_checkpointing is checkpointing
        torch.manual_seed(1)
        own.module.train()(IDS).logits.square().mean().backward()
        assert all(p.grad is None for name, p in own.module.named_parameters() if name in own.frozen)
        found.append([p.grad for _, p in adapters(own.module) if p.grad is not None])
    assert len(found[0]) == 28
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
