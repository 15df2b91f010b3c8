r"""An unbiased sample of the distribution: tokens that were drawn, and how often.

With n draws from :math:`p` the estimate of :math:`p_i` is the share of draws that hit i. Its expectation is :math:`p_i`, so the expected
cross-entropy, and its gradient, is that of the whole distribution, which no top-k has. 50 draws of a language model hit about 12 tokens,
which take about 36 bytes: the ids as a rising sequence (see `_packing`), then all counts but the last, in as many bits as they need.

Draw i of `stratified` falls into the i-th n-th part of the distribution: as unbiased as `independent` draws, the paper's, and never of
greater variance.

Reference: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025, arXiv:2503.16870.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from annotated_types import Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from ...tokens import Projection, Tokens
from ...tokens import Sampled as Drawn
from ...types import NonNegativeInt, Positive
from ..codecs.base import Layout
from ._packing import bits_bytes, pack, pack_bits, packed_bytes, unpack, unpack_bits
from .base import STREAM, TokenCodec, held


@final
@dataclass(frozen=True, kw_only=True)
class Sampled(TokenCodec):
    """A few draws of each distribution."""

    streams: ClassVar[bool] = True

    draws: Annotated[int, Gt(0), Le(255)] = 50
    """Number n of draws."""
    how: Literal["stratified", "independent"] = "stratified"
    """Whether every draw falls into its own n-th part of the distribution, or anywhere."""
    temperature: Positive = 1.0
    """Softmax temperature of the distribution that is drawn from."""
    seed: NonNegativeInt = 0
    """Seed of the draws; a token's depend on it, on the document's contents and on the place in it only."""

    @property
    def uniforms(self) -> int:
        """One for every draw."""
        return self.draws

    def layout(self, vocabulary: int, width: int) -> Layout:
        """How many different tokens were drawn; which, is in the stream."""
        return {"count": (torch.uint8, ())}

    def encode(self, said: Tokens, vocabulary: int, uniforms: Tensor) -> dict[str, Tensor]:
        """Draws by inverting the cumulative distribution, in float64."""
        if self.how == "stratified":
            uniforms = (uniforms + torch.arange(self.draws)) / self.draws
        parts = [torch.empty(0, self.draws, dtype=torch.int64)]
        for where, logits in held(said, vocabulary, "sampled"):
            cumulative = (logits / self.temperature).softmax(1).cumsum(1, dtype=torch.float64).cpu()
            drawn = uniforms[where] * cumulative[:, -1:]
            parts.append(torch.searchsorted(cumulative, drawn, right=True).clamp_max(vocabulary - 1))
        return self._written(torch.cat(parts).sort(1).values.numpy(), vocabulary)

    def _written(self, ids: NDArray[np.int64], vocabulary: int) -> dict[str, Tensor]:
        """The arrays of drawn ids, `(tokens, draws)`, rising."""
        first = np.ones(ids.shape, dtype=bool)
        first[:, 1:] = ids[:, 1:] != ids[:, :-1]
        count = first.sum(1)
        table = self._table(vocabulary)
        ends = np.cumsum(table[count])
        stream = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
        for number in np.unique(count).tolist():
            rows = np.flatnonzero(count == number)
            places = np.nonzero(first[rows])[1].reshape(len(rows), number)
            times = np.diff(places, axis=1, append=self.draws)
            block = [pack(np.take_along_axis(ids[rows], places, 1), vocabulary)]
            if bits := self._bits(number):
                block.append(pack_bits(times[:, :-1] - 1, bits))
            stream[(ends[rows] - table[number])[:, None] + np.arange(int(table[number]))] = np.concatenate(block, axis=1)
        return {"count": torch.from_numpy(count.astype(np.uint8)), STREAM: torch.from_numpy(stream)}

    def _bits(self, number: int) -> int:
        """Bits of each count of `number` different tokens, which all occur at least once."""
        return (self.draws - number).bit_length() if number > 1 else 0

    def _table(self, vocabulary: int) -> NDArray[np.int64]:
        """Bytes of the stream by the number of different tokens; a token of 0 would be none."""
        sizes = [packed_bytes(n, vocabulary) + bits_bytes(n - 1, self._bits(n)) for n in range(1, self.draws + 1)]
        return np.array([0, *sizes], dtype=np.int64)

    def sizes(self, arrays: Mapping[str, Tensor], vocabulary: int) -> Tensor:
        """Bytes of the stream that each token takes."""
        return torch.from_numpy(self._table(vocabulary)[arrays["count"].numpy()])

    def decode(self, arrays: Mapping[str, Tensor], vocabulary: int, head: Projection | None) -> Drawn:
        """Ids, and the share of the draws of each; short rows are filled with token 0 of weight 0."""
        count, stream = arrays["count"].numpy().astype(np.int64), arrays[STREAM].numpy()
        table = self._table(vocabulary)
        ends = np.cumsum(table[count])
        most = int(count.max(initial=1))
        ids, times = np.zeros((len(count), most), dtype=np.int64), np.zeros((len(count), most), dtype=np.float32)
        for number in np.unique(count).tolist():
            rows = np.flatnonzero(count == number)
            block = stream[(ends[rows] - table[number])[:, None] + np.arange(int(table[number]))]
            cut = packed_bytes(number, vocabulary)
            ids[rows, :number] = unpack(block[:, :cut], number, vocabulary)
            bits = self._bits(number)
            own = unpack_bits(block[:, cut:], number - 1, bits) + 1 if bits else np.ones((len(rows), number - 1), dtype=np.int64)
            times[rows, : number - 1] = own
            times[rows, number - 1] = self.draws - own.sum(1)
        return Drawn(torch.from_numpy(ids), torch.from_numpy(times / self.draws), self.temperature)
