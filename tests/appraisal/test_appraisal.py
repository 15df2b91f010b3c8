"""What `evaluate` asks for, in the results of real runs, and what is refused before."""

import csv
import re
import zlib

import numpy as np
import pytest
import torch
from tests.language_runs import recipe as language
from tests.runs import SMALL
from tests.text_models import save_text_model, sentences

import limbeck
from limbeck.appraisal import asked
from limbeck.appraisal.fairness import gaps_of
from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.evaluate.exposure import fillings
from limbeck.preflight import preflight
from limbeck.report.numbers import metric
from limbeck.taps.blocks import block_paths
from limbeck.tasks.classification import Classification


def _run(tmp_path, recipe=SMALL, **evaluate):
    return limbeck.distill({**recipe, "evaluate": evaluate}, out=tmp_path / "run", device="cpu", report=False)


def _told(**overrides):
    return [f"{problem.key}: {problem.message}" for problem in preflight(load_recipe(SMALL, set=overrides), allow_code=False).problems]


def test_nothing_is_added_where_nothing_is_asked(tmp_path):
    student = _run(tmp_path).results["models"]["student"]
    assert not {"robustness", "fairness", "train", "privacy", "layers"} & student.keys()
    assert not [key for key in student["metrics"] if key.startswith(("corrupted", "train", "worst"))]


def test_robustness(tmp_path):
    found = _run(tmp_path, corruptions=["noise", "occlusion"], severities=[1, 5]).results["models"]
    for model in found.values():
        section = model["robustness"]
        assert list(section["kinds"]) == ["noise", "occlusion"]
        values = [value for row in section["kinds"].values() for value in row]
        assert len(values) == 4
        assert model["metrics"]["corrupted_accuracy"] == section["mean"] == pytest.approx(np.mean(values))
        assert section["metric"] == "accuracy"
        assert section["severities"] == [1, 5]


def test_fidelity(tmp_path):
    result = _run(tmp_path, fidelity=True)
    student, teacher = (result.results["models"][name] for name in ("student", "teacher"))
    assert student["train"]["examples"] == 200
    assert student["metrics"]["train_accuracy"] == student["train"]["metrics"]["accuracy"]
    assert 0 <= student["agreement"]["train_top1"] <= 1
    assert student["agreement"]["train_kl"] > 0
    assert "train_top1_teacher_wrong" not in student["agreement"]
    assert teacher["agreement"] is None
    assert "right_teacher_wrong" in student["agreement"]


@pytest.fixture
def people(tmp_path):
    generator = np.random.default_rng(0)
    with (tmp_path / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "height", "sex", "bought", "spent"])
        for i in range(300):
            age, sex = int(generator.integers(18, 80)), "fm"[i % 2]
            bought = age > 50 if sex == "f" else generator.random() < 0.5
            writer.writerow([age, float(generator.normal()), sex, ("no", "yes")[int(bought)], age + 30 * (sex == "m")])
    return tmp_path / "people.csv"


def _table(people, target="bought", task="classification", learn="cross_entropy", imitate="kd"):
    return {
        "task": task,
        "data": {"source": f"csv:{people}", "args": {"target": target, "drop": ["sex", {"bought": "spent", "spent": "bought"}[target]]}},
        "teacher": {"model": "mlp", "args": {"hidden": [8]}, "weights": "random"},
        "student": {"model": "mlp", "args": {"hidden": [8]}},
        "objective": {"labels": learn, "answers": {"loss": imitate, "weight": 0.01}},
        "train": {"epochs": 12, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.02}},
    }


