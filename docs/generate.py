"""Makes the reference pages of the documentation from the code, whenever the site is built.

A hook of MkDocs (see mkdocs.yml). Every page that lists parts, keys or commands comes from the code itself, so a loss that exists has its
page. Formulas become MathML here, so that a reader's browser needs no script and no network for them.
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from limbeck import survey
from limbeck.cli import main as command
from limbeck.cli._show import example, needs_in_words, recipes
from limbeck.config import data_schema, evaluate_schema, model_schema, rollout_schema, schema, study_schema, term_schema, train_schema
from limbeck.config.load import load_recipe
from limbeck.config.spec import Spec
from limbeck.data.mixing import MIXINGS
from limbeck.data.selection import SELECTIONS
from limbeck.data.sources import SOURCES
from limbeck.data.transforms import TRANSFORMS
from limbeck.describe import FAMILIES, Doc, Field, describe, describe_file
from limbeck.errors import RecipeError
from limbeck.evidence import NO_RECIPES, entries
from limbeck.models.build import BUILTINS
from limbeck.registry import ACTIONS, ADAPTERS, LOSSES, STEPS, TARGETS, TASKS, TEACHERS, Registry
from limbeck.testing.parity.compared import compared

ROOT = Path(__file__).resolve().parents[1]
PARTS: dict[str, tuple[Registry, str]] = {
    "adapters": (ADAPTERS, "Bridges from a student's feature to a teacher's, trained with the student and left out of what is exported."),
    "targets": (
        TARGETS,
        "What is done to the signals of both models before a loss compares them. Set by `targets` in a term of the objective: "
        "a name, a name with its fields, or a list that is applied in order.",
    ),
    "tasks": (TASKS, "What a kind of data and labels needs: how a batch becomes signals, and which metrics judge them. Set by `task`."),
    "teachers": (TEACHERS, "Kinds of teacher. Set by `teacher.kind`."),
    "sources": (SOURCES, "Where examples come from. `data.source` is written `NAME:WHERE`; the fields below go under `data.args`."),
    "transforms": (TRANSFORMS, "Training-time augmentation, listed in `data.transforms`: a name, or a name with its fields."),
    "mixing": (
        MIXINGS,
        "How the inputs of an update are mixed. Set by `data.mix`: a kind, or a kind with its fields. What it means for labels and "
        "teachers is told in [Recipes](../recipe.md#mixed-inputs).",
    ),
    "selections": (
        SELECTIONS,
        "Which training examples are kept. Set by `data.select.method`, with its fields beside it, or by `limbeck select --method`.",
    ),
    "models": (
        BUILTINS,
        "Small models that come with Limbeck. Others are named `timm:NAME`, `torchvision:NAME`, `hf:ID_OR_FOLDER` or "
        "`module:callable`. The arguments go under `args`; those that the data gives need not be written.",
    ),
    "steps": (STEPS, "How a batch becomes an update. Set by `train.step`."),
    "actions": (ACTIONS, "What may happen between two rounds of a stage that repeats. Set by `stages.NAME.between`."),
}
"""Page to the registry that it shows and its first sentence."""

SECTIONS: dict[str, tuple[type[Spec], ...]] = {
    "The recipe": (schema.Recipe, schema.About),
    "Data": (
        data_schema.DataSpec,
        data_schema.SplitSpec,
        data_schema.MixSpec,
        data_schema.ViewSpec,
        data_schema.DatasetSpec,
        data_schema.PoolSpec,
        data_schema.SelectSpec,
        rollout_schema.RolloutSpec,
        rollout_schema.AgainSpec,
        data_schema.CanarySpec,
    ),
    "Models": (
        model_schema.ModelSpec,
        model_schema.ShrinkSpec,
        model_schema.LoraSpec,
        model_schema.PromptSpec,
        model_schema.SourcesSpec,
        model_schema.TeacherSpec,
        schema.PlayerSpec,
        model_schema.Normalize,
    ),
    "Objective": (
        term_schema.TermSpec,
        term_schema.AdapterSpec,
        term_schema.TargetSpec,
        term_schema.Schedule,
        term_schema.Kept,
        term_schema.Alike,
    ),
    "Training": (
        train_schema.TrainSpec,
        train_schema.MixtureSpec,
        train_schema.OptimizerSpec,
        train_schema.LRSchedule,
        train_schema.EMASpec,
        train_schema.EarlyStop,
    ),
    "Stages": (schema.StageSpec, schema.PeerSpec),
    "Evaluation": (evaluate_schema.EvaluateSpec, evaluate_schema.FusedSpec),
    "Studies": (study_schema.StudySpec, study_schema.ArmSpec),
}
WHERE = {
    "Recipe": "top level", "About": "about", "DataSpec": "data", "SplitSpec": "data.split", "ViewSpec": "data.views.NAME",
    "DatasetSpec": "data.datasets.NAME", "MixSpec": "data.mix", "PoolSpec": "data.pool", "SelectSpec": "data.select",
    "RolloutSpec": "data.rollouts", "AgainSpec": "data.rollouts.again", "CanarySpec": "data.canaries",
    "ModelSpec": "student", "ShrinkSpec": "MODEL.shrink", "LoraSpec": "MODEL.lora", "PromptSpec": "MODEL.prompt",
    "SourcesSpec": "student.sources",
    "TeacherSpec": "teacher, teachers.NAME", "PlayerSpec": "models.NAME", "Normalize": "MODEL.normalize", "TermSpec": "objective.LABEL",
    "AdapterSpec": "objective.LABEL.adapter", "TargetSpec": "objective.LABEL.targets", "Schedule": "a value that changes",
    "Kept": "objective.LABEL.weight", "Alike": "objective.LABEL.weight (alike)",
    "TrainSpec": "train", "MixtureSpec": "train.mixture",
    "OptimizerSpec": "train.optimizer", "LRSchedule": "train.schedule", "EMASpec": "train.ema",
    "EarlyStop": "train.early_stop", "StageSpec": "stages.NAME", "PeerSpec": "peers.NAME",
    "EvaluateSpec": "evaluate", "FusedSpec": "evaluate.fused.NAME", "StudySpec": "study", "ArmSpec": "study.arms.NAME",
}  # fmt: skip
"""Where in a recipe each of the schema's models stands."""


