"""Finds a good distillation pipeline for the data, teacher and student of a recipe: `limbeck recommend`.

In this order, within one budget of time: the teacher is trained or read once; plain distillation is tried; then what the evidence of
other tasks (or a fixed order) proposes; then what Optuna draws, with trials that fall behind stopped early; the best are judged with
further seeds; and at the end the test split is read, once, for the recommended pipeline, plain distillation and the student alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import assemble
from ..config.load import LoadedRecipe, load_recipe
from ..data.load import data_info
from ..engine.watch import Listener, Silent
from ..errors import CodeNotAllowed, Interrupted, RunError, UnknownName
from ..files import check_writable, read_json, write_json, write_text
from ..preflight import preflight
from ..run import interruptible, recipe_file
from ..types import DataInfo
from ..version import __version__
from .advice import headline, reasons, recipe_text, summary
from .bench import Bench, failure
from .clock import Clock, words
from .finals import Finalist, choose, compare, confirm, ending
from .ground import Ground, ground_of
from .meta import Circumstances, MetaLearner, read_evidence, usual
from .pipeline import Pipeline, Scales
from .search import PLAIN, PROPOSED, RUNGS, Candidate, Ongoing, Search, best, storage_url
from .space import GROUPS, Choice, Space, find_space
from .trying import Trier
from .wish import FIRST, FOLDERS, LARGE, SLOW, SMALL, Recommendation, Wish

ASKED_FOR_NOTHING = Wish()


def recommend(
    recipe: str | Path | Mapping[str, Any],
    wish: Wish = ASKED_FOR_NOTHING,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    listener: Listener | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Recommendation:
    """Searches for a pipeline.

    Args:
        recipe: a recipe file, or the recipe as a mapping; its own terms with a teacher are replaced, all else stays.
        wish: budget, folder, storage.
        set: overrides by dotted key.
        device: as for a run.
        allow_code: import code that the recipe names.
        listener: who is told of the training of the teacher.
        say: told in a line what happens.

    Raises:
        RecipeError: all problems of the recipe at once.
        LimbeckError: anything else that the user can mend.
        Interrupted: after Ctrl-C; `resume` goes on.
    """
    wish = replace(wish, began=wish.began if wish.began is not None else time.monotonic())
    for group in wish.fix:
        if group not in GROUPS:
            raise UnknownName("group of factors", group, GROUPS)
    loaded = load_recipe(recipe_file(recipe), set=set, allow_code=allow_code)
    if loaded.code and not allow_code:
        raise CodeNotAllowed(loaded.code[0])
    found = preflight(loaded, allow_code=allow_code, device=device)
    found.raise_problems()
    folder = wish.out or FOLDERS / (loaded.path.stem if loaded.path is not None else "recipe")
    with interruptible() as interrupted:
        task = _Recommender(loaded, wish, folder, device, allow_code, listener or Silent(), say, interrupted)
        try:
            return task.run()
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(f"stopped; go on with --resume --out {folder}") from None


class _Behind(Exception):  # noqa: N818 - an event, not a mistake
    """A trial is not worth going on with."""


@dataclass
class _Recommender:
    loaded: LoadedRecipe
    wish: Wish
    folder: Path
    device: str | None
    allow_code: bool
    listener: Listener
    say: Callable[[str], None]
    interrupted: Callable[[], bool]
    ground: Ground = field(init=False)
    bench: Bench = field(init=False)
    trier: Trier = field(init=False)
    search: Search = field(init=False)
    clock: Clock = field(init=False)

    def run(self) -> Recommendation:
        done = self.folder / "recommendation.json"
        self._open()
        if done.exists():
            self.say(f"{self.folder}: this search is finished; its result is shown as it is.")
            return Recommendation(self.folder, read_json(done))
        info = self._ground()
        self._teacher()
        plain = self.trier.plain
        space = self._space(info)
        meta = self._first(space, plain, info)
        self._search(plain)
        candidates = self.search.candidates()
        training = self._training(candidates)
        end = ending(self._after_first, training)
        self.say(f"{sum(c.state == 'complete' for c in candidates)} trials complete; {words(max(self.clock.left, 0))} left for the end")
        finalists = best(candidates, end.finalists)
        if not finalists:
            raise RunError(f"{self.folder}: no trial was completed: {candidates[-1].note if candidates else 'there was no time for one'}.")
        if all(item.role != PLAIN for item in finalists):
            told = [c.note for c in candidates if c.role == PLAIN and c.note]
            raise RunError(
                f"{self.folder}: plain distillation was not completed, so nothing can be compared with it. {' '.join(told)}".strip()
            )
        reserve = 3 * min(end.seeds, 2) * training
        seed = self.loaded.recipe.seed
        judged = confirm(self.trier, self.folder, finalists, end.tries, self.clock, reserve, seed=seed, say=self.say)
        chosen, usual_one = choose(judged), next(item for item in judged if item.role == PLAIN)
        seeds = end.seeds if self.clock.left > 3 * training else 0
        tested = compare(self.trier, self.folder, chosen, usual_one, seeds, self.clock, seed=seed, say=self.say)
        return self._written(chosen, judged, candidates, space, meta, tested)

    # before the search

    def _open(self) -> None:
        """Takes the folder, or goes on in it.

        Raises:
            RunError: where it holds another search, or none that could be resumed.
        """
        mark = self.folder / "search.json"
        mine = {"recipe": self._fingerprint(), "fix": list(self.wish.fix), "limbeck": __version__}
        if mark.exists() and not self.wish.resume:
            raise RunError(f"{self.folder}: holds a search already. Add --resume to go on with it, or choose another folder with --out.")
        if self.wish.resume and not mark.exists():
            raise RunError(f"{self.folder}: --resume was asked for, but no search was begun there. Leave --resume away to begin one.")
        if not mark.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            check_writable(self.folder, 0)
            write_json(mark, {**mine, "name": f"{self.loaded.path.stem if self.loaded.path else 'recipe'}-{mine['recipe']}"})
        before = read_json(mark)
        if before["recipe"] != mine["recipe"] or before["fix"] != mine["fix"]:
            raise RunError(f"{self.folder}: the search was begun with another recipe or other --fix. Choose another folder with --out.")
        self.clock = Clock(self.wish.budget, self.folder / "clock.json", self.wish.began)
        self.search = Search(
            self.wish.storage or storage_url(self.folder), before["name"], seed=self.loaded.recipe.seed, owner=str(self.folder.absolute())
        )

    def _fingerprint(self) -> str:
        # Only what somebody wrote: a later version may know further keys.
        told = json.dumps(self.loaded.recipe.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def _ground(self) -> DataInfo:
        recipe = assemble.located(self.loaded)
        task = assemble.build_task(recipe, allow_code=self.allow_code)
        request = assemble.data_request(recipe.data, recipe)
        info = data_info(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=self.allow_code)
        self.ground = ground_of(self.loaded, task.on(info), allow_code=self.allow_code)
        self.bench = Bench(self.folder, self.device, self.listener, self.interrupted, self.allow_code)
        return info

    def _teacher(self) -> None:
        examples = self.bench.examples(self.loaded)
        write_json(self.folder / "examples.json", examples)
        plain = Pipeline(self.ground.plain[0])
        self.trier = Trier(self.ground, self.bench, examples["valid"], plain)
        place = self.folder / "shared"
        loaded = self.bench.load(self.ground.recipe(None, place), place)
        took = self.bench.prepare(loaded)
        self.clock.note(now=True)
        if took > 1:
            self.say(f"teacher ready after {words(took)}; every trial uses it")
        if self.clock.left <= 0:
            text = f"the budget of {words(self.wish.budget)} was spent before the search, on the teacher and the check"
            raise RunError(f"{text}. Go on with a larger --budget and --resume --out {self.folder}.")

    def _space(self, info: DataInfo) -> Space:
        """The space; a small budget looks at few losses, a large one at all."""
        few, many = self.wish.budget < SMALL, self.wish.budget > LARGE
        logits, features = (5, 5) if few else (40, 60) if many else (12, 14)
        start = time.monotonic()
        space = find_space(self.ground, info, logits=logits, features=features, allow_code=self.allow_code).fixed(self.wish.fix)
        # What reading, checking and telling take depends on the machine, as this does.
        self._overhead = min(2.0 + (time.monotonic() - start) / 2, 0.1 * self.wish.budget)
        self.search.over(space)
        self.search.recover()
        counts = {name: len(factor.options) for name, factor in space.factors.items() if isinstance(factor, Choice)}
        losses = f"{counts.get('logits', 1)} losses on outputs, {counts.get('features', 1) - 1} on inner layers"
        self.say(f"space: {len(space.factors)} factors, {losses}")
        return space

    def _first(self, space: Space, plain: Pipeline, info: DataInfo) -> str:
        """Puts the first trials into the queue; returns where they come from."""
        self.search.propose(plain, PLAIN)
        if self.wish.budget >= SMALL:
            self.search.propose(replace(plain, temperature=2.0, share=0.5), PLAIN)
        learner = MetaLearner(read_evidence(self.wish.evidence))
        proposals: list[Pipeline] = []
        if learner.trusted:
            where = Circumstances(
                self.loaded.recipe.task,
                labelled=self.ground.data.label_fraction,
                outputs=math.log(max(info.num_outputs, 1)),
                **self.bench.sizes(self.loaded),
            )
            proposals = learner.propose(where, space, plain, FIRST, seed=self.loaded.recipe.seed)
        for pipeline in [*proposals, *usual(space, plain)]:
            self.search.propose(pipeline, PROPOSED)
        self.say(learner.reason)
        return learner.reason

    # the search

    def _training(self, candidates: Sequence[Candidate]) -> float:
        """Seconds that a student takes, as measured."""
        took = sorted(c.seconds for c in candidates if c.state == "complete")
        return took[len(took) * 3 // 4] if took else 0.0

    def _reserve(self) -> float:
        """Seconds that the end needs: its trainings, as long as those so far, and what comes with them."""
        training = self._training(self.search.candidates())
        return ending(self._after_first, training).trainings() * training + self._overhead

    _overhead: float = 0.0

    @property
    def _after_first(self) -> float:
        """Seconds that were left after the first trial, of which the end takes its share; noted, so that it stays what it was."""
        file = self.folder / "plan.json"
        if not file.exists():
            write_json(file, {"after_first": max(self.clock.left, 0.0)})
        return float(read_json(file)["after_first"])

    def _search(self, plain: Pipeline) -> None:
        while not self._enough():
            if self.interrupted():
                raise Interrupted("stopped")
            self._trial(self.search.ask(plain))
            self.clock.note(now=True)

    def _enough(self) -> bool:
        candidates = self.search.candidates()
        ended = [c for c in candidates if c.state != "running"]
        plain = [c for c in candidates if c.role == PLAIN and c.state == "complete"]
        if self.wish.trials is not None and len(ended) >= max(self.wish.trials, 1):
            return True
        if not plain:
            return self.clock.left <= 0 and bool(ended)
        return self.clock.left - self._reserve() < self._training(candidates)

    def _trial(self, ongoing: Ongoing) -> None:
        folder = self.folder / "trials" / f"{ongoing.number:04d}"
        self.bench.forget(folder)  # what a kill has left under this number
        start = time.monotonic()
        told: dict[str, Any] = {"pipeline": ongoing.pipeline.values(), "metrics": {}, "note": "", "scales": {}}
        state, score = "failed", None
        try:
            scales = self.trier.weighed(ongoing.pipeline)
            pipeline, loaded = self.trier.fitting(ongoing.pipeline, folder, scales, seed=self.loaded.recipe.seed)
            told |= {"pipeline": pipeline.values(), "scales": asdict(scales)}
            trained = self.trier.train(loaded, folder, self._watch(ongoing, start))
            told["metrics"] = dict(trained.metrics)
            state, score = "complete", self.trier.score(trained.metrics)
        except _Behind as reason:
            state, told["note"] = "pruned", str(reason)
        except (Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:  # what goes wrong in one pipeline must not end the search; what is no such thing is raised again
            told["note"] = failure(error)
        told["seconds"] = time.monotonic() - start
        self.search.tell(ongoing, state, score, told)
        self.bench.forget(folder)
        said = f"{score:.4f}" if score is not None else f"{state}: {told['note']}"
        self.say(f"trial {ongoing.number} ({ongoing.role}): {summary(Pipeline.of(told['pipeline']), self.trier.plain)}: {said}")

    def _watch(self, ongoing: Ongoing, start: float) -> Callable[[float, float], None]:
        """Stops a trial that falls behind, takes too long, or has no time left; plain distillation is never stopped."""
        left = list(RUNGS)
        usual_time = self._training([c for c in self.search.candidates() if c.role == PLAIN])
        reserve = self._reserve() if usual_time else 0.0

        def told(share: float, score: float) -> None:
            self.clock.note()
            while left and 100 * share >= left[0]:
                if self.search.behind(ongoing, left.pop(0), score) and ongoing.role != PLAIN:
                    raise _Behind(f"half of the others were better after {share:.0%} of the training")
            if ongoing.role == PLAIN or not usual_time:
                return
            if time.monotonic() - start > SLOW * usual_time:
                raise _Behind(f"it takes more than {SLOW:g} times as long as plain distillation")
            if self.clock.left < reserve and share < 1:
                raise _Behind("the time of the search was over")

        return told

    # the end

    def _written(
        self,
        chosen: Finalist,
        judged: Sequence[Finalist],
        candidates: Sequence[Candidate],
        space: Space,
        meta: str,
        tested: Mapping[str, Any],
    ) -> Recommendation:
        from ..report.recommendation import write_page

        plain, importance = self.trier.plain, self.search.importance()
        why = reasons(chosen.pipeline, plain, candidates, importance)
        contents: dict[str, Any] = {
            "format": 1,
            "kind": "recommendation",
            "limbeck": __version__,
            "recipe": str(self.loaded.path or ""),
            "task": self.loaded.recipe.task,
            "primary": self.ground.primary,
            "better": "higher" if self.ground.maximize else "lower",
            "budget": self.wish.budget,
            "data": read_json(self.folder / "examples.json"),
            "chosen": {"summary": summary(chosen.pipeline, plain), "pipeline": chosen.pipeline.values(), "scales": dict(chosen.scales)},
            "reasons": why,
            "first": meta,
            "importance": importance,
            "finalists": [
                {"number": f.number, "summary": summary(f.pipeline, plain), "role": f.role, "scores": list(f.scores), "mean": f.mean}
                for f in sorted(judged, key=lambda item: -item.mean)
            ],
            "test": dict(tested),
            "trials": [
                {**{k: v for k, v in asdict(c).items() if k != "pipeline"}, "summary": summary(c.pipeline, plain)} for c in candidates
            ],
            "rejected": dict(space.rejected),
            "notes": list(self.bench.notes),
            "seconds": self.clock.spent,
        }
        recipe = self.ground.recipe(chosen.pipeline, self.folder, Scales(**chosen.scales))
        recipe["baseline"] = self.loaded.recipe.baseline
        write_text(self.folder / "recipe.yaml", recipe_text(self.ground, recipe, why, headline(contents)))
        load_recipe(self.folder / "recipe.yaml", allow_code=self.allow_code)
        write_page(contents, self.folder / "report.html")
        write_json(self.folder / "recommendation.json", contents)
        self.clock.note(now=True)
        return Recommendation(self.folder, contents)
