"""What a recipe asks of its models beside the task's metrics: robustness, fairness, privacy, fidelity, layers and costs in full."""

from .ahead import cost_seconds as cost_seconds
from .ahead import examples_asked as examples_asked
from .appraise import Appraisal as Appraisal
from .appraise import appraise as appraise
from .asked import asked as asked