COVERAGE = (
    "The axes are those of Xu et al., *A Survey on Knowledge Distillation of Large Language Models*, 2024, arXiv:2402.13116, section 3. "
    "What covers an entry follows from what the parts say of themselves: a kind of teacher from where its model comes from, a loss from "
    "what it reads. Texts that a teacher writes (`limbeck generate`) are learnt as labels, and count as such. The skills and domains of "
    "the survey are those of the data, and have no entry here."
)

# hooks of MkDocs


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the generated pages into the navigation."""
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Losses" in entry:
            families = [{family.capitalize(): [f"losses/{d.name}.md" for d in docs]} for family, docs in by_family().items()]
            entry["Losses"] = ["losses.md", *families]
        if isinstance(entry, dict) and "Parts" in entry:
            entry["Parts"] = [f"parts/{page}.md" for page in PARTS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {f"losses/{name}.md": loss_page(describe(LOSSES, name)) for name in LOSSES.files()}
    pages |= {f"parts/{page}.md": parts_page(page, registry, text) for page, (registry, text) in PARTS.items()}
    pages |= {"keys.md": keys_page(), "commands.md": commands_page(), "evidence.md": evidence_page(), "coverage.md": coverage_page()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces a line `::: module:name` by what the code says of that name, and `::: losses` by the table of all losses."""
    markdown = re.sub(r"^::: losses$", lambda _: losses_table(), markdown, flags=re.MULTILINE)
    return re.sub(r"^::: (\S+):(\S+)$", lambda found: api(found[1], found[2]), markdown, flags=re.MULTILINE)


def on_page_content(html: str, **_: Any) -> str:
    """Turns code written between dollars into formulas."""
    html = re.sub(r"<p><code>\$\$(.+?)\$\$</code></p>", lambda found: f'<div class="formula">{mathml(found[1], "block")}</div>', html)
    return re.sub(r"<code>\$([^$]+?)\$</code>", lambda found: mathml(found[1], "inline"), html)


# pages


def losses_table() -> str:
    """All losses, a table a family."""
    lines: list[str] = []
    for family, docs in by_family().items():
        lines += [
            f"## {family.capitalize()}",
            "",
            f"{FAMILIES[family].capitalize()}.",
            "",
            "| loss | when to use it | paper |",
            "|---|---|---|",
        ]
        lines += [
            f"| [{d.name}](losses/{d.name}.md) | {_cell(_text(_sentence(d.when_to_use)))} | {_cell(d.short_reference)} |" for d in docs
        ]
        lines += [""]
    return "\n".join(lines)


