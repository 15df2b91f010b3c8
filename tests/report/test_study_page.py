"""The page of a study, rendered from really trained runs."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from pathlib import Path

import pytest
from tests.report.test_page import Page

from limbeck.errors import RunError
from limbeck.report.study import is_study, write_study_report
from limbeck.report.study.ranking import shortened
from limbeck.report.templating import soft

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>&\'"$x^2$ \\frac'


def rendered(study: Path, out: Path) -> tuple[str, Page, str]:
    text = write_study_report(study, out).read_text()
    page = Page(text)
    assert not re.search(r"(https?:)?//[a-z]", text), "refers to something elsewhere"
    assert "<script" not in text
    assert "<img" not in text
    assert len(page.ids) == len(set(page.ids)), "an id is used twice"
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids), "a link leads nowhere"
    assert page.tags.count("table") == page.tags.count("caption"), "a table without a caption"
    return text, page, re.sub(r"\s+", " ", " ".join(page.text))


@pytest.fixture(scope="module")
def page(measured, tmp_path_factory):
    """The page of the untouched study."""
    return rendered(measured, tmp_path_factory.mktemp("page") / "r.html")


def part(text: str, name: str) -> str:
    start = text.index(f'id="{name}"')
    return text[start : text.index("</section>", start)]


def part_before(text: str, name: str) -> str:
    return text[: text.index(f'id="{name}"')]


def test_the_page_holds_everything(measured, page):
    text, parsed, words = page
    for heading in ("Claims", "Ranking", "Every seed", "Accuracy against cost", "Class by class", "Learning curves", "Calibration"):
        assert heading in words
    assert "How to repeat each number" in words
    assert parsed.tags.count("h1") == 1
    assert len(text) < 1_500_000
    assert "3 arms" in words
    assert "3 seeds each" in words
    assert "limbeck study recipes/digits.yaml --seeds 3" in words
    assert "limbeck run recipes/digits.yaml" in words
    assert f"limbeck report {measured}" in words
    assert "objective.logits.temperature" in words
    assert all(tag not in text for tag in ("nan", "None%"))


def test_every_seed_is_visible(measured, page):
    text, _, words = page
    results = json.loads((measured / "results.json").read_text())
    for arm in results["arms"].values():
        values = arm["values"]["student"]["accuracy"]
        for value in values:
            assert f"{100 * value:.1f}%" in words
        assert f"{100 * statistics.mean(values):.1f}% ± {100 * statistics.stdev(values):.1f}" in words
    assert part(text, "seeds").count('class="seed"') == 3 * part(text, "seeds").count('class="mean"')


def test_a_figure_of_the_headline_has_the_colour_of_its_model(page):
    text, _, _ = page
    tiles = re.findall(r'<dt>([^<,]+).*?<dd style="--c: var\(--([a-z0-9-]+)\)">', part_before(text, "claims"))
    dots = dict(re.findall(r'style="--c: var\(--([a-z0-9-]+)\)"></span>([^<]+)', part(text, "seeds")))
    colours = {name.strip(): colour for colour, name in dots.items()}
    shown = [(name, colour) for name, colour in tiles if name in colours]
    assert len(shown) >= 2
    assert all(colours[name] == colour for name, colour in shown)


def test_claims_with_verdict_interval_and_needed_seeds(measured, page):
    text, _, words = page
    claims = part(text, "claims")
    for verdict, tone in (("holds", "good"), ("fails", "bad"), ("undecided", "open")):
        assert f'<span class="mark {tone}">{verdict}</span>' in claims
    assert claims.count('class="range"') == 3
    assert claims.count('class="zero"') == 3
    assert "About 17 seeds would decide it." in words
    assert "1 of 3 claims hold, 1 fails, 1 is undecided." in words
    first = json.loads((measured / "results.json").read_text())["claims"][0]
    assert f"+{first['estimate']:.2f}" in claims or f"+{first['estimate']:.3f}" in claims


def test_claims_of_unlike_sizes_have_scales_of_their_own(numbers, alter, tmp_path):
    alter(lambda results: results["claims"][0].update(estimate=900.0, low=800.0, high=1000.0))
    text, _, words = rendered(numbers, tmp_path / "r.html")
    assert "Every line has a scale of its own" in words
    assert part(text, "claims").count("--at:50.0%") >= 3  # the line of zero is in the middle of each
    assert "+900" in words


def test_ranking_shows_ranks_differences_and_critical_differences(measured, page):
    text, _, words = page
    ranking = part(text, "ranking")
    results = json.loads((measured / "results.json").read_text())["ranking"]
    assert "CD = 1.91" in words
    assert "Critical-difference diagram. Mean ranks: " in text
    assert ranking.count('class="clique"') == 2
    for name, rank in results["mean_rank"].items():
        assert f"mean rank {rank:.2f}" in words
        assert f"<title>{name}</title>" in ranking
    assert ranking.count('class="point"') == 2  # all but the baseline
    pair = next(pair for pair in results["pairs"] if (pair["a"], pair["b"]) == ("plain", "wide"))
    assert f"{-100 * pair['mean']:+.1f}".replace("-", "−") + " pts" in words  # noqa: RUF001


def test_without_a_ranking_differences_are_taken_from_the_values(numbers, alter, tmp_path):
    alter(lambda results: results.pop("ranking"))
    text, _, words = rendered(numbers, tmp_path / "r.html")
    assert part(text, "ranking").count('class="range"') == 2
    assert "CD =" not in words
    assert "mean rank" not in part(text, "ranking").replace("mean rank over", "")


def test_names_of_users_are_escaped(study, alter, tmp_path):
    def change(results):
        results["about"] = dict.fromkeys(("title", "paper", "claim", "notes"), EVIL)
        results |= {"recipe": EVIL, "limbeck": EVIL, "slug": EVIL, "environment": {EVIL: EVIL}, "task": EVIL}
        results["arms"] = {f"{EVIL}{name}": {**arm, "set": {EVIL: EVIL}} for name, arm in results["arms"].items()}
        results["arms"][f"{EVIL}wide"]["values"][EVIL] = results["arms"][f"{EVIL}wide"]["values"].pop("teacher")
        results["arms"][f"{EVIL}wide"]["values"]["student"][EVIL] = [0.1, 0.2, 0.3]
        rank = results["ranking"]
        rank["order"] = [EVIL + name for name in rank["order"]]
        rank["mean_rank"] = {EVIL + name: value for name, value in rank["mean_rank"].items()}
        rank["cliques"] = [[EVIL + name for name in clique] for clique in rank["cliques"]]
        results["claims"][0] |= {"text": EVIL, "verdict": EVIL, "reason": EVIL}

    alter(change)
    for file in study.glob("runs/*/*/results.json"):
        run = json.loads(file.read_text())
        run["data"]["classes"] = [EVIL] * 10
        groups = {EVIL: {"examples": 3, "metrics": {"accuracy": 0.5}}, "other": {"metrics": {}}}
        run["models"]["student"]["fairness"] = {"column": EVIL, "groups": groups, "gaps": {}}
        file.write_text(json.dumps({**run, "command": EVIL}))
    text, _, words = rendered(study, tmp_path / "r.html")
    assert 'alert("x")' in words
    assert "What others gain in each group" in words
    assert 'id="classes"' in text


@pytest.mark.parametrize("gone", ["recipe.yaml", "study.json", "runs"])
def test_missing_files_leave_gaps(study, tmp_path, gone):
    file = study / gone
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    _, _, words = rendered(study, tmp_path / "r.html")
    assert "Every seed" in words
    if gone == "runs":
        assert "9 of 9 run directories are missing" in words
        assert "Learning curves" not in words


def test_any_part_of_the_results_may_be_missing(numbers, alter, tmp_path):
    results = alter(lambda results: None)
    for key in results:
        if key != "kind":
            for broken in (None, [], "x", 3, {"a": 1}):
                (numbers / "results.json").write_text(json.dumps({**results, key: broken}))
                text, _, _ = rendered(numbers, tmp_path / "r.html")
                assert text.rstrip().endswith("</html>")
    for key in results["arms"]["cold"]:
        for broken in (None, [None], {"student": {"accuracy": [None, "x", float("nan")]}}):
            arms = {**results["arms"], "cold": {**results["arms"]["cold"], key: broken}}
            (numbers / "results.json").write_text(json.dumps({**results, "arms": arms}))
            rendered(numbers, tmp_path / "r.html")
    for key in results["claims"][0]:
        claims = [{**results["claims"][0], key: None}, {}, None]
        (numbers / "results.json").write_text(json.dumps({**results, "claims": claims}))
        rendered(numbers, tmp_path / "r.html")
    for key in results["ranking"]:
        (numbers / "results.json").write_text(json.dumps({**results, "ranking": {**results["ranking"], key: None}}))
        rendered(numbers, tmp_path / "r.html")


def test_a_single_arm_is_compared_with_the_student_alone(numbers, alter, tmp_path):
    def change(results):
        results["arms"] = {"distilled": results["arms"]["plain"]}
        results.pop("ranking")
        results["claims"] = [{**results["claims"][0], "text": "distilled.accuracy > alone.accuracy"}]

    results = alter(change)
    text, _, words = rendered(numbers, tmp_path / "r.html")
    values = results["arms"]["distilled"]["values"]
    gaps = [a - b for a, b in zip(values["student"]["accuracy"], values["alone"]["accuracy"], strict=True)]
    assert f"{abs(100 * statistics.mean(gaps)):.1f} pts" in words
    assert "Its claim holds." in words
    assert 'id="ranking"' not in text
    assert "distilled, alone" not in words


def test_an_unfinished_study_shows_what_there_is(study, tmp_path):
    (study / "results.json").unlink()
    shutil.rmtree(study / "runs" / "wide" / "seed-2")
    (study / "runs" / "cold" / "seed-1" / "results.json").unlink()
    _, _, words = rendered(study, tmp_path / "r.html")
    assert "The study is not finished: 7 of 9 runs are." in words
    assert f"limbeck study {study} --resume" in words
    for run in (study / "runs").iterdir():
        shutil.rmtree(run)
    _, _, words = rendered(study, tmp_path / "r.html")
    assert "0 of 9" in words
    assert "No results yet" in words


def test_a_file_of_results_is_enough(measured, tmp_path):
    file = tmp_path / "kd.json"
    shutil.copy(measured / "results.json", file)
    assert is_study(file)
    _, _, words = rendered(file, tmp_path / "r.html")
    assert "run directories are missing" not in words
    assert "Every seed" in words


def test_a_path_out_of_the_folder_is_not_followed(study, alter, tmp_path):
    shutil.move(study / "runs" / "plain" / "seed-0", tmp_path / "elsewhere")

    def change(results):
        results["arms"]["plain"]["runs"][0] = "../elsewhere"

    alter(change)
    _, _, words = rendered(study, tmp_path / "r.html")
    assert "1 of 9 run directories are missing" in words


def test_groups(study, tmp_path):
    shares = {"plain": (0.5, 0.8), "cold": (0.6, 0.8), "wide": (0.9, 0.7)}
    for arm, values in shares.items():
        for seed in range(3):
            file = study / "runs" / arm / f"seed-{seed}" / "results.json"
            run = json.loads(file.read_text())
            groups = {name: {"examples": 9, "metrics": {"accuracy": value}} for name, value in zip(("young", "old"), values, strict=True)}
            run["models"]["student"]["fairness"] = {"column": "age", "groups": groups, "gaps": {}}
            file.write_text(json.dumps(run))
    text, _, _ = rendered(study, tmp_path / "r.html")
    cells = re.findall(r'<td class="(\w+)"[^>]*>([^<]*)</td>', part(text, "groups"))
    assert cells == [("plain", "50.0%"), ("good", "+10.0"), ("good", "+40.0"), ("plain", "80.0%"), ("plain", "±0.0"), ("bad", "−10.0")]  # noqa: RUF001


def test_names_in_the_diagram_are_told_apart():
    assert shortened(["kd", "dkd"]) == {"kd": "kd", "dkd": "dkd"}
    names = [f"soft,temperature={i},objective.hint.weight={i / 10}" for i in (1, 2)]
    assert list(shortened(names).values()) == ["1,obje…t=0.1", "2,obje…t=0.2"]


def test_long_names_may_be_broken():
    assert str(soft("a.b=0.5,<x>")) == "a.<wbr>b=0.5,<wbr>&lt;x&gt;"


def test_lower_is_better(numbers, alter, tmp_path):
    def change(results):
        results |= {"primary": "ece", "better": "lower"}
        results.pop("ranking")
        for name, values in (("plain", [0.3, 0.31, 0.3]), ("cold", [0.1, 0.11, 0.12]), ("wide", [0.5, 0.5, 0.51])):
            results["arms"][name]["values"]["student"]["ece"] = values

    alter(change)
    text, _, words = rendered(numbers, tmp_path / "r.html")
    assert "cold is ahead of plain: −0.193 calibration error" in words  # noqa: RUF001
    ranking = part(text, "ranking")
    assert ranking.index(">cold<") < ranking.index(">plain<") < ranking.index(">wide<")
    assert 'class="track-line good"' in ranking
    assert 'class="track-line bad"' in ranking


def test_many_arms(study, alter, tmp_path):
    def change(results):
        arm = results["arms"]["plain"]
        for i in range(60):
            results["arms"][f"arm {i:02d} with a rather long name"] = arm
        results["ranking"]["mean_rank"] = {name: 1 + i for i, name in enumerate(results["arms"])}

    alter(change)
    text, _, words = rendered(study, tmp_path / "r.html")
    assert "63 arms" in words
    assert "55 are left out" in words
    assert text.count("</svg>") < 30
    assert len(text) < 2_500_000


def test_mistakes(measured, numbers, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        write_study_report(tmp_path / "nothing", tmp_path / "r.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="this is no study"):
        write_study_report(tmp_path / "empty", tmp_path / "r.html")
    with pytest.raises(RunError, match="holds no results of a study"):
        write_study_report(measured / "runs" / "plain" / "seed-0", tmp_path / "r.html")
    with pytest.raises(RunError, match="is a directory"):
        write_study_report(numbers, tmp_path)
    (numbers / "results.json").write_text("[")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        write_study_report(numbers, tmp_path / "r.html")
    assert is_study(numbers)