def test_fairness_of_classes(people, tmp_path):
    student = _run(tmp_path, _table(people), groups="sex").results["models"]["student"]
    groups, metrics = student["fairness"]["groups"], student["metrics"]
    assert list(groups) == ["f", "m"]
    assert sum(group["examples"] for group in groups.values()) == 60
    accuracies = {name: group["metrics"]["accuracy"] for name, group in groups.items()}
    assert accuracies["f"] > accuracies["m"] + 0.2  # what men buy follows from nothing
    assert metrics["worst_accuracy"] == accuracies["m"]
    assert metrics["accuracy_gap"] == pytest.approx(accuracies["f"] - accuracies["m"])
    whole = sum(group["examples"] * group["metrics"]["accuracy"] for group in groups.values()) / 60
    assert metrics["accuracy"] == pytest.approx(whole)
    gaps = student["fairness"]["gaps"]
    assert gaps["equalised_odds"] == metrics["equalised_odds_gap"] > 0
    assert gaps["parity"] == metrics["parity_gap"]
    assert gaps["nll"] == pytest.approx(abs(groups["f"]["metrics"]["nll"] - groups["m"]["metrics"]["nll"]))


def test_fairness_of_numbers(people, tmp_path):
    recipe = _table(people, "spent", "regression", "mse", "mse")
    metrics = _run(tmp_path, recipe, groups="sex").results["models"]["student"]
    errors = [group["metrics"]["rmse"] for group in metrics["fairness"]["groups"].values()]
    assert metrics["metrics"]["worst_rmse"] == max(errors)
    assert "equalised_odds_gap" not in metrics["metrics"]


def test_robustness_of_tables_and_of_numbers(people, tmp_path):
    recipe = _table(people, "spent", "regression", "mse", "mse")
    student = _run(tmp_path, recipe, corruptions=True, severities=5).results["models"]["student"]
    assert list(student["robustness"]["kinds"]) == ["noise", "missing"]
    assert student["metrics"]["corrupted_rmse"] > student["metrics"]["rmse"]


def test_robustness_of_texts(tmp_path):
    pytest.importorskip("transformers")
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([line, ("bad", "good")[label]] for line, label in sentences(80))])
    model = save_text_model(tmp_path / "model", hidden=16, layers=1)
    recipe = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'reviews.csv'}", "max_length": 16},
        "student": {"model": f"hf:{model}", "weights": "pretrained"},
        "objective": {"labels": "cross_entropy"},
        "train": {"epochs": 1, "batch_size": 16},
    }
    student = _run(tmp_path, recipe, corruptions="typos", severities=[1, 5]).results["models"]["student"]
    assert list(student["robustness"]["kinds"]) == ["typos"]
    assert student["metrics"]["corrupted_accuracy"] == pytest.approx(np.mean(student["robustness"]["kinds"]["typos"]))


def test_gaps_leave_out_what_is_not_there():
    found = gaps_of([{"a": 1.0, "auc": float("nan")}, {"a": 0.25, "auc": 0.5}, {"a": 0.5}])
    assert found == {"a": 0.75, "auc": 0.0}
    assert gaps_of([{"auc": float("nan")}]) == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"evaluate.corruptions": ["blurr"]}, "evaluate.corruptions: no corruption of image data is called 'blurr'. Did you mean 'blur'"),
        ({"evaluate.groups": "sex"}, "evaluate.groups: sklearn:digits has no groups called 'sex'"),
    ],
)
def test_what_check_finds(overrides, message):
    told = _told(**overrides)
    assert len(told) == 1
    assert re.search(re.escape(message), told[0])


@pytest.mark.parametrize(("key", "value"), [("corruptions", True), ("groups", "speaker")])
def test_what_language_models_are_not_asked(key, value, tmp_path):
    recipe = {**SMALL, "task": "causal_lm", "evaluate": {key: value}}
    problems = preflight(load_recipe(recipe), allow_code=False).problems
    assert any(problem.key == f"evaluate.{key}" and "causal_lm" in problem.message for problem in problems)


def test_short_forms():
    def read(**evaluate):
        return load_recipe({**SMALL, "evaluate": evaluate}).recipe.evaluate

    assert read(corruptions=True).corruptions == ["all"]
    assert read(corruptions=False).corruptions == []
    assert read(corruptions="blur", severities=2).corruptions == ["blur"]
    assert read(severities=2).severities == [2]
    assert read().severities == [1, 3, 5]
    assert read(cost=True).cost == [1, 64]
    assert read(cost=8).cost == [8]
    assert read(canaries="my pin is {1}").canaries == ["my pin is {1}"]


