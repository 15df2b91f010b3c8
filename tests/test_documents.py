"""A document is known by its tokens and by which of them are trained, and by nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

from limbeck.documents import KEY_BYTES, document_key

IDS = np.array([5, 2**31, 7], dtype=np.int64)
TRAINED = np.array([False, True, True])


def test_the_key_is_the_hash_of_tokens_and_mask():
    whole = b"limbeck document 3 -1\n" + IDS.astype("<i8").tobytes() + bytes([0b01100000])
    assert document_key(IDS, TRAINED) == hashlib.sha256(whole).digest()
    assert len(document_key(IDS, TRAINED)) == KEY_BYTES
    encoder = np.array([1, 2])
    whole = b"limbeck document 3 2\n" + IDS.astype("<i8").tobytes() + bytes([0b01100000]) + encoder.astype("<i8").tobytes()
    assert document_key(IDS, TRAINED, encoder) == hashlib.sha256(whole).digest()


def test_types_and_layout_of_the_arrays_do_not_matter():
    ids = np.arange(6)
    mask = np.array([0, 1, 0, 1, 1, 1], dtype=np.uint8)
    assert document_key(ids.astype(np.int32), mask.astype(bool)) == document_key(np.arange(12).reshape(6, 2)[:, 0] // 2, mask.astype(bool))


def test_whatever_differs_makes_another_key():
    other = [
        document_key(IDS[::-1], TRAINED),
        document_key(IDS, ~TRAINED),
        document_key(IDS[:2], TRAINED[:2]),
        document_key(np.append(IDS, 0), np.append(TRAINED, False)),
        document_key(IDS, TRAINED, np.array([], dtype=np.int64)),
        document_key(IDS, TRAINED, IDS),
    ]
    assert len({document_key(IDS, TRAINED), *other}) == 7
