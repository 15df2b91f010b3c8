"""A user's own chats: messages and a template, checked and trained, and what is said of lines, roles and templates that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.config.load import load_recipe
from limbeck.data.base import DataRequest
from limbeck.data.language.request import TokenRequest
from limbeck.data.load import load_data
from limbeck.preflight import preflight
from tests.language_data import save_tokenizer
from tests.language_runs import LLAMA
from tests.runs import distill

PLAIN = "{% for m in messages %}{{ '<s> ' + m.role | replace('user', 'w1') | replace('assistant', 'w2') + ' ' + m.content + ' </s> ' }}{% endfor %}{% if add_generation_prompt %}{{ '<s> w2 ' }}{% endif %}"  # noqa: E501
MARKED = "{% for m in messages %}{{ '<s> ' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + ' </s> ' }}{% endgeneration %}{% else %}{{ m.content + ' </s> ' }}{% endif %}{% endfor %}"  # noqa: E501


def chat(i: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"w{3 + i % 5} w{3 + i % 7}"},
        {"role": "assistant", "content": f"w{20 + i % 5} w30"},
        {"role": "user", "content": "w9"},
        {"role": "assistant", "content": f"w{10 + i % 3}"},
    ]


def write(folder: Path, lines: list[str], template: str = PLAIN) -> dict[str, Any]:
    """A recipe of chats in a file, with their template in another."""
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "template.jinja").write_text(template)
    return {
        "task": "causal_lm",
        "data": {
            "source": f"jsonl:{folder / 'chats.jsonl'}",
            "tokenizer": save_tokenizer(folder / "tokenizer"),
            "chat_template": str(folder / "template.jinja"),
            "max_length": 32,
        },
        "teacher": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}, "weights": "random"},
        "student": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}},
        "objective": {"labels": "cross_entropy", "logits": "kd"},
        "train": {"steps": 3, "batch_size": 8},
    }


def good(count: int = 40) -> list[str]:
    return [json.dumps({"id": i, "messages": chat(i)}) for i in range(count)]


def told(recipe: dict[str, Any]) -> list[str]:
    return [f"{problem.key}: {problem.message}" for problem in preflight(load_recipe(recipe), allow_code=False, device="cpu").problems]


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["without marks", "with marks"])
def test_just_the_answers_and_their_ends_are_trained(template: str, tmp_path: Path):
    recipe = write(tmp_path, good(), template)
    tokens = TokenRequest(chat_template=str(tmp_path / "template.jinja"))
    request = DataRequest(recipe["data"]["source"], tokenizer=recipe["data"]["tokenizer"], max_length=32, tokens=tokens)
    splits = load_data(request, kind="text", labels="token", language="causal_lm")
    batch = splits.train.__getitems__([0])
    assert batch.labels is not None
    words = splits.tokenizer.convert_ids_to_tokens(batch.labels.tolist())
    assert [words[i] for i in (1, 2, 4)] == ["w30", "</s>", "</s>"]
    assert (words[0][:2], words[3][:2], len(words)) == ("w2", "w1", 5)


def test_checked_and_trained(tmp_path: Path):
    recipe = write(tmp_path, good())
    assert told(recipe) == []
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    example = result.results["generations"]["examples"][0]
    assert example["prompt"].endswith("<s> w2")
    assert example["reference"].strip().endswith("w30")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1, "messages": [{"role": "user", "conte', r"chats\.jsonl:3: not a JSON object: "),
        ('["w1"]', r"chats\.jsonl:3: expected a JSON object, found a list"),
        (
            json.dumps({"messages": [{"content": "w1"}, {"role": "assistant", "content": "w2"}]}),
            "row 3: 'messages': message 1 must be a mapping with role and content, found a mapping with content",
        ),
        (json.dumps({"messages": [{"from": "human", "value": "w1"}]}), "message 1 must be a mapping .*, found a mapping with from, value"),
        (json.dumps({"messages": "w1 w2"}), "row 3: 'messages' must be a list of messages, found str 'w1 w2'"),
        (
            json.dumps({"messages": [*chat(1)[:1], {"role": "assistant", "content": None}]}),
            "the content of message 2 must be a text, found Non",
        ),
    ],
)
def test_lines_that_are_wrong(line: str, message: str, tmp_path: Path):
    import re

    lines = good()
    lines[2] = line
    problems = told({**write(tmp_path, lines), "data": {**write(tmp_path, lines)["data"], "split": {"test": 0.05, "valid": 0.05}}})
    assert len(problems) == 1
    assert problems[0].startswith("data.source: ")
    assert re.search(message, problems[0]), problems[0]


def test_a_template_that_hides_where_answers_are(tmp_path: Path):
    turned = "{% for m in messages | reverse %}{{ m.content + ' </s> ' }}{% endfor %}"
    (problem,) = told(write(tmp_path, good(), turned))
    assert "so the answers cannot be found in the text. Use a template that marks them" in problem


def test_a_tokenizer_without_a_template(tmp_path: Path):
    recipe = write(tmp_path, good())
    del recipe["data"]["chat_template"]
    (problem,) = told(recipe)
    assert "the tokenizer has no chat template" in problem
    assert "data.chat_template" in problem
