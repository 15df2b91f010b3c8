"""What benchmarks/losses.py compares: each loss, the tensors it reads, and its peer.

A loss more is a few lines more in `PAIRS`: its name, what it reads, its peer, and fields that are not the defaults. A peer is a class of
torchdistill, or the formula in plain torch in the structure in which the public collections write it, loops included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peers
import peers_exits
import peers_features as inner
import peers_language
import peers_relations as relations
import peers_text
import torch
from torch import Tensor

from limbeck.losses.base import Loss
from limbeck.registry import LOSSES, TARGETS
from limbeck.types import Head, Signals

logging.disable(logging.INFO)
from torchdistill.losses import mid_level  # noqa: E402 - it announces itself when it is imported

Made = tuple[Signals, Signals, Tensor | None]
"""Student, teacher, labels."""


@dataclass(frozen=True)
class Peer:
    """Somebody else's loss."""

    name: str
    start: Callable[[Loss, Signals, Signals, Any], Callable[[], Tensor]]
    """From our loss (for the parameters that both train) and the signals, a function that computes the peer's value."""


@dataclass(frozen=True)
class Pair:
    """A loss and its peer."""

    loss: str
    make: Callable[[], Made]
    peer: Peer
    factor: float | None = 1.0
    """By how much the peer's value is larger by definition; None where it is another quantity."""
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""
    examples: int = 0
    """Size of the data set, for a loss that keeps something of every example."""
    target: str = ""
    """A transform of both models' signals that stands before the loss."""

    @property
    def name(self) -> str:
        """Its key in the table."""
        return self.loss + self.suffix

    def build(self) -> tuple[Loss, Signals, Signals, Tensor | None]:
        """The loss with its parameters, and the signals; the student's are those that are taught."""
        student, teacher, labels = self.make()
        for value in read(student):
            value.requires_grad_()
        loss = LOSSES.get(self.loss)(**self.options)
        if self.examples:
            loss.allocate(self.examples)
        loss.setup(student, teacher)
        return loss, student, teacher, labels

    def ours(self, loss: Loss, student: Signals, teacher: Signals, labels: Tensor | None) -> Callable[[], Tensor]:
        """Computes Limbeck's value."""
        if not self.target:
            return lambda: mean(loss(student, teacher, labels))
        target = TARGETS.get(self.target)()
        return lambda: mean(loss(*target(student, teacher), labels))


def mean(values: Tensor) -> Tensor:
    """As the other side takes it."""
    return values.mean() if values.ndim else values


def read(signals: Signals) -> list[Tensor]:
    """What a model gave."""
    views = [x for view in signals.views for x in read(view)]
    return [*([] if signals.logits is None else [signals.logits]), *signals.features.values(), *views]


# what is read


def logits(batch: int, classes: int) -> Callable[[], Made]:
    """Logits of both models and labels."""
    return lambda: (
        Signals(3 * torch.randn(batch, classes)),
        Signals(3 * torch.randn(batch, classes)),
        torch.randint(classes, (batch,)),
    )


def features(*student: tuple[int, ...], teacher: tuple[tuple[int, ...], ...] = (), classes: int = 0) -> Callable[[], Made]:
    """Inner layers of both models (`teacher` where its shapes are others), with logits where `classes` is given."""

    def make() -> Made:
        batch = student[0][0]
        both = [Signals.of(*(torch.randn(shape).relu() if len(shape) > 2 else torch.randn(shape) for shape in shapes))
                for shapes in (student, teacher or student)]  # fmt: skip
        if classes:
            for signals in both:
                signals.logits = 3 * torch.randn(batch, classes)
        return both[0], both[1], torch.randint(max(classes, 2), (batch,))

    return make


# peers


