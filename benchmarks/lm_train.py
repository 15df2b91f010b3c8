"""A whole training of a language model, beside TRL's GKDTrainer (lmbda 0): seconds a step, peak memory, loss curves.

The same pair of Llamas from the same folders, the same documents, the same optimizer and as many steps: every update sees all training
documents, so that the order in which either draws them does not matter. Each training runs in a fresh process (GKDTrainer.train() and
limbeck.distill, as users run them), and the two take turns; the median over all steps but the first is reported, and the peak of resident
memory up to the last step. Loss: KL from the teacher at temperature 1, the mean over trained tokens.

    python benchmarks/lm_train.py            vocabulary 32,000, 8 documents of up to 256 tokens (several minutes on two cores)
    python benchmarks/lm_train.py --quick    vocabulary 8,000, documents of up to 64 tokens
    python benchmarks/lm_train.py --json     one JSON object on standard output
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RATE = 1e-3
DOCUMENTS, HELD_OUT = 10, 0.2
IMPLEMENTATIONS = ("limbeck", "trl")


def prepare(folder: Path, vocabulary: int, tokens: int, width: int) -> None:
    """Teacher and student, their tokenizer, and documents of several lengths."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(vocabulary - 3))]
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")
    for number, (name, layers, size) in enumerate([("teacher", 4, 2 * width), ("student", 2, width)]):
        torch.manual_seed(number)
        config: Any = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size,
            intermediate_size=3 * size,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=tokens,
            initializer_range=0.08,
            use_cache=False,
        )
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(tokens // 2, tokens - 1, DOCUMENTS).long().tolist()
    rows = [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    lines = [json.dumps({"text": " ".join(f"w{token - 3}" for token in row)}) for row in rows]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")


def recipe(folder: Path, steps: int, tokens: int) -> dict[str, Any]:
    """The training as a recipe."""
    return {
        "task": "causal_lm",
        "data": {
            "source": f"jsonl:{folder / 'texts.jsonl'}",
            "tokenizer": str(folder / "teacher"),
            "max_length": tokens,
            "split": {"valid": 0.0, "test": HELD_OUT},
        },
        "teacher": {"model": f"hf:{folder / 'teacher'}", "weights": "pretrained", "dtype": "fp32"},
        "student": {"model": f"hf:{folder / 'student'}", "weights": "pretrained"},
        "objective": {"kl": {"loss": "kd", "temperature": 1.0}},
        "train": {
            "steps": steps,
            "batch_size": DOCUMENTS - round(DOCUMENTS * HELD_OUT),
            "optimizer": {"name": "adamw", "lr": RATE, "weight_decay": 0.0},
            "schedule": "constant",
            "log_every": 1,
        },
        "evaluate": {"generations": 0},
    }


def memory() -> float:
    """Peak of resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def with_limbeck(folder: Path, steps: int, tokens: int) -> dict[str, Any]:
    """Seconds and loss of every step, and the peak of memory, through `limbeck.distill`."""
    import limbeck
    from limbeck.engine.watch import Silent

    class Watch(Silent):
        times: list[float]
        peak: float

        def update(self, update: int) -> None:
            del update
            self.times.append(time.perf_counter())
            self.peak = memory()

    watch = Watch()
    watch.times, watch.peak = [], 0.0
    imported = memory()
    with tempfile.TemporaryDirectory() as out:
        result = limbeck.distill(recipe(folder, steps, tokens), out=Path(out) / "run", device="cpu", listener=watch)
        lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["values"]["total"] for line in lines if line["kind"] == "train"]
    return {"times": watch.times, "losses": losses, "peak_mb": watch.peak, "imported_mb": imported}


def with_trl(folder: Path, steps: int, tokens: int) -> dict[str, Any]:
    """The same through TRL's GKDTrainer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer  # pyright: ignore[reportMissingImports]

    from limbeck.config.load import load_recipe

    imported = memory()
    batch = _batch(load_recipe(recipe(folder, steps, tokens)))
    times: list[float] = []
    peaks: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, state, control, kwargs
            times.append(time.perf_counter())
            peaks.append(memory())

    models = [AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("student", "teacher")]
    with tempfile.TemporaryDirectory() as out:
        config = GKDConfig(
            output_dir=out,
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            max_steps=steps,
            per_device_train_batch_size=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        trainer: Any = GKDTrainer(
            model=models[0],
            teacher_model=models[1],
            args=config,
            train_dataset=_once(),
            data_collator=lambda rows: {name: value.clone() for name, value in batch.items()},
            processing_class=AutoTokenizer.from_pretrained(folder / "teacher"),
            callbacks=[Watch()],
        )
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"times": times, "losses": losses, "peak_mb": peaks[-1], "imported_mb": imported}


def _once() -> Any:
    """A data set of one row, which stands for all documents."""
    from datasets import Dataset

    return Dataset.from_dict({"row": [0]})


def _batch(loaded: Any) -> dict[str, Any]:
    """All training documents as a batch with labels, -100 where a token is not trained."""
    import torch

    from limbeck import assemble
    from limbeck.data.load import load_data

    splits = load_data(assemble.data_request(loaded.recipe.data, loaded.recipe), kind="text", labels="token", language="causal_lm")
    batch = splits.train.__getitems__(range(len(splits.train)))
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    labels.view(-1).index_copy_(0, batch.rows + 1, batch.labels)  # pyright: ignore[reportOptionalOperand, reportArgumentType]
    return {"input_ids": batch.inputs["input_ids"], "attention_mask": batch.inputs["attention_mask"], "labels": labels}


def child(which: str, folder: Path, steps: int, tokens: int) -> dict[str, Any]:
    """One training in a fresh process."""
    words = [sys.executable, __file__, "--only", which, "--folder", str(folder), "--steps", str(steps), "--tokens", str(tokens)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(steps: int, rounds: int, vocabulary: int, tokens: int, width: int) -> dict[str, Any]:
    """Both, in turns."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in IMPLEMENTATIONS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, vocabulary, tokens, width)
        for turn in range(rounds):
            for name in IMPLEMENTATIONS if turn % 2 == 0 else reversed(IMPLEMENTATIONS):
                found[name].append(child(name, folder, steps, tokens))
    result: dict[str, Any] = {"vocabulary": vocabulary, "tokens": tokens, "steps": steps}
    for name, runs in found.items():
        gaps = [[b - a for a, b in zip(run["times"], run["times"][1:], strict=False)] for run in runs]
        result[name] = {
            "seconds": statistics.median(gap for own in gaps for gap in own),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "over_imports_mb": max(run["peak_mb"] - run["imported_mb"] for run in runs),
            "losses": runs[0]["losses"],
        }
    ours, theirs = result["limbeck"], result["trl"]
    result["seconds_ratio"] = theirs["seconds"] / ours["seconds"]
    result["memory_ratio"] = theirs["over_imports_mb"] / ours["over_imports_mb"]
    result["largest_loss_difference"] = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    return result


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller pair, fewer steps")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", choices=IMPLEMENTATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help="steps of a training")
    parser.add_argument("--tokens", type=int, help="tokens of the longest document")
    args = parser.parse_args()
    steps, rounds, vocabulary, tokens, width = (6, 1, 8000, 64, 64) if args.quick else (15, 4, 32000, 256, 128)
    steps, tokens = args.steps or steps, args.tokens or tokens
    if args.only:
        run = with_limbeck if args.only == "limbeck" else with_trl
        print(json.dumps(run(args.folder, steps, tokens)))
        return 0
    found = measure(steps, rounds, vocabulary, tokens, width)
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"{'':<10} {'s a step':>10} {'peak MB':>10} {'over imports':>13} {'first loss':>11} {'last loss':>10}")
    for name in IMPLEMENTATIONS:
        own = found[name]
        numbers = f"{own['seconds']:>10.3f} {own['peak_mb']:>10.0f} {own['over_imports_mb']:>13.0f}"
        print(f"{name:<10} {numbers} {own['losses'][0]:>11.4f} {own['losses'][-1]:>10.4f}")
    print(f"TRL / Limbeck: {found['seconds_ratio']:.2f} in time, {found['memory_ratio']:.2f} in memory over imports")
    print(f"largest difference of the loss curves: {found['largest_loss_difference']:.2e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
