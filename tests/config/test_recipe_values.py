"""The exact text of every kind of problem of a value, a name or a key, and its place."""

# ruff: noqa: E501 - the texts are whole

from __future__ import annotations

import pytest
from recipe_problems import problems, recipe

VALUES = {
    "unknown_key": ({"trian": "{epochs: 3}"}, ["8:1: trian: unknown key of the recipe (got a mapping). Did you mean 'train'?"]),
    "misplaced_key": ({"epochs": "3"}, ["8:1: epochs: unknown key of the recipe (got 3). Did you mean 'train.epochs'?"]),
    "far_key": (
        {"zzz": "3"},
        [
            "8:1: zzz: unknown key of the recipe (got 3). Known: about, baseline, data, evaluate, models, objective, peers, seed, stages, student, study, task, teacher, teachers, track, train."
        ],
    ),
    "section_key": ({"train": "{epochs: 3, epoch: 3}"}, ["7:20: train.epoch: unknown key of train (got 3). Did you mean 'epochs'?"]),
    "term_key": (
        {"objective": "{labels: cross_entropy, logits: {loss: dkd, weight: 0.5, beta: 8, temprature: 4}}"},
        ["6:78: objective.logits.temprature: unknown key of loss 'dkd' (got 4). Did you mean 'temperature'?"],
    ),
    "missing": (
        {"student": None},
        ["1:1: student: expected this key in the recipe, found nothing. The model that learns; a mapping, or just the reference."],
    ),
    "missing_model": (
        {"student": "{args: {hidden: [4]}}"},
        [
            "4:1: student.model: expected this key in student, found nothing. `timm:NAME`, `torchvision:NAME`, `hf:ID_OR_FOLDER`, `llama2c:FILE`, a built-in (`mlp`, `convnet`, `resnet`), or `module:callable`."
        ],
    ),
    "missing_loss": (
        {"objective": "{labels: {weight: 1}}"},
        ["6:13: objective.labels.loss: expected this key in term 'labels', found nothing. A registered loss, or `module:Class`."],
    ),
    "int": ({"train": "{epochs: 3.5}"}, ["7:17: train.epochs: expected a whole number, found 3.5."]),
    "int_text": ({"train": '{epochs: "3"}'}, ["7:17: train.epochs: expected a whole number, found '3' (text)."]),
    "bool": ({"baseline": "yes"}, ["8:11: baseline: expected true or false, found 'yes' (yes is text in YAML 1.2)."]),
    "text": ({"about": "{title: 3}"}, ["1:16: about.title: expected text, found 3."]),
    "list": ({"train": "{schedule: {milestones: 3}}"}, ["7:32: train.schedule.milestones: expected a list, found 3."]),
    "mapping": ({"train": "3"}, ["7:8: train: expected a mapping, found 3."]),
    "bound": ({"train": "{batch_size: 0}"}, ["7:21: train.batch_size: expected a number > 0, found 0."]),
    "nan": ({"train": "{clip: .nan}"}, ["7:15: train.clip: expected a finite number, found nan."]),
    "literal": (
        {"train": "{precision: bf61}"},
        ["7:20: train.precision: expected 'fp32', 'bf16' or 'fp16', found 'bf61'. Did you mean 'bf16'?"],
    ),
    "schedule": (
        {"train": "{schedule: cosin}"},
        ["7:19: train.schedule.name: expected 'constant', 'cosine', 'linear', 'step' or 'plateau', found 'cosin'. Did you mean 'cosine'?"],
    ),
    "task": (
        {"task": "clasification"},
        ["2:7: task: no task is called 'clasification'. Did you mean 'classification' or 'text_classification' or 'token_classification'?"],
    ),
    "loss": (
        {"objective": "{labels: reviewk}"},
        ["6:21: objective.labels.loss: no loss is called 'reviewk'. Did you mean 'reviewkd'?"],
    ),
    "loss_and_weight": (
        {"objective": "{labels: {loss: ddk, weight: -1}}"},
        [
            "6:28: objective.labels.loss: no loss is called 'ddk'. Did you mean 'dkd'?",
            "6:41: objective.labels.weight: expected a number >= 0, found -1.",
        ],
    ),
    "hyper_bound": (
        {"objective": "{logits: {loss: kd, temperature: 0}}"},
        ["6:45: objective.logits.temperature: expected a number > 0, found 0."],
    ),
    "hyper_type": (
        {"objective": "{logits: {loss: kd, temperature: hot}}"},
        ["6:45: objective.logits.temperature: expected a number, found 'hot' (text)."],
    ),
    "ramp_bound": (
        {"objective": "{logits: {loss: kd, temperature: {schedule: linear, start: 4, end: 0}}}"},
        ["6:79: objective.logits.temperature.end: expected a number > 0, found 0."],
    ),
    "ramp_key": (
        {"objective": "{logits: {loss: kd, temperature: {schedule: linear, start: 4, ent: 1}}}"},
        [
            "6:32: objective.logits.temperature: expected the key 'end' in a schedule, found nothing.",
            "6:74: objective.logits.temperature.ent: unknown key of a schedule (got 1). Did you mean 'end'?",
        ],
    ),
    "ramp_weight": (
        {"objective": "{logits: {loss: kd, weight: {schedule: linear, start: 1, end: -1}}}"},
        ["6:74: objective.logits.weight.end: expected a number >= 0, found -1."],
    ),
    "ramp_order": (
        {"objective": "{logits: {loss: kd, weight: {schedule: linear, start: 1, end: 0, begin: 0.5, until: 0.2}}}"},
        ["6:96: objective.logits.weight.until: expected a number > begin (0.5), found 0.2."],
    ),
    "ramp_exponential": (
        {"objective": "{logits: {loss: kd, weight: {schedule: exponential, start: 1, end: 0}}}"},
        ["6:51: objective.logits.weight.schedule: expected two ends of one sign for 'exponential', found 1 and 0."],
    ),
    "no_teacher": (
        {"teacher": None},
        ["5:44: objective.logits.loss: expected a teacher for loss 'kd', found none. Add `teacher: {model: ...}` to the recipe."],
    ),
    "from": (
        {"teachers": "{big: resnet}", "objective": "{logits: {loss: kd, from: bigg}}"},
        ["6:38: objective.logits.from: no teacher is called 'bigg'. Did you mean 'big'?"],
    ),
    "from_absent": (
        {"teacher": None, "teachers": "{big: resnet, small: mlp}"},
        ["5:44: objective.logits.loss: expected `from` to say which teacher (big, small), found nothing."],
    ),
    "layers_absent": (
        {"objective": "{hint: hint}"},
        ["6:19: objective.hint.loss: expected the layer that loss 'hint' reads, found no `student:`. Add `student: LAYER`."],
    ),
    "layers_excess": (
        {"objective": "{logits: {loss: kd, student: layer1}}"},
        ["6:32: objective.logits.student: loss 'kd' reads logits and takes no layers, found 'layer1'. Remove this key."],
    ),
    "layers_count": (
        {"objective": "{hint: {loss: hint, student: stage1, teacher: [stage1, stage2]}}"},
        ["6:58: objective.hint.teacher: expected as many layers as `student` has (1), found 2."],
    ),
    "labels": (
        {"task": "regression"},
        [
            "6:21: objective.labels.loss: expected a loss for labels of kind 'real', found 'cross_entropy', which is for 'class'.",
            "6:44: objective.logits.loss: expected a loss for labels of kind 'real', found 'kd', which is for 'class'.",
        ],
    ),
    "adapter": (
        {"objective": "{hint: {loss: hint, student: stage1, adapter: conv1x}}"},
        ["6:58: objective.hint.adapter.kind: no adapter is called 'conv1x'. Did you mean 'conv1x1'?"],
    ),
    "adapter_key": (
        {"objective": "{hint: {loss: hint, student: stage1, adapter: {kind: linear, bis: true}}}"},
        ["6:73: objective.hint.adapter.bis: unknown key of adapter 'linear' (got true). Did you mean 'bias'?"],
    ),
    "target": (
        {"objective": "{logits: {loss: kd, targets: logit_standardisation}}"},
        ["6:41: objective.logits.targets[0].name: no target is called 'logit_standardisation'. Did you mean 'logit_standardization'?"],
    ),
    "target_fields": (
        {"objective": "{logits: {loss: kd, targets: [logit_standardization, {name: logit_standardization, variant: papr, eps: 1}]}}"},
        [
            "6:104: objective.logits.targets[1].variant: expected 'paper' or 'official', found 'papr'. Did you mean 'paper'?",
            "6:110: objective.logits.targets[1].eps: unknown key of target 'logit_standardization' (got 1). Did you mean 'epsilon'?",
        ],
    ),
    "target_nameless": (
        {"objective": "{logits: {loss: kd, targets: {variant: paper}}}"},
        ["6:41: objective.logits.targets[0].name: expected this key in targets[0], found nothing. A registered target, or `module:Class`."],
    ),
    "target_number": ({"objective": "{logits: {loss: kd, targets: 3}}"}, ["6:41: objective.logits.targets: expected a list, found 3."]),
    "target_numbers": (
        {"objective": "{logits: {loss: kd, targets: [3]}}"},
        ["6:42: objective.logits.targets[0]: expected a mapping, found 3."],
    ),
    "target_key": (
        {"objective": "{logits: {loss: kd, target: logit_standardization}}"},
        ["6:32: objective.logits.target: unknown key of loss 'kd' (got 'logit_standardization'). Did you mean 'targets'?"],
    ),
    "target_code": (
        {"objective": "{logits: {loss: kd, targets: ['no_module:Mine']}}"},
        [
            "6:42: objective.logits.targets[0].name: expected a Python module, found 'no_module', "
            "which is not installed and not in the working directory."
        ],
    ),
    "optimizer": (
        {"train": "{optimizer: admw}"},
        ["7:20: train.optimizer.name: expected a torch optimizer (any case) or timm:NAME, found 'admw'. Did you mean 'AdamW'?"],
    ),
    "optimizer_key": (
        {"train": "{optimizer: {name: sgd, momentun: 0.9}}"},
        ["7:32: train.optimizer.momentun: unknown key of optimizer 'SGD' (got 0.9). Did you mean 'momentum'?"],
    ),
    "optimizer_type": (
        {"train": "{optimizer: {name: sgd, momentum: big}}"},
        ["7:42: train.optimizer.momentum: expected a number, found 'big'."],
    ),
    "optimizer_refuses": (
        {"train": "{optimizer: {name: sgd, nesterov: true}}"},
        [
            "7:42: train.optimizer.nesterov: the optimizer 'SGD' refuses its arguments: Nesterov momentum requires a momentum and zero dampening."
        ],
    ),
    "step": ({"train": "{step: supervise}"}, ["7:15: train.step: no step is called 'supervise'. Did you mean 'supervised'?"]),
    "kind": ({"teacher": "{model: mlp, kind: frozn}"}, ["5:29: teacher.kind: no teacher is called 'frozn'. Did you mean 'frozen'?"]),
    "scheme": (
        {"teacher": '"tim:resnet18"'},
        [
            "5:10: teacher.model: expected timm:, torchvision:, hf:, llama2c: or module:name, found 'tim:resnet18'. Did you mean 'timm:resnet18'?"
        ],
    ),
    "built_in": (
        {"student": "resnet18"},
        [
            "4:10: student.model: no built-in model is called 'resnet18'. Did you mean 'resnet'? Models of libraries are written timm:NAME, torchvision:NAME or hf:NAME, your own module:callable."
        ],
    ),
    "module": (
        {"student": "nowhere_at_all:make"},
        [
            "4:10: student.model: expected timm:, torchvision:, hf:, llama2c: or a Python module, found 'nowhere_at_all', which is not installed and not in the working directory."
        ],
    ),
    "reference": ({"student": '"timm:"'}, ["4:10: student.model: expected timm:NAME, found 'timm:'."]),
    "weights": (
        {"teacher": "{model: convnet, weights: nowhere.safetensors}"},
        [
            "5:36: teacher.weights: expected a weights file, a run directory, 'pretrained', 'random' or hub:ID, found 'nowhere.safetensors', which does not exist."
        ],
    ),
    "weights_suffix": (
        {"teacher": "{model: convnet, weights: r.yaml}"},
        ["5:36: teacher.weights: expected a file ending in .safetensors, .pt, .pth, .bin, found 'r.yaml'."],
    ),
    "source": (
        {"data": "digits"},
        [
            "3:7: data.source: expected a source that begins with arithmetic:, csv:, folder:, hf:, idx:, jsonl:, npz:, parquet:, python:, sklearn:, squad:, text:, torchvision: or module:callable, found 'digits'."
        ],
    ),
    "source_scheme": (
        {"data": '"sklern:digits"'},
        [
            "3:7: data.source: expected arithmetic:, csv:, folder:, hf:, idx:, jsonl:, npz:, parquet:, python:, sklearn:, squad:, text:, torchvision: or module:name, found 'sklern:digits'. Did you mean 'sklearn:digits'?"
        ],
    ),
    "source_path": ({"data": '"csv:nowhere.csv"'}, ["3:7: data.source: expected a path that exists, found 'nowhere.csv', which does not."]),
    "split": (
        {"data": '{source: "sklearn:digits", split: {valid: 0.5, test: 0.5}}'},
        ["3:34: data.split: expected valid + test below 1, found 0.5 + 0.5: nothing is left to train on."],
    ),
    "transform": (
        {"data": '{source: "sklearn:digits", transforms: [flp]}'},
        [
            "3:47: data.transforms[0]: no transform is called 'flp'. Did you mean 'flip' or 'vflip'? Those of torchvision are written tv:ClassName."
        ],
    ),
    "transform_key": (
        {"data": '{source: "sklearn:digits", transforms: [{crop: {pading: 3}}]}'},
        ["3:55: data.transforms[0].crop.pading: unknown key of transform 'crop' (got 3). Did you mean 'padding'?"],
    ),
    "transform_two": (
        {"data": '{source: "sklearn:digits", transforms: [{crop: 3, flip: 3}]}'},
        ["3:47: data.transforms[0]: expected one transform with its arguments, such as `crop: {padding: 4}`, found 2 keys."],
    ),
    "model_args": (
        {"student": "{model: mlp, args: {hiden: [3]}}"},
        ["4:30: student.args.hiden: unknown key of model 'mlp' (got a list). Did you mean 'hidden'?"],
    ),
    "tap": (
        {"objective": '{hint: {loss: hint, student: "stage1:outpt"}}'},
        ["6:41: objective.hint.student[0]: tap 'stage1:outpt': after ':' stands input or output, got 'outpt'. Did you mean 'output'?"],
    ),
    "learner": (
        {"stages": "{a: {learner: techer, objective: {labels: cross_entropy}}}"},
        ["8:23: stages.a.learner: no model of this recipe is called 'techer'. Did you mean 'teacher'?"],
    ),
    "stage_objective": (
        {"stages": "{a: {learner: teacher}}"},
        [
            "8:10: stages.a.objective: expected at least one term, such as `objective: {labels: cross_entropy}`, found none; only stages of the student inherit the recipe's."
        ],
    ),
    "own_teacher": (
        {"stages": "{a: {learner: teacher, objective: {logits: kd}}}"},
        [
            "8:52: stages.a.objective.logits.loss: expected a teacher other than the learner, found 'teacher', which is what this stage trains."
        ],
    ),
    "between": (
        {"stages": "{a: {repeat: 2, between: refresh}}"},
        ["8:34: stages.a.between: no action is called 'refresh'. Did you mean 'refresh_teacher'?"],
    ),
    "no_objective": (
        {"objective": None},
        ["1:1: objective: expected at least one term, such as `objective: {labels: cross_entropy}`, found none."],
    ),
    "label": (
        {"objective": "{a.b: cross_entropy}"},
        ["6:13: objective.a.b: expected a name of letters, digits, '_' and '-' that begins with a letter, found 'a.b'."],
    ),
    "remove": (
        {"stages": "{a: {objective: {logit: null}}}"},
        ["8:26: stages.a.objective.logit: there is no term 'logit' to remove. Did you mean 'logits'?"],
    ),
    "adapter_logits": (
        {"objective": "{logits: {loss: kd, adapter: linear}}"},
        ["6:32: objective.logits.adapter: loss 'kd' reads logits and takes no adapter. Remove this key."],
    ),
    "unit_track": (
        {"track": "[wandbb]"},
        ["8:9: track[0]: expected 'tensorboard', 'wandb' or 'mlflow', found 'wandbb'. Did you mean 'wandb'?"],
    ),
    "normalize": (
        {"student": "{model: mlp, normalize: {mean: [x], std: [0]}}"},
        [
            "4:42: student.normalize.mean[0]: expected a number, found 'x' (text).",
            "4:52: student.normalize.std[0]: expected a number > 0, found 0.",
        ],
    ),
    "normalize2": (
        {"student": "{model: mlp, normalize: dta}"},
        ["4:34: student.normalize: expected 'auto', 'data' or 'none', found 'dta'. Did you mean 'data'?"],
    ),
    "ema": ({"train": "{ema: 2}"}, ["7:14: train.ema.decay: expected a number <= 1, found 2."]),
    "lr": ({"train": "{optimizer: {lr: -1}}"}, ["7:25: train.optimizer.lr: expected a number >= 0, found -1."]),
    "teacher_layers_only": (
        {"objective": "{hint: {loss: hint, teacher: stage1}}"},
        ["6:26: objective.hint.loss: expected the layer that loss 'hint' reads, found no `student:`. Add `student: LAYER`."],
    ),
    "args": (
        {"data": '{source: "sklearn:digits", args: {traget: 3}}'},
        ["3:41: data.args.traget: unknown key of data source 'sklearn' (got 3). Did you mean 'strange'?"],
    ),
    "opt_lbfgs": (
        {"train": "{optimizer: lbfgs}"},
        ["7:20: train.optimizer.name: expected an optimizer that fits a usual training loop, found 'lbfgs': it needs a closure."],
    ),
    "term_scalar": ({"objective": "{labels: 3}"}, ["6:21: objective.labels: expected a mapping, found 3."]),
    "term_null": ({"objective": "{labels: null}"}, ["6:21: objective.labels: expected a mapping, found nothing."]),
    "obj_list": ({"objective": "[cross_entropy]"}, ["6:12: objective: expected a mapping, found a list."]),
    "stages_list": ({"stages": "[a]"}, ["8:9: stages: expected a mapping, found a list."]),
    "stage_data": ({"stages": "{a: {data: null}}"}, ["8:10: stages.a: expected data in every stage, found `data: null`."]),
}


@pytest.mark.parametrize(("changes", "expected"), VALUES.values(), ids=VALUES)
def test_values(changes, expected):
    assert problems(recipe(changes)) == expected
