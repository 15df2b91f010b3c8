"""The list of checks and how they are run."""

from __future__ import annotations

from collections.abc import Callable

from ..losses.base import Loss
from . import behaviour, robustness, scale, source
from .failure import ContractError

Check = Callable[[type[Loss]], None]
"""Raises `ContractError` where a loss class breaks the contract."""

CHECKS: tuple[Check, ...] = (
    source.check_docs,
    source.check_name,
    source.check_dataclass,
    source.check_bounds,
    behaviour.check_needs,
    behaviour.check_missing,
    behaviour.check_shape,
    behaviour.check_independence,
    behaviour.check_gradient,
    behaviour.check_purity,
    behaviour.check_permutation,
    behaviour.check_equality,
    behaviour.check_shift,
    behaviour.check_unlabelled,
    robustness.check_precision,
    scale.check_single,
    scale.check_chunk,
    scale.check_classes,
    robustness.check_gradcheck,
    robustness.check_copies,
    robustness.check_compile,
)
"""Every check, from the quickest to the slowest."""


def check_name(check: Check) -> str:
    """The name by which a loss exempts itself: `shift` for `check_shift`."""
    return check.__name__.removeprefix("check_")


def run_check(check: Check, loss_class: type[Loss]) -> str | None:
    """Runs one check.

    Returns:
        None where it passed, or the reason why the class is exempt.

    Raises:
        ContractError: where the contract is broken, or an exemption gives no reason.
    """
    name = check_name(check)
    if name not in loss_class.exempt:
        check(loss_class)
        return None
    reason = loss_class.exempt[name].strip()
    if not reason:
        raise ContractError(f"{loss_class.__name__}.exempt[{name!r}] must give the reason.")
    return reason


def check_loss(loss_class: type[Loss]) -> None:
    """Runs every check that the class is not exempt from.

    Raises:
        ContractError: with all the failures, each with the name of its check.
    """
    known = {check_name(check) for check in CHECKS}
    failures = [f"exempt: no check is called {name!r}; there are {sorted(known)}" for name in loss_class.exempt if name not in known]
    for check in CHECKS:
        try:
            run_check(check, loss_class)
        except ContractError as error:
            failures.append(f"{check_name(check)}: {error}")
        except Exception as error:
            failures.append(f"{check_name(check)}: {type(error).__name__}: {error}")
    if failures:
        raise ContractError("\n".join([f"{loss_class.__name__} breaks the contract:", *failures]))
