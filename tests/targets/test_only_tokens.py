"""Terms on some of the tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.language_data import save_tokenizer, write_jsonl
from tests.language_runs import LLAMA
from tests.runs import distill

from limbeck.errors import SignalMissing
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Counts, Objective, Term
from limbeck.targets.only_tokens import OnlyTokens
from limbeck.tokens import Hidden, Projection
from limbeck.types import Signals


@pytest.mark.parametrize(
    ("which", "signal", "weights"),
    [
        ("answers", "given", [1.0, 0.0, 0.0]),
        ("prompts", "given", [0.0, 1.0, 1.0]),
        ("public", "private", [1.0, 0.0, 0.0]),
        ("private", "private", [0.0, 1.0, 1.0]),
    ],
)
def test_weights(which, signal, weights):
    target = OnlyTokens(which=which)
    assert target.extra == (signal,)
    assert target.weights(Signals(extra={signal: torch.tensor([0.0, 1.0, 1.0])}), Signals(), None).tolist() == weights
    own = Signals(torch.ones(3, 2))
    assert target(own, Signals()) == (own, Signals())
    with pytest.raises(SignalMissing, match=f"only_tokens needs the signal '{signal}' of the data; set data.private"):
        target.weights(Signals(), Signals(), None)


def test_the_term_is_the_mean_over_the_tokens_of_the_whole_update():
    torch.manual_seed(0)
    hidden, head = torch.randn(6, 3, requires_grad=True), Projection(torch.randn(5, 3))
    given, labels = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), torch.tensor([0, 1, 2, 3, 4, 0])
    objective = Objective([Term("answers", CrossEntropy(), targets=(OnlyTokens(),)), Term("all", CrossEntropy())])
    assert objective.asked().extra == {"given"}
    objective.setup(Signals(tokens=Hidden(hidden, head), extra={"given": given}), {})
    assert objective.weighs
    parts = [slice(0, 2), slice(2, 6)]
    kept = {"answers": sum(objective.masses({}, labels[part], extra={"given": given[part], "other": 3})["answers"] for part in parts)}
    assert kept["answers"] == 2
    counts = Counts(6.0, 6.0, kept=kept)  # pyright: ignore[reportArgumentType]
    values = torch.zeros(2)
    for part in parts:
        (
            total,
            found,
        ) = objective(Signals(tokens=Hidden(hidden[part], head), extra={"given": given[part]}), {}, labels[part], counts)
        total.backward(retain_graph=True)
        values += found
    each = F.cross_entropy(hidden @ head.weight.T, labels, reduction="none")
    assert values.tolist() == pytest.approx([each[1:3].mean().item(), each.mean().item()], rel=1e-5)
    gradient = hidden.grad.clone()  # pyright: ignore[reportOptionalMemberAccess]
    hidden.grad = None
    (each[1:3].mean() + each.mean()).backward()
    torch.testing.assert_close(gradient, hidden.grad)


def test_in_a_run_losses_on_answers_and_on_prompts_have_weights_of_their_own(tmp_path):
    rows = [{"prompt": f"w{i % 5} w{i % 7}", "completion": f" w{i % 5 + i % 7} w{i % 10}"} for i in range(40)]
    model = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}}
    given = {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(tmp_path / "rows.jsonl", rows),
            "tokenizer": save_tokenizer(tmp_path / "tokenizer"),
            "max_length": 16,
            "train_on": "all",
            "private": "w3",
        },
        "teacher": {**model, "weights": "random"},
        "student": model,
        "objective": {
            "labels": {"loss": "cross_entropy", "targets": {"name": "only_tokens", "which": "public"}},
            "response": {"loss": "kd", "temperature": 1, "targets": "only_tokens"},
            "prompt": {"loss": "kd", "temperature": 1, "divergence": "reverse", "targets": {"name": "only_tokens", "which": "prompts"}},
            "swing": {"loss": "swing", "noise": 0.1},
        },
        "train": {"steps": 3, "batch_size": 8, "accumulate": 2, "log_every": 1},
    }
    run = distill(given, out=tmp_path / "run", device="cpu", allow_code=False)
    assert all(torch.isfinite(p).all() for p in run.student.parameters())
