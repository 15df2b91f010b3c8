"""Word pieces of short English requests, for recipes that must run without fetching a tokenizer.

    python tools/make_words.py ../shared/data

The texts are the training parts of SNIPS (CC0 1.0) and CLINC150 (CC BY 3.0); recipes/base/words is made of their 3,000 commonest pieces.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZE = 3000


def texts(data: Path) -> list[str]:
    """The requests of both data sets."""
    snips = [" ".join(json.loads(line)["tokens"]) for line in (data / "snips" / "train.jsonl").read_text().splitlines()]
    clinc = [line.split("\t")[0] for line in (data / "clinc150" / "train.tsv").read_text().splitlines()]
    return [*snips, *clinc]


def main(data: Path) -> None:
    """Writes the tokenizer."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(texts(data), trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=list(SPECIAL), show_progress=False))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(Path(__file__).resolve().parents[1] / "recipes" / "base" / "words")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