def by_family() -> dict[str, list[Doc]]:
    """The losses, grouped."""
    docs = [describe(LOSSES, name) for name in LOSSES.files()]
    return {family: own for family in FAMILIES if (own := [doc for doc in docs if doc.family == family])}


def loss_page(doc: Doc) -> str:
    """The page of a loss."""
    kinds = doc.needs.get("label_kinds", ("class", "multilabel", "real"))
    words = {"class": "one class an example", "multilabel": "several labels an example", "real": "numbers"}
    lines = [f"# {doc.name}", "", f"**{_text(doc.title)}.**", "", _text(doc.summary), ""]
    lines += [line for formula in doc.formula.splitlines() for line in (f"`$${formula}$$`", "")]
    lines += [_text(doc.description), "", f"Reference: {doc.reference}", ""]
    lines += ["## When to use it", "", _text(_sentence(doc.when_to_use)), ""] if doc.when_to_use else []
    lines += [f"It reads {needs_in_words(doc.needs)}." if doc.needs else "", ""]
    lines += [f"Labels: {', '.join(words[kind] for kind in kinds)}.", ""]
    lines += [f"Cost: {_text(doc.cost)}", ""] if doc.cost else []
    lines += ["## Fields", "", *fields_table(doc.fields), ""] if doc.fields else ["It has no fields of its own.", ""]
    lines += ["## In a recipe", "", "```yaml", example(doc), "```", ""]
    used = recipes(doc)
    lines += recipe_shown(doc.name, used)
    lines += ["## In Python", "", "```python", f"from limbeck.losses.{doc.name} import {doc.class_name}", "",
              f"loss = {doc.class_name}({', '.join(f'{f.name}={_python(f.default)}' for f in doc.fields)})",
              "values = loss(student_signals, teacher_signals, labels)  # never averaged over examples", "```", ""]  # fmt: skip
    return "\n".join([*lines, *parity_section(doc.name), *evidence_section(doc.name), f"Source: `{_short(doc.file)}`"])


def recipe_shown(name: str, used: list[str]) -> list[str]:
    """The recipe that is called like the loss, or else the first that uses it, in full; and the others' names."""
    if not used:
        return []
    shown = next((path for path in used if Path(path).stem == name), used[0])
    lines = [f"A whole recipe, `{shown}`:", "", "```yaml", (ROOT / shown).read_text(encoding="utf-8").strip(), "```", ""]
    others = [f"`{path}`" for path in used if path != shown]
    more = f" and {len(others) - 6} more" if len(others) > 6 else ""
    return [*lines, *([f"Others that use it: {', '.join(others[:6])}{more}.", ""] if others else [])]


def parity_section(name: str) -> list[str]:
    """Which official implementations the loss is compared with, and what came of it."""
    evidence = json.loads((ROOT / "evidence" / "parity.json").read_text(encoding="utf-8"))
    tested = [method for method, losses in compared().items() if name in losses and method in evidence["methods"]]
    lines = ["## Parity", ""]
    if not tested:
        return [*lines, "It is tested against its formula; there are no stored numbers of an official implementation.", ""]
    versions = " and ".join(f"{package} {number}" for package, number in evidence["versions"].items())
    lines += [f"Values and gradients beside those that official implementations gave for the same inputs, with {versions}:", ""]
    lines += ["| numbers | implementation | cases | largest relative difference | verdict |", "|---|---|---|---|---|"]
    for method in tested:
        found = evidence["methods"][method]
        error = "" if found["error"] is None else f"{found['error']:.0e}"
        verdict = {"pass": "agrees", "missing": "not compared yet"}.get(found["verdict"], found["verdict"])
        lines.append(f"| {method} | {_cell(found['origin'])} | {found['cases']} | {error} | {verdict} |")
    return [*lines, ""]


def evidence_section(name: str) -> list[str]:
    """What the study of the recipe that is called like the loss says of its claims, also where they fail."""
    found = next((entry for entry in entries(ROOT / "evidence") if Path(entry.recipe).stem == name), None)
    if found is None or not found.seeds:
        return []
    lines = [
        "## Evidence",
        "",
        f"What `{found.recipe}` claims, over {found.seeds} seeds ([how claims are decided](../studies.md#claims)):",
        "",
        *([f"To be done in minutes, it was shortened by `{_cell(found.shortened)}`.", ""] if found.over else []),
    ]
    lines += ["| claim | verdict | left less right | interval |", "|---|---|---|---|"]
    for claim in found.claims:
        interval = "" if claim.low is None else f"{claim.low:+.3g} to {claim.high:+.3g}"
        estimate = "" if claim.estimate is None else f"{claim.estimate:+.3g}"
        lines.append(f"| `{_cell(claim.text)}` | **{claim.verdict}** | {estimate} | {interval} |")
    return [*lines, ""]


