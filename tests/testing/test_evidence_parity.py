"""Scores by which models are chosen, against stored results of official implementations."""

import pytest
from tests.losses.parity import check_parity


@pytest.mark.parametrize("method", ["diswot", "exssnet_knn"])
def test_evidence_parity(method):
    check_parity(method)
