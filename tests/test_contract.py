"""Every registered loss keeps the contract; and the contract bites."""

from __future__ import annotations

import pytest

from limbeck.registry import LOSSES
from limbeck.testing import CHECKS, ContractError, check_name, run_check

NAMES = LOSSES.names()


@pytest.mark.parametrize("check", [pytest.param(c, id=check_name(c), marks=pytest.mark.slow if "compile" in c.__name__ else ()) for c in CHECKS])
@pytest.mark.parametrize("name", NAMES)
def test_contract(name, check):
    loss_class = LOSSES.get(name)
    if (reason := run_check(check, loss_class)) is None:
        return
    # An exemption must be needed: the day the check would pass, it is stale.
    with pytest.raises(ContractError):
        check(loss_class)
    assert len(reason) > 10


@pytest.mark.parametrize("name", NAMES)
def test_exemptions_name_checks(name):
    assert set(LOSSES.get(name).exempt) <= {check_name(check) for check in CHECKS}
