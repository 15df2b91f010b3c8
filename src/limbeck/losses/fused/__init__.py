r"""Distillation over large vocabularies without the logits: a divergence from hidden states and heads.

.. math:: \sum_i w_i \left[ \omega \, T^2 \, D\left(softmax(z^t_i / T), softmax(z^s_i / T)\right) + \lambda \, CE(z^s_i, y_i) \right],
          \qquad z = c \tanh\left(\frac{s (W h + b)}{c}\right)

The loss takes the last hidden states h and the heads W of both models, computes the logits z of a few tokens at a time, and with them, in
the same pass, the gradients of h and W in closed form. No tensor of all tokens times the whole vocabulary exists, and no product is done
twice. Products, softmax and sums are in float32 (or float64), also where models and inputs are in half precision: close to the teacher the
gradient is the difference of nearly equal probabilities, which rounded logits would drown.

Tokens of weight 0 (padding, prompts) are left out before anything is computed. A head that does not learn costs no gradient. A teacher may
also be given by its logits, its likeliest tokens with the rest as one (`TopK`), or samples (`Sampled`); there may be none for the
cross-entropy alone.

`fused_sums` gives the weighted total and, for records, the sums of divergence and cross-entropy, and computes the gradients in the forward
pass; `fused_divergence` is its total. `fused_divergences` gives one value a token, for what needs them, and computes everything again in
the backward pass.

Reference: Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024, arXiv:2306.13649 (js); Ko et al., "DistiLLM: Towards
Streamlined Distillation for Large Language Models", ICML 2024, arXiv:2402.03898 (skewed). Gradients during the forward pass, in chunks: Hsu
et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", 2024, arXiv:2410.10989.
"""

from __future__ import annotations

from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK
from .function import fused_divergence, fused_divergences, fused_sums
from .measure import Measure

__all__ = [
    "Hidden",
    "Logits",
    "Measure",
    "Projection",
    "Sampled",
    "Tokens",
    "TopK",
    "fused_divergence",
    "fused_divergences",
    "fused_sums",
]
