"""From a validated recipe to plain objects: requests, terms, plans, phases. No data is read and no model built here."""

from .layers import Layers as Layers
from .paths import located as located
from .plans import average as average
from .plans import length as length
from .plans import plan as plan
from .requests import RANDOM as RANDOM
from .requests import build_mixing as build_mixing
from .requests import build_task as build_task
from .requests import data_request as data_request
from .requests import model_request as model_request
from .requests import own_tokenizer as own_tokenizer
from .seeds import seed_of as seed_of
from .stages import ALONE as ALONE
from .stages import Phase as Phase
from .stages import objective_of as objective_of
from .stages import optimizer_of as optimizer_of
from .stages import phases as phases
from .teachers import STORED as STORED
from .teachers import build_teacher as build_teacher
from .teachers import store_of as store_of
from .teachers import teacher_kind as teacher_kind
from .teachers import teacher_models as teacher_models
from .teachers import teacher_specs as teacher_specs
from .terms import build_term as build_term
from .terms import member_terms as member_terms
from .terms import weight_of as weight_of
