"""Tiny text models with their tokenizer, made in a folder of the test, and sentences for them."""

from __future__ import annotations

from pathlib import Path

GOOD = ("good", "fine", "lovely", "great")
BAD = ("bad", "poor", "dull", "awful")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "film", "was", "and", "very", *GOOD, *BAD)


def sentences(count: int) -> list[tuple[str, int]]:
    """Reviews of two kinds, of differing length."""
    found: list[tuple[str, int]] = []
    for i in range(count):
        word = (GOOD if i % 2 else BAD)[i // 2 % 4]
        found.append((f"the film was {'very ' * (i % 3)}{word}" + (" and very long" if i % 5 == 0 else ""), i % 2))
    return found


def save_text_model(folder: Path, *, hidden: int, layers: int, seed: int = 0) -> Path:
    """Saves a random BERT classifier and a word tokenizer, as `save_pretrained` writes them."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        num_labels=2,
    )
    torch.manual_seed(seed)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder
