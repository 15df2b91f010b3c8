"""Texts: tokenised once, padded to the longest of a batch."""

import json

import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.load import data_info, load_data
from limbeck.data.stores import TokenStore
from limbeck.errors import DataError

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "the", "a", "of", "film", "good", "bad", "who", "how", "many"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [{"text": " ".join(["what is"] + ["film"] * (i % 5)), "label": "even" if i % 2 == 0 else "odd"} for i in range(50)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def load(source, **options):
    return load_data(DataRequest(str(source), **options), kind="text", labels="class")


def test_texts(questions, tokenizer):
    splits = load(f"jsonl:{questions}", tokenizer=tokenizer, max_length=16)
    assert splits.info.kind == "text"
    assert splits.info.input_shape == (16,)
    assert splits.info.class_names == ("even", "odd")
    assert splits.info.mean is None
    lengths = splits.train.rows % 5 + 4
    batch = splits.train.__getitems__([0, 1, 2])
    assert set(batch.inputs) == {"input_ids", "token_type_ids", "attention_mask"}
    assert batch.inputs["input_ids"].shape == (3, int(lengths[:3].max()))
    assert batch.inputs["attention_mask"].sum(1).tolist() == lengths[:3].tolist()
    for row, length in enumerate(lengths[:3].tolist()):
        ids = batch.inputs["input_ids"][row].tolist()
        assert ids[:length] == [2, 4, 5, *[9] * (length - 4), 3]
        assert set(ids[length:]) <= {0}


def test_an_example_is_the_same_in_every_batch(questions, tokenizer):
    train = load(f"jsonl:{questions}", tokenizer=tokenizer).train
    alone = train[3].inputs["input_ids"][0]
    together = train.__getitems__(list(range(10))).inputs["input_ids"][3]
    assert torch.equal(alone, together[: len(alone)])
    assert (together[len(alone) :] == 0).all()


def test_truncation(questions, tokenizer):
    train = load(f"jsonl:{questions}", tokenizer=tokenizer, max_length=4).train
    assert train.__getitems__(list(range(10))).inputs["input_ids"].shape[1] == 4


def test_pairs(tmp_path, tokenizer):
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["one,two,label", *[f"the film,who is,{i % 2}" for i in range(30)]]))
    train = load(f"csv:{path}", tokenizer=tokenizer, args={"text": ["one", "two"]}).train
    inputs = train[0].inputs
    assert inputs["input_ids"].tolist() == [[2, 6, 9, 3, 12, 5, 3]]
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_left_padding():
    store = TokenStore({"input_ids": torch.arange(1, 6)}, torch.tensor([2, 3]), {"input_ids": 0}, max_length=9, left=True)
    assert store.gather(torch.tensor([0, 1]))["input_ids"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert store.gather(torch.tensor([1]))["input_ids"].tolist() == [[3, 4, 5]]


def test_info_needs_no_tokenizer(questions):
    info = data_info(DataRequest(f"jsonl:{questions}", max_length=7), kind="text", labels="class")
    assert info.input_shape == (7,)
    assert info.num_outputs == 2


def test_faults(questions, tokenizer, tmp_path):
    with pytest.raises(DataError, match=r"set data\.tokenizer"):
        load(f"jsonl:{questions}")
    with pytest.raises(DataError, match=r"data\.tokenizer '.*nowhere' cannot be loaded"):
        load(f"jsonl:{questions}", tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no column is called 'txt'\. Did you mean 'text'"):
        load(f"jsonl:{questions}", tokenizer=tokenizer, args={"text": "txt"})
    with pytest.raises(DataError, match="'flip' is for image data"):
        load(f"jsonl:{questions}", tokenizer=tokenizer, transforms=["flip"])
    questions.write_text(questions.read_text() + '\n{"text": "", "label": "odd"}')
    with pytest.raises(DataError, match="row 51 has no text"):
        load(f"jsonl:{questions}", tokenizer=tokenizer)


def test_hf_text_from_disk_and_from_files(questions, tokenizer, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    made = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows), "validation": datasets.Dataset.from_list(rows[:10])})
    made.save_to_disk(str(tmp_path / "set"))
    splits = load(f"hf:{tmp_path / 'set'}", tokenizer=tokenizer)
    assert len(splits.valid) == 10
    assert splits.info.class_names == ("even", "odd")
    files = tmp_path / "files"
    files.mkdir()
    (files / "train.jsonl").write_text(questions.read_text())
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    assert load(f"hf:{files}", tokenizer=tokenizer).info.num_outputs == 2


@pytest.mark.shared
def test_trec(shared, tokenizer):
    splits = load(f"jsonl:{shared / 'trec6'}", tokenizer=tokenizer, limit=300, args={"target": "coarse"})
    assert splits.info.class_names == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert len(splits.train) == 300
    assert len(splits.test) == 500
    batch = splits.train.__getitems__(list(range(32)))
    assert batch.inputs["attention_mask"].sum(1).max() == batch.inputs["input_ids"].shape[1]


@pytest.mark.shared
def test_sst_with_neighbouring_files(shared, tokenizer):
    args = {"valid": "binary_dev.jsonl", "test": "binary_test.jsonl"}
    splits = load(f"jsonl:{shared}/sst/binary_train.jsonl", tokenizer=tokenizer, args=args)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [6920, 872, 1821]
