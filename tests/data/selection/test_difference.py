"""MiniPLM's difference sampling: by hand, against the authors' numbers, and in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.language_data import save_tokenizer, write_jsonl
from tests.language_runs import LLAMA
from tests.runs import SMALL, distill

from limbeck.config.data_schema import SelectSpec
from limbeck.config.load import load_recipe
from limbeck.data.selected import read_selected
from limbeck.data.selection.base import Amount, Evidence
from limbeck.data.selection.difference import Difference, loss_difference
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import DataError, LimbeckError, RecipeError
from limbeck.evaluate.surprise import surprise
from limbeck.preflight import preflight
from limbeck.selecting import select
from limbeck.session import Session


def test_by_hand():
    losses = torch.tensor([[1.0, 2.0, 0.5, 3.0], [1.5, 1.0, 2.5, 3.0]])
    evidence = Evidence(torch.arange(4), torch.zeros(4, dtype=torch.int64), losses=losses)
    assert loss_difference(*losses).tolist() == [0.5, -1.0, 2.0, 0.0]
    kept, scores = Difference().choose(evidence, Amount(fraction=0.5))
    assert kept.tolist() == [0, 2]
    assert scores.dtype == torch.float64
    assert scores.tolist() == [0.5, -1.0, 2.0, 0.0]
    some = evidence.of(torch.tensor([3, 1]))
    assert some.losses is not None
    assert some.losses.tolist() == [[3.0, 2.0], [3.0, 1.0]]
    assert Difference().reference == "reference"
    assert Difference.taught
    with pytest.raises(DataError, match="the selection needs the losses of the candidates"):
        Difference().scores(Evidence(torch.arange(2), torch.zeros(2)))


def recipe(folder: Path, **distil: Any) -> dict[str, Any]:
    small = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}}
    rows = [{"text": " ".join(f"w{(i * j) % 13}" for j in range(1, 11))} for i in range(40)]
    return {
        "task": "causal_lm",
        "data": {"source": write_jsonl(folder / "texts.jsonl", rows), "tokenizer": save_tokenizer(folder / "tokenizer"), "max_length": 8},
        "teacher": small,
        "student": small,
        "models": {"reference": small},
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 3, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.02}},
        "baseline": True,
        "stages": {
            "teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"steps": 6}},
            "reference": {"learner": "reference", "objective": {"labels": "cross_entropy"}},
            "distil": {"data": {"select": {"method": "difference", "fraction": 0.5}}, **distil},
        },
    }


def scores_by_hand(session: Session) -> list[float]:
    """Each text by itself, with the logits of transformers."""
    found = []
    for number in range(len(session.data().train)):
        batch = session.data().train[number]
        means = []
        for name in ("teacher", "reference"):
            module = session.models[name].module.eval()
            with torch.no_grad():
                logits = module(input_ids=batch.inputs["input_ids"]).logits.double()
            log_p = logits[0, batch.rows].log_softmax(-1)
            means.append(float(log_p.gather(1, batch.labels[:, None]).mean()))  # pyright: ignore[reportOptionalSubscript]
        found.append(means[0] - means[1])
    return found


def test_in_a_run_the_student_has_the_chosen_half_and_alone_a_random_one(tmp_path: Path):
    given = recipe(tmp_path)
    loaded = load_recipe(given)
    assert preflight(loaded, allow_code=False).problems == []
    session = Session(loaded, tmp_path / "run", Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    session.run(resume=False)
    files = {path.name.partition("-")[0]: read_selected(path) for path in (tmp_path / "run" / "selections").glob("*.json")}
    assert files.keys() == {"difference", "random"}
    found = files["difference"]
    assert found.method == {"method": "difference", "fraction": 0.5}
    expected = scores_by_hand(session)
    assert list(found.scores) == pytest.approx(expected, abs=1e-5)
    best = sorted(sorted(range(len(expected)), key=lambda row: -expected[row])[: len(found.indices)])
    assert list(found.indices) == best
    assert files["random"].indices != found.indices
    assert len(files["random"].indices) == len(found.indices)
    assert [done.outcome.updates for done in session.done] == [6, 3, 3, 3]


def test_the_command_writes_what_other_students_read(tmp_path: Path):
    given = recipe(tmp_path)
    path, found = select(given, SelectSpec(method="difference", fraction=0.25), tmp_path / "kept.json", device="cpu")  # pyright: ignore
    assert len(found.indices) == round(found.examples / 4)
    other = {**given, "student": {"model": "hf:gpt2", "args": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}}}
    other["stages"] = {"distil": {"data": {"select": str(path)}}}
    session = Session(load_recipe(other), tmp_path / "run", Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    assert len(session.data(session.phases[-1].data).train) == len(found.indices)
    assert distill(other, out=tmp_path / "run", device="cpu", allow_code=False).results["models"].keys() >= {"alone", "student"}


def test_packed_texts_are_chosen_one_by_one(tmp_path: Path):
    given = recipe(tmp_path)
    given["data"] = {**given["data"], "pack": True, "max_length": 24}
    session = Session(load_recipe(given), tmp_path / "run", Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    session.run(resume=False)
    found = read_selected(next((tmp_path / "run" / "selections").glob("difference*")))
    assert found.examples > len(session.data().train)
    assert {done.name for done in session.done} == {"teacher", "reference", "alone", "distil"}


def test_of_classes(tmp_path: Path):
    model = {"model": "mlp", "args": {"hidden": [4]}}
    select = {"method": "difference", "fraction": 0.1, "reference": "small"}
    given = {**SMALL, "data": {"source": "sklearn:digits", "limit": 100, "select": select}, "models": {"small": model}}
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    stage = session.stage(session.phases[0], 0, 0)
    assert len(stage.train) == 10
    found = read_selected(next((tmp_path / "selections").glob("*.json")))
    wide = session.data(session.phases[0].data.model_copy(update={"select": None, "pack": False})).train
    batch = wide.__getitems__(list(range(100)))
    models = [session.models[name].module.eval() for name in ("teacher", "small")]
    with torch.no_grad():
        teacher, small = (
            surprise(session.call(name)(model, batch), batch) for name, model in zip(("teacher", "small"), models, strict=True)
        )
    assert list(found.scores) == pytest.approx((small - teacher).tolist(), rel=1e-6)
    given["data"]["label_fraction"] = 0.5
    session = Session(load_recipe(given), tmp_path / "b", Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    with pytest.raises(DataError, match="the selection 'difference' reads labels, and 50 of 100 candidates have none"):
        session.stage(session.phases[0], 0, 0)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"reference": "refrence"}, "select.reference: no model of this recipe is called 'refrence'. Did you mean 'reference'?"),
        ({"teacher": "nobody"}, "select.teacher: no model of this recipe is called 'nobody'."),
    ],
)
def test_models_that_there_are_not(select: dict[str, str], message: str, tmp_path: Path):
    given = recipe(tmp_path, data={"select": {"method": "difference", "fraction": 0.5, **select}})
    with pytest.raises(RecipeError) as error:
        load_recipe(given)
    assert message in str(error.value)


def test_a_recipe_without_a_reference_is_told_to_name_one(tmp_path: Path):
    given = recipe(tmp_path)
    del given["models"], given["stages"]["reference"]
    with pytest.raises(
        RecipeError, match=r"reference: the method asks a model called 'reference'; name another with `reference`, or write"
    ):
        load_recipe(given)


@pytest.mark.parametrize("method", ["herding", "confidence", "el2n"])
def test_methods_for_classes_do_not_choose_texts(method: str, tmp_path: Path):
    given = recipe(tmp_path, data={"select": {"method": method, "fraction": 0.5}})
    with pytest.raises(LimbeckError, match=rf"data.select: '{method}' is for one class an example, and the task is causal_lm. Texts are"):
        distill(given, out=tmp_path / "run", device="cpu", allow_code=False)
    balanced = recipe(tmp_path, data={"select": {"method": "random", "balanced": True, "fraction": 0.5}})
    with pytest.raises(LimbeckError, match=r"data.select: 'random' with these keys is for one class an example"):
        distill(balanced, out=tmp_path / "run2", device="cpu", allow_code=False)


@pytest.mark.parametrize("method", ["miniplm_difference_sampling", "miniplm_select"])
def test_the_authors_choose_the_same(method: str):
    folder = Path(__file__).resolve().parents[4] / "shared" / "golden" / "language" / method
    if not folder.is_dir():
        pytest.skip("needs ../shared/golden")
    import numpy as np

    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as found:
            teacher, reference = (
                torch.from_numpy(found[next(key for key in found if key.startswith(who))]) for who in ("teacher", "reference")
            )
            scores = next(found[key] for key in found if key.endswith("scores"))
        assert loss_difference(teacher, reference).numpy() == pytest.approx(scores, rel=1e-5, abs=1e-6)
