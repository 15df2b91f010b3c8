r"""How often each class is found, and how often what is no member of it is left alone; from the confusion matrix.

Of class c, with TP, FN, TN and FP counted as if the question were "is it c or not":

.. math:: sensitivity_c = \frac{TP_c}{TP_c + FN_c}, \qquad specificity_c = \frac{TN_c}{TN_c + FP_c}

Of two classes the second one (number 1) is what is looked for, as in scikit-learn: sensitivity and specificity are its own. Of more they
are means over the classes that occur. The balanced accuracy is the mean sensitivity of the classes that occur, also of two.

Reference: Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010.
"""

from __future__ import annotations

from torch import Tensor


def sensitivities(table: Tensor) -> Tensor:
    """Sensitivity of each class, `(classes,)` in float64; NaN of a class without examples.

    Args:
        table: counts, `(classes, classes)`; row is the label, column the prediction.
    """
    return table.diagonal().double() / table.sum(1)


def specificities(table: Tensor) -> Tensor:
    """Specificity of each class, `(classes,)` in float64; NaN where every example is of that class.

    Args:
        table: as of `sensitivities`.
    """
    counts = table.double()
    others = counts.sum() - counts.sum(1)
    false_positive = counts.sum(0) - counts.diagonal()
    return (others - false_positive) / others


def rates(table: Tensor) -> dict[str, float]:
    """`balanced_accuracy`, `sensitivity` and `specificity`, from 0 to 1; NaN where there is nothing to count.

    Args:
        table: as of `sensitivities`.
    """
    found, left = sensitivities(table), specificities(table)
    balanced = found.nanmean().item()
    if len(table) == 2:
        return {"balanced_accuracy": balanced, "sensitivity": found[1].item(), "specificity": left[1].item()}
    present = table.sum(1) > 0
    return {"balanced_accuracy": balanced, "sensitivity": balanced, "specificity": left[present].nanmean().item()}