def test_a_severity_is_from_one_to_five():
    with pytest.raises(RecipeError, match=r"evaluate\.severities\[0\]"):
        load_recipe({**SMALL, "evaluate": {"severities": [6]}})


def test_membership(tmp_path):
    found = _run(tmp_path, membership=True).results["models"]
    for model in found.values():
        own = model["membership"]
        assert own["members"] == 40  # the labelled fifth of 200
        assert own["others"] == 359
        assert set(own["likelihood_ratio"]) == {"auc", "tpr_at_0.01", "tpr_at_0.001"}
        assert model["metrics"]["membership_auc"] == max(own["loss"]["auc"], own["likelihood_ratio"]["auc"])
        assert model["metrics"]["membership_tpr"] == max(own["loss"]["tpr_at_0.01"], own["likelihood_ratio"]["tpr_at_0.01"])


def test_membership_of_numbers_has_one_attack(people, tmp_path):
    recipe = _table(people, "spent", "regression", "mse", "mse")
    own = _run(tmp_path, recipe, membership=True).results["models"]["student"]["membership"]
    assert set(own) == {"members", "others", "loss"}


def test_costs_and_layers(tmp_path):
    result = _run(tmp_path, cost=[1, 8], layers=True)
    for model in result.results["models"].values():
        cost = model["cost"]
        assert list(cost["batches"]) == ["1", "8"]
        assert cost["throughput"] == cost["batches"]["8"]["throughput"] > 0
        assert cost["peak_bytes"] == cost["batches"]["8"]["peak_bytes"] > cost["batches"]["1"]["peak_bytes"] > cost["bytes"]
        assert cost["latency_p99_ms"] == cost["batches"]["1"]["latency_ms"]["p99"]
        assert (cost["energy_j"] is None) == (cost["energy_source"] is None) == bool(cost["energy_reason"])
    similarity = result.results["similarity"]
    assert len(similarity["cka"]) == len(similarity["student"]) > 1
    assert len(similarity["cka"][0]) == len(similarity["teacher"]) > 1


def test_what_evaluate_adds_is_known_with_its_direction():
    recipe = {
        **SMALL,
        "evaluate": {"corruptions": True, "fidelity": True, "groups": "block", "membership": True, "canaries": ["{1}"], "answer": "x"},
    }
    found = asked(load_recipe(recipe).recipe, Classification())
    assert set(found) == {
        *("corrupted_accuracy", "train_accuracy", "worst_accuracy", "accuracy_gap", "equalised_odds_gap", "parity_gap"),
        *("membership_auc", "membership_tpr", "exposure", "exact_match"),
    }
    assert {key: metric(key).better for key in found} == {key: "higher" if more else "lower" for key, more in found.items()}
    assert asked(load_recipe(SMALL).recipe, Classification()) == {}
    planted = {**SMALL, "data": {**SMALL["data"], "canaries": {"text": "pin #"}}}
    assert asked(load_recipe(planted).recipe, Classification()) == {"exposure": False}


def test_blocks():
    deep = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(30)])
    assert block_paths(deep)[:2] == ["0", "1"]
    assert len(block_paths(deep)) == 24
    assert block_paths(deep)[-1] == "29"
    assert block_paths(torch.nn.ModuleDict({"body": deep[:3], "pool": torch.nn.ReLU(), "head": deep[3]})) == ["body.0", "body.1", "body.2"]
    assert block_paths(torch.nn.ModuleDict({"a": deep[0], "pool": torch.nn.ReLU(), "head": deep[3]})) == ["a", "head"]