def torchdistill(key: str, **arguments: Any) -> Peer:
    """A loss of torchdistill; its module paths are `logits`, or the number of the layer."""

    def start(loss: Loss, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
        peer = getattr(mid_level, key)(**arguments)
        ours, theirs = ({path: {"output": value} for path, value in _named(signals)} for signals in (student, teacher))
        return lambda: peer(ours, theirs, labels)

    return Peer(f"torchdistill {key}", start)


def _named(signals: Signals) -> list[tuple[str, Tensor]]:
    return [*([] if signals.logits is None else [("logits", signals.logits)]), *signals.features.items()]


def closed(name: str, formula: Callable[[Signals, Signals, Any], Tensor]) -> Peer:
    """A formula of the signals."""
    return Peer(name, lambda loss, student, teacher, labels: lambda: formula(student, teacher, labels))


def module(path: str, io: str = "module_io") -> dict[str, str]:
    """Where a loss of torchdistill that compares one place finds it."""
    return {f"{side}_module_path": path for side in ("student", "teacher")} | {f"{side}_{io}": "output" for side in ("student", "teacher")}


def layers(count: int) -> dict[str, Any]:
    """Pairs of layers as torchdistill's losses are told of them."""
    return {str(i): {side: {"path": str(i), "io": "output"} for side in ("student", "teacher")} for i in range(count)}


def shared(name: str, formula: Callable[[Any, Signals, Signals, Any], Tensor]) -> Peer:
    """A formula of our loss, whose parameters (connectors, projectors) both train, and the signals."""
    return Peer(name, lambda loss, student, teacher, labels: lambda: formula(loss, student, teacher, labels))


def review(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """The same connectors, then torchdistill's loss layer by layer."""
    peer = mid_level.HierarchicalContextLoss("0", "output", "0", "output")
    pairs = zip(loss.review.stages, student.features.values(), teacher.features.values(), strict=True)
    total, carried = torch.zeros(()), None
    for stage, s, t in reversed(list(pairs)):
        output, carried = stage(s, carried, t.shape[2:])
        total = total + peer({"0": {"output": (output, None)}}, {"0": {"output": t}})
    return total


def translated(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """The same networks, then torchdistill's loss."""
    peer = mid_level.KTALoss()
    with torch.no_grad():
        theirs = loss.translator.encoder(teacher.feature)
    return peer({"feature_adapter": {"output": loss.adapter(student.feature)}}, {"paraphraser": {"output": theirs}})


def context(loss: Any, student: Signals, teacher: Signals, labels: Any) -> Tensor:
    """torchdistill's loss on a map."""
    peer = mid_level.HierarchicalContextLoss("0", "output", "0", "output")
    return peer({"0": {"output": (student.feature, None)}}, {"0": {"output": teacher.feature}})


def contrast(loss: Loss, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """Contrast with the memory of a data set of 50,000 examples."""
    peer = relations.ContrastMemory(loss, 50_000, 16_384)
    return lambda: peer(student, teacher, labels)


def with_index(make: Callable[[], Made], examples: int) -> Callable[[], Made]:
    """The same with numbers of the examples."""

    def made() -> Made:
        student, teacher, labels = make()
        student.extra = {"index": torch.randperm(examples)[: len(read(student)[0])]}
        return student, teacher, labels

    return made


def with_private(make: Callable[[], Made]) -> Callable[[], Made]:
    """The same with how private each of the examples is."""

    def made() -> Made:
        student, teacher, labels = make()
        student.extra = {"private": torch.rand(len(read(student)[0]))}
        return student, teacher, labels

    return made


def skd(loss: Loss, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """Both terms of torchdistill, in the paper's form."""
    terms = [torchdistill(key, **module("logits")).start(loss, student, teacher, labels) for key in ("SKDInstanceLoss", "SKDDirectionLoss")]
    return lambda: terms[0]() + terms[1]()


def subclasses(loss: Loss, student: Signals, teacher: Signals, labels: Any) -> Callable[[], Tensor]:
    """Pseudo-subclasses with a state of their own."""
    peer = relations.Subclasses(loss)
    return lambda: peer(student, teacher, labels)


def rotated(make: Callable[[], Made]) -> Callable[[], Made]:
    """The same for an image and its three rotations."""

    def made() -> Made:
        student, teacher, labels = make()
        for signals, turns in zip((student, teacher), zip(*(make()[:2] for _ in range(3)), strict=True), strict=True):
            signals.views = turns
        return student, teacher, labels

    return made


def old_classes(batch: int, classes: int, old: int) -> Callable[[], Made]:
    """Logits of a student that has more classes than its teacher."""
    return lambda: (Signals(3 * torch.randn(batch, classes)), Signals(3 * torch.randn(batch, old)), None)


def with_heads(make: Callable[[], Made], classes: int) -> Callable[[], Made]:
    """The same with linear classifiers on the last feature's channels."""

    def made() -> Made:
        student, teacher, _ = make()
        batch = len(read(student)[0])
        for signals in (student, teacher):
            width = list(signals.features.values())[-1].shape[1]
            signals.head = Head(torch.randn(classes, width) / 10, torch.zeros(classes))
        return student, teacher, torch.randint(classes, (batch,))

    return made


# the table

LOGITS, MANY = logits(128, 1000), logits(64, 100_000)
MAP, SMALL, EMBEDDING = (32, 64, 28, 28), (32, 256, 14, 14), (256, 512)
OUTPUT = {"student_output_path": "0", "teacher_output_path": "0"}
KD = torchdistill("KDLoss", **module("logits"), temperature=4.0, beta=1.0)

FLOW = {
    f"{side}_{which}": {"path": str(i), "io": "output"} for side in ("student", "teacher") for i, which in enumerate(("first", "second"))
}

PAIRS: list[Pair] = [
    # logits
    Pair("kd", LOGITS, KD, factor=1 / 16),
    Pair("kd", MANY, KD, factor=1 / 16, suffix="_100000"),
    Pair("kd", LOGITS, torchdistill("LogitStdKDLoss", **module("logits"), temperature=4.0, beta=1.0), target="logit_standardization",
         suffix="_standardized", factor=None),
    Pair("dkd", LOGITS, closed("as in mdistiller", peers.dkd)),
    Pair("dkd", MANY, closed("as in mdistiller", peers.dkd), suffix="_100000"),
    Pair("cross_entropy", LOGITS, closed("torch, one value an example", peers.cross_entropy)),
    Pair("cross_entropy", MANY, closed("torch, one value an example", peers.cross_entropy), suffix="_100000"),
    Pair("bce", lambda: (Signals(torch.randn(128, 1000)), Signals(), (torch.rand(128, 1000) < 0.1).float()),
         closed("torch, missing labels masked", peers.masked_bce)),
    Pair("soft_cross_entropy", LOGITS, closed("torch", peers.soft_cross_entropy), options={"temperature": 4.0}),
    Pair("nkd", LOGITS, closed("as in cls_KD", peers.nkd)),
    Pair("wsld", LOGITS, closed("as in mmrazor", peers.wsld)),
    Pair("ttm", LOGITS, closed("authors' structure", peers.ttm)),
    Pair("wttm", LOGITS, closed("authors' structure", peers.wttm)),
    Pair("ctkd", LOGITS, shared("authors' structure", peers.ctkd), options={"temperature": 1.0, "temperature_range": 20.0}),
    Pair("bdkd", LOGITS, closed("from the formula", peers.bdkd)),
    Pair("mlkd", LOGITS, closed("authors' structure", peers.mlkd)),
    Pair("sinkd", LOGITS, closed("authors' structure", peers.sinkd)),
    Pair("dist", LOGITS, torchdistill("DISTLoss", **module("logits"), beta=2.0, gamma=2.0, tau=1.0)),
    Pair("skd", LOGITS, Peer("torchdistill SKDInstanceLoss + SKDDirectionLoss", skd)),
    Pair("wa_kd", old_classes(128, 1000, 800), closed("from the formula", peers.wa_kd)),
    Pair("tf_kd", LOGITS, closed("from the formula, a loop over examples", peers.tf_kd)),
    Pair("ps_kd", with_index(LOGITS, 10_000), shared("authors' structure", peers.ps_kd), examples=10_000, factor=None),
    Pair("uskd", features((128, 512), classes=1000), shared("as in cls_KD, same head", peers.uskd)),
    Pair("bernoulli_kd", LOGITS, closed("from the formula", peers.bernoulli_kd)),
    Pair("akl", LOGITS, closed("authors' structure", peers_language.akl)),
    Pair("topk_kd", LOGITS, closed("as in DistillKit", peers_language.topk_kd)),
    Pair("margin_mse", LOGITS, closed("from the formula", peers_language.margin_mse)),
    Pair("mft", LOGITS, closed("as in Model-Optimizer", peers_language.mft)),
    Pair("ranking_kd", LOGITS, closed("from the formula, a loop over places", peers.ranking_kd)),
    Pair("regression_kd", lambda: (Signals(torch.randn(256, 100)), Signals(torch.randn(256, 100)), torch.randn(256, 100)),
         closed("from the formula, missing labels masked", peers.regression_kd)),
    Pair("focal", LOGITS, closed("from the formula", peers_exits.focal)),
    Pair("knowledge_concentration", LOGITS, Peer("from the formula", peers_exits.knowledge_concentration), factor=None),
    Pair("meal_v2", LOGITS, shared("authors' structure, same critic", peers_exits.meal_v2), options={"variant": "official"}),
    Pair("meal_v2_alternating", LOGITS, Peer("authors' structure, one rests", peers_text.meal_v2_alternating), factor=None),
    Pair("panda", LOGITS, closed("torch, one value an example", peers_text.panda)),
    Pair("skd_map", LOGITS, closed("from the formula", peers_text.skd_map)),
    Pair("swing", with_private(LOGITS), closed("from the formula", peers_text.swing)),
    # features
    Pair("self_exits", features((32, 64, 14, 14), (32, 128, 7, 7), classes=100), shared("from the formula, same exits",
         peers_exits.self_exits)),
    Pair("lsskd", rotated(with_heads(features((16, 64, 14, 14), (16, 128, 7, 7)), 100)), shared("from the formula, same exits",
         peers_exits.lsskd)),
    Pair("attention_relation", features((8, 128, 768), (8, 128, 768), (8, 128, 768)), closed("from the formula",
         peers_text.attention_relation), options={"heads": peers_text.HEADS}),
    Pair("hidden_states", features((8, 128, 768), (8, 128, 768)), closed("torch, layer by layer", peers_text.hidden_states)),
    Pair("mix_distribution", features((32, 256, 14, 14)), Peer("from the formula, same layers", peers_text.mix_distribution),
         factor=None),
    Pair("attention_kd", features((8, 12, 128, 128), (8, 12, 128, 128)), closed("authors' structure", peers_exits.attention_kd)),
    Pair("mse", features(MAP), closed("torch, as in torchdistill", inner.squared_error)),
    Pair("hint", features(SMALL), closed("torch, as in torchdistill", inner.squared_error)),
    Pair("cosine", features(MAP), closed("torch", inner.cosine)),
    Pair("at", features(MAP, SMALL), torchdistill("ATLoss", at_pairs=layers(2), mode="paper")),
    Pair("at", features(MAP, SMALL), torchdistill("ATLoss", at_pairs=layers(2), mode="code"), options={"variant": "official"},
         suffix="_official"),
    Pair("nst", features((32, 64, 14, 14)), closed("as in RepDistiller", inner.nst)),
    Pair("hcl", features(MAP), shared("torchdistill HierarchicalContextLoss", context)),
    Pair("reviewkd", features((8, 64, 28, 28), (8, 128, 14, 14), (8, 256, 7, 7)), shared("torchdistill HierarchicalContextLoss, same "
         "connectors", review)),
    Pair("cat_kd", with_heads(features((32, 256, 7, 7)), 1000), closed("authors' structure", inner.cat_kd)),
    Pair("nd_loss", with_heads(features((256, 512)), 100), shared("authors' structure", inner.nd_loss)),
    Pair("lelp", with_heads(features((128, 512), classes=20), 20), Peer("from the formula, class by class, same head", subclasses)),
    Pair("sskd", rotated(features((64, 128), classes=100)), shared("authors' structure, same projections", relations.sskd)),
    Pair("ickd", features(SMALL), torchdistill("ChSimLoss", feature_pairs=layers(1)), options={"variant": "official"}, factor=1 / 32),
    Pair("ickd", features((8, 2048, 7, 7)), torchdistill("ChSimLoss", feature_pairs=layers(1)), options={"variant": "official"},
         factor=1 / 8, suffix="_wide"),
    Pair("skt_cosine", features(MAP, SMALL), closed("authors' structure", inner.skt_cosine)),
    Pair("skt_dense_fsp", features((8, 64, 56, 56), (8, 128, 28, 28), (8, 256, 14, 14)), closed("authors' structure", inner.skt_dense_fsp)),
    Pair("frequency", features(MAP), closed("from the formula", inner.frequency), options={"band": "details"}),
    Pair("pad", features(EMBEDDING), shared("as in torchdistill, same estimator", inner.pad)),
    Pair("srd", features(EMBEDDING), shared("authors' structure, same projector", inner.srd)),
    Pair("ft", features((8, 256, 14, 14)), shared("as in mmrazor, same networks", inner.factor_transfer),
         options={"variant": "official", "reconstruction": 0.0}),
    Pair("fsp", features((32, 64, 28, 28), (32, 64, 28, 28)), torchdistill("FSPLoss", fsp_pairs={"0": FLOW}),
         options={"variant": "torchdistill"}),
    Pair("fsp", features((8, 2048, 7, 7), (8, 2048, 7, 7)), closed("as in torchdistill, squared", relations.fsp), suffix="_wide"),
    Pair("ofa", features((64, 64, 14, 14), (64, 128, 7, 7), classes=1000), shared("authors' structure, same exits", inner.ofa)),
    Pair("dho", features(EMBEDDING, classes=1000), shared("authors' structure, same head", inner.dho)),
    Pair("haste", features((16, 6, 197, 197)), closed("authors' structure", inner.haste)),
    Pair("dmae", features((32, 197, 384)), closed("authors' structure", inner.dmae)),
    Pair("scalekd", features((8, 128, 14, 14)), shared("from the formula, same projectors", inner.scalekd)),
    Pair("kdsvd", features((32, 64, 28, 28), (32, 128, 14, 14)), closed("from the formula, torch's svd", inner.kdsvd), factor=None),
    Pair("token_relation", features((8, 64, 28, 28)), closed("from the formula", relations.token_relation)),
    Pair("mgd", features((8, 128, 14, 14)), shared("as in mmrazor, same convolutions", inner.mgd), factor=None),
    Pair("ab", features(MAP, SMALL), torchdistill("AltActTransferLoss", feature_pairs=layers(2), margin=1.0, reduction="mean")),
    Pair("vid", features((8, 128, 14, 14)), shared("as in torchdistill, same regressor", inner.vid), options={"variant": "official"}),
    Pair("ofd", features((8, 64, 28, 28), (8, 128, 14, 14)), shared("as in RepDistiller, same connectors", inner.ofd)),
    Pair("kta", features((8, 256, 14, 14)), shared("torchdistill KTALoss, same networks", translated), options={"reconstruction": 0.0},
         factor=None),
    Pair("simkd", features((8, 128, 14, 14)), shared("authors' structure, same projector", relations.simkd)),
    Pair("affinity", features((8, 64, 14, 14)), torchdistill("AffinityLoss", **module("0")), options={"variant": "torchdistill"}),
    Pair("affinity", features((8, 64, 28, 28)), closed("from the formula", relations.affinity), suffix="_paper"),
    Pair("trg", features((32, 64, 14, 14)), shared("from the formula, same map", relations.trg), factor=None),
    Pair("afd", features((8, 64, 28, 28), (8, 128, 14, 14)), shared("authors' structure, same attention", relations.afd)),
    Pair("semckd", features((32, 64, 14, 14), (32, 128, 7, 7)), shared("authors' structure, same projectors", relations.semckd)),
    # dense
    Pair("transkd", features((8, 64, 28, 28), (8, 128, 14, 14), (8, 256, 7, 7)), shared("torchdistill HierarchicalContextLoss, same "
         "connectors", review)),
    Pair("cwd", features(MAP), closed("authors' structure", relations.cwd)),
    Pair("pixel_kl", features(MAP), closed("from the formula", relations.pixel_kl), factor=None),
    Pair("dist_plus", features((32, 256, 14, 14), classes=1000), torchdistill("DISTPlusLoss", **{
         f"{side}_{what}": where for side in ("student", "teacher") for what, where in (("logit_module_path", "logits"), ("logit_module_io",
         "output"), ("feature_module_path", "0"), ("feature_module_io", "output"))}), options={"variant": "official"}),
    Pair("pkd", features(MAP), closed("as in mmrazor", inner.pkd), options={"variant": "official"}),
    Pair("foreground", features(MAP), closed("from the formula", inner.foreground)),
    Pair("attention_guided", features((8, 256, 28, 28)), shared("authors' structure, same maps", inner.attention_guided)),
    # relations
    Pair("pkt", features(EMBEDDING), torchdistill("PKTLoss", **module("0")), options={"variant": "official"}),
    Pair("cc", features((512, 128)), torchdistill("CCKDLoss", student_linear_path="0", teacher_linear_path="0",
         kernel_config={"type": "gaussian", "gamma": 0.4, "max_p": 2}, reduction="batchmean"), options={"variant": "torchdistill"}),
    Pair("crd", with_index(features((32, 512)), 50_000), Peer("as in RepDistiller, same embeddings", contrast), examples=50_000,
         options={"variant": "official", "contrast_with": "example"}, factor=None),
    Pair("mi_bound", features(EMBEDDING), shared("authors' structure, same critics", relations.mi_bound)),
    Pair("cka", features(EMBEDDING), closed("from the formula", relations.cka)),
    Pair("darkrank", features(EMBEDDING), closed("as in the code of RKD", relations.darkrank)),
    Pair("neighbour_product", features(EMBEDDING), closed("as in RepDistiller", relations.neighbour_product)),
    Pair("gssf", features(EMBEDDING), shared("from the formula, same W", relations.gssf)),
    Pair("wcord", features(EMBEDDING), shared("from the formula, same maps", relations.wcord)),
    Pair("sp", features(SMALL), torchdistill("SPKDLoss", **OUTPUT, reduction="batchmean"), factor=None),
    Pair("sp", features(EMBEDDING), torchdistill("SPKDLoss", **OUTPUT, reduction="batchmean"), factor=None, suffix="_embedding"),
    Pair("rkd", features(EMBEDDING), torchdistill("RKDLoss", **OUTPUT, dist_factor=1.0, angle_factor=2.0, reduction="mean")),
]  # fmt: skip
