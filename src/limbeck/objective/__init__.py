"""The objective: a weighted sum of named terms, reduced exactly."""

from .objective import Counts as Counts
from .objective import Objective as Objective
from .objective import Term as Term
from .schedules import Ramp as Ramp