def test_planted_secrets_and_membership_of_a_language_model(tmp_path):
    pytest.importorskip("transformers")
    evaluate = {"generations": 0, "membership": True, "canaries": ["w1 w{2} w3", "w{0} w0"], "fills": 5}
    result = limbeck.distill(language(tmp_path, evaluate=evaluate), out=tmp_path / "run", device="cpu", report=False)
    model = result.results["models"]["student"]
    assert model["membership"]["members"] == 39
    assert set(model["membership"]) == {"members", "others", "loss"}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    seeds = [2, 0]
    for number, row in enumerate(model["canaries"]):
        planted, others = fillings(evaluate["canaries"][number], 5, _seed(f"canary-{number}"))
        losses = []
        for text in [planted, *others]:
            ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])  # as the texts of the data are
            with torch.no_grad():
                log_p = result.student(input_ids=ids[None]).logits[0].double().log_softmax(1)
            losses.append(-log_p[:-1].gather(1, ids[1:, None]).sum().item())
        assert row["fillings"] == 6
        assert row["rank"] == 1 + sum(other < losses[0] for other in losses[1:])
        assert row["exposure"] == pytest.approx(np.log2(6) - np.log2(row["rank"]))
        assert str(seeds[number]) in planted
    assert model["metrics"]["exposure"] == pytest.approx(np.mean([row["exposure"] for row in model["canaries"]]))


def _seed(purpose):
    """As `Session.seed` makes it of the recipe's seed 0."""
    return zlib.crc32(purpose.encode()) % 2**31


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"canaries": ["my pin is {1}"]}, "evaluate.canaries: planted texts are for causal_lm, and this is classification. Remove it."),
        ({"membership": True}, None),
    ],
)
def test_privacy_that_is_refused(evaluate, message):
    told = _told(**{f"evaluate.{key}": value for key, value in evaluate.items()})
    assert told == ([message] if message else [])


def test_a_canary_without_a_secret_is_told_at_its_place(tmp_path):
    pytest.importorskip("transformers")
    problems = preflight(load_recipe(language(tmp_path, evaluate={"canaries": ["w1 {2}", "w1"]})), allow_code=False).problems
    assert [problem.key for problem in problems] == ["evaluate.canaries[1]"]
    assert "expected one secret in braces" in problems[0].message


def test_membership_of_several_data_sets_is_refused():
    from limbeck.preflight.evaluation import _check_privacy
    from limbeck.preflight.found import Desk
    from limbeck.tasks.joint import Joint

    desk = Desk(load_recipe({**SMALL, "evaluate": {"membership": True}}), False)
    _check_privacy(desk, Joint())
    assert [problem.key for problem in desk.found.problems] == ["evaluate.membership"]


@pytest.mark.parametrize("column", ["topic", "length"])
def test_groups_of_texts(tmp_path, column):
    """A column that the models do not see, and the length."""
    lines = sentences(80)
    rows = [f"{line},{('bad', 'good')[label]},{'ab'[i // 3 % 2]}" for i, (line, label) in enumerate(lines)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label,topic", *rows]) + "\n")
    model = save_text_model(tmp_path / "model", hidden=16, layers=1)
    wanted = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'reviews.csv'}", "max_length": 16, "split": {"test": 0.5}},
        "student": {"model": f"hf:{model}", "weights": "pretrained"},
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 3, "optimizer": {"name": "adamw", "lr": 0.02}},
        "evaluate": {"groups": column},
    }
    student = limbeck.distill(wanted, out=tmp_path / "run", device="cpu", report=False).results["models"]["student"]
    groups, metrics = student["fairness"]["groups"], student["metrics"]
    assert set(groups) == ({"a", "b"} if column == "topic" else {"short", "middle", "long"})
    assert sum(group["examples"] for group in groups.values()) == 40
    accuracies = [group["metrics"]["accuracy"] for group in groups.values()]
    assert metrics["accuracy_gap"] == pytest.approx(max(accuracies) - min(accuracies))
    assert metrics["worst_accuracy"] == pytest.approx(min(accuracies))
    whole = sum(group["examples"] * group["metrics"]["accuracy"] for group in groups.values()) / 40
    assert metrics["accuracy"] == pytest.approx(whole)
