r"""Sets of token ids in few bytes: Elias and Fano's code of a rising sequence.

k rising numbers below V are written as their low :math:`l = \lfloor \log_2 (V / k) \rfloor` bits, one after another, and their high
parts h as the bits at the places :math:`h_i + i` of a bit string of :math:`k + \lfloor (V - 1) / 2^l \rfloor` bits: at most 2 + l bits
a number, where the numbers by themselves take :math:`\log_2 V`. A number may occur more than once.

Reference: Elias, "Efficient Storage and Retrieval by Content and Address of Static Files", Journal of the ACM 21, 1974; Fano, 1971.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def _parts(k: int, vocabulary: int) -> tuple[int, int]:
    """Low bits of each number, and bits of the high parts of all."""
    low = max(vocabulary // k, 1).bit_length() - 1
    return low, k + ((vocabulary - 1) >> low)


def packed_bytes(k: int, vocabulary: int) -> int:
    """Bytes of k numbers below `vocabulary`."""
    low, high = _parts(k, vocabulary)
    return -(-(k * low + high) // 8)


def pack(ids: Ids, vocabulary: int) -> Bytes:
    """Rows of rising numbers, `(rows, k)`, as bytes `(rows, packed_bytes(k, vocabulary))`."""
    rows, k = ids.shape
    low, high = _parts(k, vocabulary)
    bits = np.zeros((rows, k * low + high), dtype=np.uint8)
    if low:
        bits[:, : k * low] = ((ids[:, :, None] >> np.arange(low)) & 1).reshape(rows, k * low)
    np.put_along_axis(bits[:, k * low :], (ids >> low) + np.arange(k), 1, axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def unpack(packed: Bytes, k: int, vocabulary: int) -> Ids:
    """The numbers, `(rows, k)`.

    Raises:
        ValueError: where the bytes are no such rows.
    """
    low, high = _parts(k, vocabulary)
    bits = np.unpackbits(packed, axis=1, count=k * low + high, bitorder="little")
    places = np.nonzero(bits[:, k * low :])[1]
    if len(places) != len(packed) * k:
        raise ValueError("the packed ids are damaged")
    ids = (places.reshape(len(packed), k) - np.arange(k)) << low
    if low:
        ids += bits[:, : k * low].reshape(len(packed), k, low).astype(np.int64) @ (1 << np.arange(low))
    return ids


def bits_bytes(count: int, bits: int) -> int:
    """Bytes of `count` numbers of `bits` bits."""
    return -(-count * bits // 8)


def pack_bits(values: Ids, bits: int) -> Bytes:
    """Rows of numbers below 2^bits, `(rows, count)`, as bytes `(rows, bits_bytes(count, bits))`."""
    spread = ((values[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(len(values), values.shape[1] * bits)
    return np.packbits(spread, axis=1, bitorder="little")


def unpack_bits(packed: Bytes, count: int, bits: int) -> Ids:
    """The numbers, `(rows, count)`."""
    spread = np.unpackbits(packed, axis=1, count=count * bits, bitorder="little").reshape(len(packed), count, bits)
    return spread.astype(np.int64) @ (1 << np.arange(bits))