def evidence_page() -> str:
    """The claims of all recipes and what came of them."""
    found = entries(ROOT / "evidence")
    text = (
        "What the recipes claim, and what their [studies](studies.md) say: real runs on real data, kept in `evidence/` with every value. "
    )
    text += (
        "`make evidence ONLY=NAME` repeats one. A claim that fails is shown as failing. Recipes that take too long are shortened (below); "
    )
    text += "what is claimed of them then is claimed of the shorter run."
    lines = ["# Evidence", "", text, ""]
    verdicts = [claim.verdict for entry in found for claim in entry.claims]
    lines += [", ".join(f"{verdicts.count(word)} {word}" for word in ("holds", "fails", "undecided") if word in verdicts) + ".", ""]
    lines += ["| recipe | claim | verdict | left less right | parity |", "|---|---|---|---|---|"]
    for entry in found:
        for claim in entry.claims:
            wide = "" if claim.estimate is None else f"{claim.estimate:+.3g}"
            wide += "" if claim.low is None else f" ({claim.low:+.3g} to {claim.high:+.3g})"
            lines.append(f"| {entry.slug} | `{_cell(claim.text)}` | **{claim.verdict}** | {wide} | {entry.parity or ''} |")
    if shorter := [entry for entry in found if entry.over]:
        lines += ["", "## What was shortened", "", "| recipe | what was laid over it |", "|---|---|"]
        lines += [f"| {entry.slug} | `{_cell(entry.shortened)}` |" for entry in shorter]
    lines += ["", "## Recipes without evidence", "", "| recipe | why |", "|---|---|"]
    lines += [
        f"| {entry.slug} | {f'needs {entry.needs}' if entry.needs is not None else 'not run yet'} |" for entry in found if not entry.seeds
    ]
    return "\n".join(lines) + "\n"


def coverage_page() -> str:
    """Which entries of a survey's taxonomy the registered parts cover, and which pairs the shipped recipes train."""
    lines = ["# Coverage", "", COVERAGE, "", "## How knowledge is elicited", "", *_covered(survey.elicitations())]
    lines += ["", "## How the student learns it", "", *_covered(survey.algorithms())]
    count: dict[tuple[str, str], list[str]] = {}
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        try:
            found = survey.cells(load_recipe(path).recipe.model_dump(by_alias=True)) if path.parent.name != NO_RECIPES else set()
        except RecipeError:  # its data are the reader's own
            continue
        for cell in found:
            count.setdefault(cell, []).append(path.stem)
    text = "Number of shipped recipes with such a term, and one of them; those that need data of one's own are left out."
    lines += ["", "## What the recipes train", "", text, ""]
    lines += [f"| | {' | '.join(survey.ALGORITHMS)} |", "|---|" + "---|" * len(survey.ALGORITHMS)]
    for kind in ("labels", *survey.ELICITATION):
        cells = [count.get((kind, algorithm), []) for algorithm in survey.ALGORITHMS]
        lines.append(f"| {kind} | {' | '.join(f'{len(own)} ({own[0]})' if own else '–' for own in cells)} |")  # noqa: RUF001
    return "\n".join(lines) + "\n"


def _covered(found: Iterable[survey.Covered]) -> list[str]:
    """A line for each entry, with the parts that cover it; losses are linked."""
    lines = ["| entry | meaning | covered by |", "|---|---|---|"]
    for entry in found:
        parts = [f"{kind}: {', '.join(_part(kind, name) for name in names)}" for kind, names in entry.parts.items()]
        lines.append(f"| {entry.name} | {entry.meaning} | {'; '.join(parts) or 'nothing'} |")
    return lines


def _part(kind: str, name: str) -> str:
    """A part of a registry with a link to what it says of itself."""
    return f"[{name}](losses/{name}.md)" if kind == "losses" else f"[{name}](parts/{kind}.md)"


