"""The contract that every loss keeps, as functions that anyone can run on a loss of their own.

In a test of a package that adds a loss::

    from limbeck.testing import check_loss
    from my_package import MyLoss

    def test_contract():
        check_loss(MyLoss)

A check that rightly does not apply is switched off by the class itself, with the reason:
`exempt: ClassVar = {"shift": "the level of the logits is part of what is matched"}`.
"""

from __future__ import annotations

from .contract import CHECKS as CHECKS
from .contract import Check as Check
from .contract import check_loss as check_loss
from .contract import check_name as check_name
from .contract import run_check as run_check
from .examples import Example as Example
from .examples import examples as examples
from .examples import instances as instances
from .failure import ContractError as ContractError
