"""Models that answer together, at the end of a run and by the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.cli.main import main
from limbeck.company import Company, members, tokenizer_of
from limbeck.config.load import load_recipe
from limbeck.evaluate.fusion import FusedWriter
from limbeck.evaluate.generation import greedy
from limbeck.export.student import load_student
from limbeck.generating import generate
from limbeck.ops.fusion import moved
from limbeck.preflight import preflight
from limbeck.run import distill
from tests.language_data import save_tokenizer
from tests.language_runs import LLAMA, recipe

LABELS = {"labels": "cross_entropy"}
SMALL = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}}
LARGE = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 2}}
EXPERTS = {"student": "small"}


def steered(folder: Path, **fused: Any) -> dict[str, Any]:
    """A large and a small model of the same beginnings; the student goes on from the small one."""
    return recipe(
        folder,
        teacher=None,
        teachers={"large": LARGE, "tuned": LARGE},
        student=SMALL,
        models={"small": SMALL},
        objective=LABELS,
        stages={
            "large": {"learner": "large", "objective": LABELS, "train": {"steps": 3}},
            "small": {"learner": "small", "objective": LABELS, "train": {"steps": 3}},
            "expert": {"start": "small", "train": {"steps": 20}},
            "tuned": {"learner": "tuned", "start": "large", "objective": LABELS, "train": {"steps": 20}},
        },
        evaluate={"fused": fused, "tokens": 4},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    wish = steered(
        folder,
        proxy={"large": "large", "experts": EXPERTS, "weight": 1, "aim": "tuned"},
        still={"large": "large", "experts": EXPERTS, "weight": 0, "aim": "tuned"},
        expert={"large": "small", "experts": EXPERTS, "weight": 1},
        chosen={"large": "small", "experts": EXPERTS},
    )
    distill(wish, out=folder / "run", device="cpu")
    return folder / "run"


def test_what_is_fused_is_judged_and_writes(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    models = results["models"]
    assert models["still"]["metrics"] == pytest.approx(models["large"]["metrics"])  # a weight of 0 moves nothing
    assert models["still"]["recovered"] == pytest.approx(0.0)
    # Where large and small model are one, the weight 1 makes the expert, and it is the one that is chosen.
    assert models["expert"]["metrics"] == pytest.approx(models["student"]["metrics"], rel=1e-4)
    assert models["chosen"]["metrics"] == pytest.approx(models["student"]["metrics"], rel=1e-4)
    assert models["expert"]["recovered"] is None
    assert models["expert"]["agreement"] is None
    large, proxy, tuned = (models[name]["metrics"]["nll"] for name in ("large", "proxy", "tuned"))
    assert models["proxy"]["recovered"] == pytest.approx((large - proxy) / (large - tuned))
    assert proxy < large
    assert models["proxy"]["role"] == "fused"
    assert models["proxy"]["reference"] == "large + student - small"
    answers = results["generations"]["examples"][0]["answers"]
    assert answers["still"] == answers["large"]
    assert answers["expert"] == answers["student"]
    page = (run / "report.html").read_text()
    assert "proxy" in page


def test_the_command_steers_a_large_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With itself as base and large model the student does not move."""
    own = json.loads((run / "results.json").read_text())["models"]["student"]["metrics"]
    assert main(["eval", str(run), "--large", str(run), "--base", str(run), "--weight", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(own)
    other = f"hf:{run / 'student'}"
    assert main(["eval", str(run), "--large", other, "--base", other, "--expert", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(own)
    alone = generate(run, ["w3 w4"], tokens=3)
    assert generate(run, ["w3 w4"], tokens=3, company=Company(str(run), other)) == alone
    assert main(["generate", str(run), "--prompt", "w3 w4", "--tokens", "3", "--large", other, "--base", other, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == alone


def test_wrong_company_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--large", str(run)]) == 2
    assert "--large and --base go together" in capsys.readouterr().err
    assert main(["generate", str(run), "--prompt", "w1", "--large", str(run), "--base", str(run), "--weight", "-1"]) == 2
    assert "must not be below 0, found -1" in capsys.readouterr().err
    weights = str(run / "student" / "model.safetensors")
    assert main(["eval", weights, "--large", str(run), "--base", str(run)]) == 2
    assert "only the student in a run folder of a language model can steer a larger one" in capsys.readouterr().err
    shifted = load_student(run)
    tokenizer = tokenizer_of(shifted)
    tokenizer.add_tokens(["w400"])
    with pytest.raises(Exception, match="has another vocabulary than the student"):
        members(shifted, tokenizer, Company(str(run), str(run)))


def test_the_check_knows_who_can_be_fused(tmp_path: Path) -> None:
    wish = steered(tmp_path, large={"experts": {"student": "smal"}, "aim": "nobody"})
    found = [str(problem) for problem in preflight(load_recipe(wish), allow_code=False).problems]
    assert all("evaluate.fused.large" in problem for problem in found)
    assert any("'large' is a model of the recipe already" in problem for problem in found)
    assert any("no model of this recipe is called 'teacher'" in problem for problem in found)
    assert any("'smal'. Did you mean 'small'" in problem for problem in found)
    assert any("'nobody'" in problem for problem in found)
    assert len(found) == 4
    none = steered(tmp_path, both={"large": "large", "experts": {}})
    (problem,) = preflight(load_recipe(none), allow_code=False).problems
    assert "evaluate.fused.both.experts: expected a small model with what it was before it learnt" in str(problem)
    pictures = {"task": "classification", "data": "sklearn:digits", "student": "mlp", "objective": LABELS}
    pictures |= {"evaluate": {"fused": {"both": {"large": "student", "experts": {"student": "student"}}}}}
    (problem,) = preflight(load_recipe(pictures), allow_code=False).problems
    assert "task classification predicts no tokens" in str(problem)


class Table(torch.nn.Module):
    """Logits that follow from the last token."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = torch.nn.Parameter(torch.tensor(rows))
        self.widths: list[int] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.widths.append(input_ids.shape[1])
        return self.rows[input_ids]


def test_a_writer_by_hand() -> None:
    large, after, before = Table([[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]]), Table([[3.0, 0.0, 0.0]] * 2), Table([[0.0, 0.0, 0.0]] * 2)
    ids = torch.tensor([[1, 0]])
    said = FusedWriter(large, [(after, before)], 0.5, 2)(ids, torch.ones_like(ids))["logits"]
    assert said.tolist() == [[[1.5, 1.0]]]
    expected = moved(large.rows[:1, :2], [(after.rows[:1, :2], before.rows[:1, :2])], torch.tensor([[0.5]]))
    assert torch.equal(said[:, 0], expected)
    assert greedy(FusedWriter(large, [(after, before)], 0.5, 2), [torch.tensor([1])], tokens=2) == [[0, 0]]
    assert greedy(FusedWriter(large, [(after, before)], 0.0, 2), [torch.tensor([1])], tokens=3) == [[0, 1, 0]]


def test_a_long_text_is_read_from_behind(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer")
    large = Table([[0.0, 1.0], [1.0, 0.0]])
    fused = FusedWriter(large, [], 1.0, 2)
    assert fused.longest is None
    fused.longest = 3
    ids = torch.tensor([[0, 1, 0, 1, 0]])
    said = fused(ids, torch.ones_like(ids))["logits"]
    assert large.widths == [3]
    assert math.isclose(said[0, 0, 1].item(), 1.0)
