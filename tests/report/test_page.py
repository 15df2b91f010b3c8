"""The page, really rendered from really trained runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.runs import PATIENCE

from limbeck.errors import RunError
from limbeck.report import write_report

VOID = {"meta", "link", "br", "wbr", "img", "hr", "path", "use", "rect", "line", "circle"}


class Page(HTMLParser):
    """Collects what the tests ask for and insists that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [value or "" for key, value in attrs if key in ("href", "src", "xlink:href")]
        if tag == "svg":
            assert values["role"] == "img"
            assert len(values["aria-label"]) > 20
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def rendered(runs: list[Path], out: Path) -> tuple[str, Page, str]:
    text = write_report(runs, out).read_text()
    page = Page(text)
    assert page.tags.count("h1") == 1
    assert len(page.ids) == len(set(page.ids)), "an id is used twice"
    assert page.tags.count("table") == page.tags.count("caption"), "a table without a caption"
    return text, page, re.sub(r"\s+", " ", " ".join(page.text))


def test_one_run_is_complete_and_self_contained(run, tmp_path):
    text, page, words = rendered([run], tmp_path / "r.html")
    assert len(text) < 1_500_000
    assert not re.search(r"(https?:)?//[a-z]", text), "refers to something elsewhere"
    assert "<script" not in text
    assert "@import" not in text
    assert all(link.startswith(("#", "data:,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids), "a link leads nowhere"
    for heading in ("Numbers", "Training", "Calibration", "Confusion", "Similarity of layers", "Cost", "What was run"):
        assert heading in words
    assert "limbeck run recipes/digits.yaml" in words
    assert "label_fraction: 0.07" in words
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_numbers_are_those_of_the_run(run, tmp_path):
    _, _, words = rendered([run], tmp_path / "r.html")
    models = json.loads((run / "results.json").read_text())["models"]
    for model in models.values():
        assert f"{100 * model['metrics']['accuracy']:.1f}%" in words
        assert f"{model['metrics']['ece']:.3f}" in words
        assert f"{model['cost']['parameters']:,}" in words
    assert f"{100 * models['student']['agreement']['top1']:.1f}%" in words


def test_svg_texts_are_texts_and_colours_follow_the_theme(run, tmp_path):
    text, _, _ = rendered([run], tmp_path / "r.html")
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) == 4 + 3 + 1  # validation and three stages; three reliability diagrams; layers
    for drawing in drawings:
        assert "<text" in drawing
        assert "var(--muted)" in drawing
        assert not re.search(r"#[0-9a-f]{6}", drawing.replace("#000000", "")), "a colour that no theme controls"
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", drawing)]
        assert min(sizes) >= 10


def test_user_strings_are_escaped(run, change, tmp_path):
    evil = '<script>alert("x")</script>&\'"'
    results = change(about={"title": evil, "paper": evil, "claim": evil, "notes": evil}, command=evil, recipe=evil, limbeck=evil)
    results["data"]["classes"] = [evil + str(i) for i in range(10)]
    results["data"]["source"] = evil
    results["similarity"]["student"] = [evil] * len(results["similarity"]["student"])
    results["models"]["student"]["reference"] = evil
    results["models"][evil] = {**results["models"]["teacher"]}
    results["stages"][0]["name"] = evil
    change(**results)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines[:40]:
        line["stage"] = evil
        line["values"] = {evil: 1.0, **line["values"]}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (run / "recipe.yaml").write_text(evil)
    (run / "environment.json").write_text(json.dumps({evil: evil}))
    text, _, words = rendered([run], tmp_path / "r.html")
    assert "<script" not in text
    assert 'alert("x")' in words  # shown, not run
    other = tmp_path / "b<img src=x onerror=alert(1)>"
    shutil.copytree(run, other)
    text, _, _ = rendered([run, other], tmp_path / "c.html")
    assert "<script" not in text
    assert "<img" not in text


@pytest.mark.parametrize("gone", ["metrics.jsonl", "recipe.yaml", "environment.json"])
def test_missing_files_leave_gaps_not_errors(run, tmp_path, gone):
    (run / gone).unlink()
    text, _, _ = rendered([run], tmp_path / "r.html")
    assert "Accuracy" in text


def test_missing_parts_leave_gaps_not_errors(run, change, tmp_path):
    results = change()
    (run / "metrics.jsonl").unlink()  # drawing is slow, and the curves have tests of their own
    for name in ("teacher", "alone"):
        results["models"][name]["reliability"] = None
    student = {"role": "distilled", "reference": "convnet", "metrics": {"accuracy": float("nan"), "ece": None}}
    nothing = [{}, {"models": {}}, {"models": {"student": student}}, {"models": {"student": None, "teacher": results["models"]["teacher"]}}]
    for i, parts in enumerate(nothing):
        (run / "results.json").write_text(json.dumps(parts))
        text, _, _ = rendered([run], tmp_path / f"{i}.html")
        assert text.rstrip().endswith("</html>")
    for key in results:
        (run / "results.json").write_text(json.dumps({**results, key: None}))
        rendered([run], tmp_path / f"none-{key}.html")
        rendered([run, _copy(run, tmp_path / f"copy-{key}")], tmp_path / f"two-{key}.html")
    for key in results["models"]["student"]:
        models = {name: {**model, key: None} for name, model in results["models"].items()}
        (run / "results.json").write_text(json.dumps({**results, "models": models}))
        rendered([run], tmp_path / f"model-{key}.html")


def _copy(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def test_broken_log_lines_and_numbers_are_left_out(run, tmp_path):
    with (run / "metrics.jsonl").open("a") as log:
        log.write(
            '{"stage": "distil", "round": 0, "kind": "train", "step": 9999, "values": {"total": NaN, "logits": Infinity, "labels": null}}\n'
        )
        log.write('[1, 2]\n"text"\n{"stage": "distil", "kind": "tra')
    text, _, _ = rendered([run], tmp_path / "r.html")
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).lower().replace("dominant", "")


def test_many_classes_become_a_list_of_pairs(run, change, tmp_path):
    results = change()
    size = 200
    matrix = [[9 if i == j else 0 for j in range(size)] for i in range(size)]
    matrix[3][7], matrix[150][2] = 5, 8
    results["models"]["student"]["confusion"] = matrix
    results["data"]["classes"] = [f"kind {i}" for i in range(size)]
    change(**results)
    text, _, words = rendered([run], tmp_path / "r.html")
    assert "With 200 classes" in words
    assert words.index("kind 150") < words.index("kind 3")  # the worst first
    assert "The distilled student</span></caption>" not in text
    assert len(text) < 400_000


def test_long_logs_stay_small(run, tmp_path):
    lines = [
        {"stage": "distil", "round": r, "kind": "train", "step": s, "values": {f"term{i}": 1 / (1 + s) for i in range(6)}}
        for r in range(3)
        for s in range(20_000)
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert write_report([run], tmp_path / "r.html").stat().st_size < 1_500_000


def test_several_runs(trained, tmp_path):
    text, page, words = rendered(list(trained.values()), tmp_path / "c.html")
    assert not re.search(r"(https?:)?//[a-z]", text)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("table") == page.tags.count("caption")
    for name in trained:
        assert name in words
    assert "objective.logits.temperature" in words
    differing = text[text.index('id="recipes"') : text.index('id="training"')]
    assert "baseline" not in differing
    assert "label_fraction" not in differing
    assert "Over seeds" in words
    assert words.count("Validation") == 0 or "distil: validation accuracy" in words
    first = [json.loads((run / "results.json").read_text())["models"]["student"]["metrics"]["accuracy"] for run in trained.values()]
    change = 100 * (first[2] - first[0])
    sign = "±" if abs(change) < 0.05 else "+" if change > 0 else "−"  # noqa: RUF001
    assert f"{sign}{abs(change):.1f} pts" in words


def test_user_mistakes(run, tmp_path):
    with pytest.raises(RunError, match="not a directory"):
        write_report([tmp_path / "nothing"], tmp_path / "r.html")
    with pytest.raises(RunError, match="no run directory was given"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(RunError, match="given twice"):
        write_report([run, run], tmp_path / "r.html")
    with pytest.raises(RunError, match="is a directory"):
        write_report([run], tmp_path)
    (run / "results.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        write_report([run], tmp_path / "r.html")
    (run / "results.json").unlink()
    with pytest.raises(RunError, match="--resume"):
        write_report([run], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<!DOCTYPE html><body style="margin:0"><iframe id="f" src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>f.onload = () => {{ const d = f.contentDocument.documentElement, w = f.contentWindow;
const t = [...d.querySelectorAll("svg text")].map(e => e.getBoundingClientRect().height);
const s = [...d.querySelectorAll("svg")].map(e => e.getBoundingClientRect());
const right = Math.max(...s.map(r => r.right));
document.title = JSON.stringify({{scroll: d.scrollWidth, inner: w.innerWidth, text: Math.min(...t), right}}) }}
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium to lay the page out")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("several", [False, True])
def test_nothing_scrolls_sideways_in_a_browser(trained, tmp_path, width, several):
    runs = list(trained.values()) if several else [trained["seed0"]]
    page = write_report(runs, tmp_path / "page.html")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(page=page.name, width=width))
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    flags += " --disable-sync --no-first-run"
    command = [str(BROWSER), *flags.split(), "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    found = json.loads(title)
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert found["right"] <= width
    assert found["text"] >= 9, "text of a figure is too small to read"
