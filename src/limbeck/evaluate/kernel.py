r"""The neural tangent kernel of a model on a few examples: how well it is aligned with the labels, and how far training has moved it.

.. math::

    K_{ij} = \frac{1}{C} \sum_c \langle \nabla_\theta f_c(x_i), \nabla_\theta f_c(x_j) \rangle, \qquad
    A = \frac{\langle K, Y Y^T \rangle_F}{\|K\|_F \, \|Y Y^T\|_F}, \qquad
    M = 1 - \frac{\langle K_0, K_1 \rangle_F}{\|K_0\|_F \, \|K_1\|_F}

over C outputs. With one column of labels A is :math:`y^T K y / (\|K\|_F \|y\|^2)`. A is 1 where the labels are all that the kernel sees and
0 where it sees nothing of them; M is 0 as long as the kernel has only been scaled, as in lazy training, and at most 1, as no kernel has
negative eigenvalues.

Reference: Cristianini et al., "On Kernel-Target Alignment", NIPS 2001, definitions 1 and 2; Kumar et al., "Grokking as the Transition from
Lazy to Rich Training Dynamics", ICLR 2024, arXiv:2310.06110; Fort et al., "Deep Learning versus Kernel Learning", NeurIPS 2020,
arXiv:2010.15110 (kernel distance).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ..errors import ModelError, ShapeMismatch

MOST = 2**27
"""Numbers (examples times parameters) that are held at once, at most: half a gigabyte in fp32."""


def tangent_kernel(module: nn.Module, inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """K of a model, in evaluation mode.

    Args:
        module: gives a tensor `(examples, outputs)`; is left as it was.
        inputs: `(examples, ...)`, as the model takes them.
        parameters: values in the place of the model's own, by name.

    Returns:
        `(examples, examples)`, float64.

    Raises:
        ModelError: where the gradients would take too much memory.
    """
    own = {name: value.detach() for name, value in (parameters or dict(module.named_parameters())).items()}
    check_size(len(inputs), sum(value.numel() for value in own.values()))
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        with torch.no_grad():
            outputs = functional_call(module, own, (inputs[:1],)).numel()

        def one(values: dict[str, Tensor], x: Tensor, output: int) -> Tensor:
            return functional_call(module, values, (x[None],)).flatten()[output]

        found = torch.zeros(len(inputs), len(inputs), dtype=torch.float64, device=inputs.device)
        for output in range(outputs):
            slopes = vmap(grad(one), in_dims=(None, 0, None))(own, inputs, output)
            for slope in slopes.values():
                rows = slope.flatten(1).double()
                found += rows @ rows.T
        return found / outputs
    finally:
        for layer in training:
            layer.training = True


def check_size(examples: int, parameters: int) -> None:
    """Whether a kernel can be had.

    Raises:
        ModelError: says of how many examples it can.
    """
    if examples * parameters > MOST:
        raise ModelError(
            f"the tangent kernel of {examples} examples and {parameters:,} parameters holds {examples * parameters:,} numbers at once, "
            f"more than {MOST:,}; take {MOST // parameters} examples or fewer, or a smaller model."
        )


def alignment(kernel: Tensor, targets: Tensor) -> float:
    """A; 0 where the kernel or the labels are 0.

    Args:
        kernel: `(examples, examples)`.
        targets: numbers, `(examples,)` or `(examples, columns)`.

    Raises:
        ShapeMismatch: where these are not of the same examples.
    """
    if kernel.shape != (len(targets), len(targets)):
        raise ShapeMismatch(f"expected a kernel of {len(targets)} by {len(targets)} examples, found {tuple(kernel.shape)}.")
    columns = targets.double().reshape(len(targets), -1)
    return _cosine(kernel.double(), columns @ columns.T)


def movement(first: Tensor, second: Tensor) -> float:
    """M between two kernels of the same examples, `(examples, examples)`.

    Raises:
        ShapeMismatch: where they have different shapes.
    """
    if first.shape != second.shape:
        raise ShapeMismatch(f"expected two kernels of the same examples, found shapes {tuple(first.shape)} and {tuple(second.shape)}.")
    return 1 - _cosine(first.double(), second.double())


def class_targets(labels: Tensor, classes: int) -> Tensor:
    """Columns for classes: 1 for an example's own class and 0 for others, less 1 / classes; `(examples,)` to `(examples, classes)`."""
    return torch.nn.functional.one_hot(labels, classes).double() - 1 / classes


def _cosine(first: Tensor, second: Tensor) -> float:
    size = first.norm() * second.norm()
    return ((first * second).sum() / size).item() if size > 0 else 0.0