def parts_page(page: str, registry: Registry, text: str) -> str:
    """One page for all parts of a kind."""
    lines = [f"# {page.capitalize()}", "", text, ""]
    for name in registry.files():
        doc = describe(registry, name)
        fields = inherited_fields(registry, name) if page in ("sources", "mixing") else doc.fields
        lines += [f"## {name}", "", f"**{_text(doc.title)}.** {_text(doc.summary)}", ""]
        lines += [line for formula in doc.formula.splitlines() for line in (f"`$${formula}$$`", "")]
        lines += [_described(doc.description, _defaults(registry.get(name)) if page == "models" else {}), ""]
        lines += [f"Reference: {doc.reference}", ""] if doc.reference else []
        lines += [*fields_table(fields), ""] if fields else []
        if page in ("adapters", "targets", "teachers", "steps", "actions"):
            lines += ["```yaml", example(doc), "```", ""]
        if page == "tasks":
            lines += [*_metrics(registry.get(name)), ""]
    return "\n".join(lines)


def keys_page() -> str:
    """Every key of a recipe."""
    listed = {spec for specs in SECTIONS.values() for spec in specs}
    modules = (schema, data_schema, rollout_schema, model_schema, term_schema, train_schema, evaluate_schema, study_schema)
    known = {c for module in modules for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Spec) and c is not Spec}
    if listed != known:
        raise SystemExit(f"docs/generate.py: SECTIONS must name every model of the schema; it differs by {listed ^ known}.")
    lines = ["# Every key", "", "Made from the schema that checks recipes. How the pieces go together is told in [Recipes](recipe.md).", ""]
    for title, specs in SECTIONS.items():
        lines += [f"## {title}", ""]
        for spec in specs:
            summary, *more = (inspect.getdoc(spec) or "").split("\n\n")
            lines += [f"### `{WHERE[spec.__name__]}`", "", " ".join([summary, *more]), "", *fields_table(spec_fields(spec)), ""]
    return "\n".join(lines)


def commands_page() -> str:
    """The help of every command."""
    os.environ["COLUMNS"] = "100"
    lines = ["# Commands", "", "`limbeck COMMAND --help` prints the same.", ""]
    lines += [
        "Exit status: 0 fine, 2 a mistake that you can mend, 130 interrupted. `LIMBECK_DEBUG=1` shows the traceback.",
        "",
    ]
    for name in command.commands():
        module = importlib.import_module(f"limbeck.cli.{name}")
        first, _, rest = (module.__doc__ or "").partition("\n")
        parser = argparse.ArgumentParser(prog=f"limbeck {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
        module.configure(parser)
        lines += [f"## {name}", "", first, "", *_paragraphs(rest), "```text", parser.format_help().strip(), "```", ""]
        for sub in _subparsers(parser):
            lines += ["```text", sub.format_help().strip(), "```", ""]
    return "\n".join(lines)


def api(module: str, name: str) -> str:
    """Signature and docstring of a function or class, its sections as definition lists."""
    thing = getattr(importlib.import_module(module), name)
    if inspect.isclass(thing):
        doc = describe_file(Path(inspect.getfile(thing)), name=name, kind="class", class_name=name)
        return "\n".join([f"### `{name}`", "", doc.summary, "", *fields_table(doc.fields, defaults=False)])
    signature = str(inspect.signature(thing)).replace("'", "")
    parts = re.split(r"\n\n(?=(?:Args|Returns|Raises):\n)", inspect.getdoc(thing) or "")
    lines = [f"### `{name}`", "", "```python", f"{module.removesuffix('.run')}.{name}{_wrapped(signature)}", "```", "", parts[0], ""]
    for part in parts[1:]:
        head, _, body = part.partition(":\n")
        items = [" ".join(item.split()) for item in re.split(r"\n    (?=\S)", "\n" + body) if item.strip()]
        rows = [re.sub(r"^([\w.]+): ", r"**`\1`**: ", item) if head != "Returns" else item for item in items]
        lines += [f"**{head}**", "", *(f"- {row}" for row in rows), ""]
    return "\n".join(lines)


# pieces


def fields_table(fields: Iterable[Field], *, defaults: bool = True) -> list[str]:
    """Fields as a table."""
    if not defaults:
        return ["| name | meaning |", "|---|---|", *(f"| `{f.name}` | {_cell(f.help)} |" for f in fields)]
    rows = []
    for f in fields:
        default = "*required*" if f.default is None else "" if f.default in ("null", '""') else f"`{_cell(f.default)}`"
        rows.append(f"| `{f.name}` | {_cell(f.type)} | {default} | {_cell(_text(f.help))} |")
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows]


def spec_fields(spec: type[Spec]) -> list[Field]:
    """The keys of one model of the schema, inherited ones first: types in words from its source, the rest from pydantic."""
    words: dict[str, str] = {}
    for cls in reversed(spec.__mro__):
        if issubclass(cls, Spec) and cls is not Spec:
            file = Path(inspect.getfile(cls))
            words |= {f.name: f.type for f in describe_file(file, name=cls.__name__, kind="", class_name=cls.__name__).fields}
    found = []
    for name, info in spec.model_fields.items():
        if spec is term_schema.TermSpec and name in ("options", "schedules"):
            continue  # the split of a term's own keys; nobody writes them
        default = None if info.is_required() else _yaml(info.get_default(call_default_factory=True))
        found.append(Field(info.alias or name, _named(words[name]), default, " ".join((info.description or "").split())))
    return found


def inherited_fields(registry: Registry, name: str) -> list[Field]:
    """The fields of a part and of what it extends, its own first."""
    found: dict[str, Field] = {}
    for cls in registry.get(name).__mro__:
        if cls.__module__.startswith("limbeck."):
            doc = describe_file(Path(inspect.getfile(cls)), name=name, kind=registry.kind, class_name=cls.__name__)
            found |= {f.name: f for f in doc.fields if f.name not in found}
    return list(found.values())


def mathml(latex: str, display: str) -> str:
    """LaTeX as MathML; names of several letters are set upright, as in text."""
    latex = html.unescape(latex)
    latex = re.sub(r"(?<![\\a-zA-Z{])([a-zA-Z]{2,})(?![a-zA-Z]*\})", r"\\mathrm{\1}", latex)
    return convert(latex, display=display)


def _text(text: str) -> str:
    """Roles of docstrings in the words of Markdown."""
    return re.sub(r":math:`([^`]+)`", r"`$\1$`", text)


def _described(description: str, defaults: dict[str, str]) -> str:
    """A docstring's paragraphs; an `Args:` section as a list."""
    found = []
    for paragraph in description.split("\n\n"):
        head, _, body = paragraph.partition(":\n")
        if head == "Args":
            items = [" ".join(item.split()) for item in re.split(r"\n    (?=\S)", "\n" + body) if item.strip()]
            found.append("\n".join(re.sub(r"^(\w+): ", lambda n: f"- `{n[1]}`{defaults.get(n[1], '')}: ", item) for item in items))
        else:
            found.append(_text(paragraph))
    return "\n\n".join(found)


def _defaults(builder: Any) -> dict[str, str]:
    """What each argument is unless it is given, in brackets."""
    found: dict[str, str] = dict.fromkeys(("num_outputs", "input_shape"), " (from the data)")
    for argument in inspect.signature(builder).parameters.values():
        if argument.default is not argument.empty:
            default = list(argument.default) if isinstance(argument.default, tuple) else argument.default
            found[argument.name] = f" (`{default}`)"
    return found


def _metrics(task: Any) -> list[str]:
    rows = [f"`{name}` ({'more' if more else 'less'} is better)" for name, more in task.maximize.items()]
    kinds = " or ".join(task.data_kinds)
    best = f"the best checkpoint is picked by `{task.monitor}`"
    return [f"Data: {kinds}. Usual supervised loss: `{task.loss}`. Metrics: {', '.join(rows)}; {best}."]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    return [sub for action in actions for sub in action.choices.values()]


def _paragraphs(text: str) -> list[str]:
    """A command's docstring; indented examples as code."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        code = paragraph.startswith("  ") or any(line.startswith("  ") for line in paragraph.splitlines())
        found += ["```text", paragraph, "```", ""] if code else [paragraph, ""] if paragraph.strip() else []
    return found


def _named(words: str) -> str:
    """The schema's models by where they stand."""
    for name, where in WHERE.items():
        place = name.lower() if name in ("Schedule", "Normalize") else where
        words = re.sub(rf"\b{name}\b", f"mapping ({place})", words)
    return words.replace("Transform", "text | mapping")


def _yaml(value: Any) -> str:
    if isinstance(value, Spec):
        return "see there"
    if value is None or value == "":
        return "null"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _python(default: str | None) -> str:
    if default is None:
        return "..."
    words = {"true": "True", "false": "False", "null": "None"}
    number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|\[.*\]", default)
    return words.get(default, default if number else repr(default))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _short(file: str) -> str:
    return file[file.index("src/limbeck") :] if "src/limbeck" in file else Path(file).name


def _wrapped(signature: str) -> str:
    inner, _, result = signature.removeprefix("(").rpartition(")")
    arguments = re.split(r", (?![^\[(]*[\])])", inner)
    return "(\n" + "".join(f"    {a},\n" for a in arguments) + f"){result}"
