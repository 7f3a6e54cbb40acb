"""One stage of a run: its steps, with what is due after each."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from trainer import batches
from trainer.choosing import choose_remat
from trainer.config import RunConfig, StageConfig
from trainer.divergence import explanation
from trainer.evaluate import heldout
from trainer.evaluate.scores import TaskScore
from trainer.generated import GeneratedScore, score_generated
from trainer.mesh import batch_parts
from trainer.metrics import Diverged, Window
from trainer.report import Report
from trainer.sampling import sample_sheet
from trainer.step import TrainState, begin_stage, make_step
from trainer.throughput import Throughput
from visent.errors import UserError
from visent.progress import Track, track

if TYPE_CHECKING:
    from trainer.loop import Run


class Stage:
    """One stage of a run; `first` is the run's step at which it begins."""

    def __init__(self, run: "Run", name: str, config: StageConfig, first: int) -> None:
        self.run, self.name, self.config, self.first = run, name, config, first
        self.last = first + config.steps
        self.tasks = run.corpus.task_names(name)
        self.rows = batches.own_rows(run.mesh, config.batch_sentences)
        self.window = Window(self.tasks)
        self.wait_seconds = 0.0
        self.heldout: heldout.Heldout | None = None
        context = run.lock.stage(name).context
        self.report = Report(run, name, Throughput.of(run.config.model, context, run.mesh))

    def train(self, state: TrainState) -> TrainState:
        """Runs the steps that are left, and the evaluation at the end if it is missing."""
        begin = int(state.step)
        if begin == self.first:
            state = begin_stage(state, self.config)
        if begin < self.last:
            with track(self.name, self.last - begin, "steps") as bar, _explained(self):
                state = self._steps(state, begin, bar)
        if not self.run.is_evaluated(self.last):
            self._evaluate(state, self.last)
        return state

    def _steps(self, state: TrainState, begin: int, bar: Track) -> TrainState:
        with contextlib.closing(batches.read_ahead(self._batch, range(begin, self.last))) as waiting:
            step_function = None
            for step in range(begin + 1, self.last + 1):
                batch = self._next(waiting)
                if step_function is None:
                    config = self._settled()
                    bar.advance(0, "compiling")
                    teacher, mesh = self.run.taught.model, self.run.mesh
                    made = make_step(config, self.config, self.first, len(self.tasks), mesh, teacher)
                    step_function = made.lower(state, batch, self.run.taught.params).compile()
                    self.window.restart_clock()
                    self.wait_seconds = 0.0
                state, metrics = step_function(state, batch, self.run.taught.params)
                self.window.add(step, metrics)
                self._report(state, step)
                bar.advance(1, self.report.note(self.window.loss))
        return state

    def _settled(self) -> RunConfig:
        """Returns the run's configuration with nothing of this stage's computing left open, and says how it is."""
        config = self.run.config
        taught = self.run.taught
        compute, line = choose_remat(config.model, config.compute, self.config, self.run.mesh, taught.device_bytes)
        self.report.begin(self.run.kernel, line, *taught.lines)
        return dataclasses.replace(config, compute=compute)

    def _batch(self, step: int) -> batches.Batch:
        step, size, seed = step - self.first, self.config.batch_sentences, self.run.config.seed
        if step + batches.FETCHED_AHEAD < self.config.steps:
            batches.prefetch(self.run.corpus, self.name, step + batches.FETCHED_AHEAD, size, seed, self.rows)
        cache = self.run.lessons.caches.get(self.name)
        likeliest = None if cache is None else cache.read
        own = batches.batch(self.run.corpus, self.name, step, size, seed, self.rows, likeliest)
        laid: batches.Batch = batches.spread(self.run.mesh, self.rows, size, own)
        return laid

    def _next(self, waiting: Iterator[batches.Batch]) -> batches.Batch:
        began = time.monotonic()
        batch = next(waiting)
        self.wait_seconds += time.monotonic() - began
        return batch

    def _report(self, state: TrainState, step: int) -> None:
        """Does what is due after `step`: a line of metrics, an evaluation, a sheet of samples, a checkpoint."""
        config, done, last = self.run.config, step - self.first, step == self.last
        saves = last or step % config.checkpoint_every == 0
        if saves or done % config.log_every == 0:
            self.report.metrics(step, done, self.window.flush(self.wait_seconds), last=last)
            self.wait_seconds = 0.0
            self.run.checkpoints.check()
        evaluates = not last and (_is_due(config.evaluate_every, done) or _is_due(config.figures_every, done))
        samples = config.sample_every and (last or done % config.sample_every == 0)
        if not (saves or evaluates or samples):
            return
        with self.window.paused():
            if evaluates:
                self._evaluate(state, step)
            if samples:
                self._sample(state, step)
            if saves:  # last: a run that goes on from here has all that was due before
                self.run.save(state, self.name)

    def _sample(self, state: TrainState, step: int) -> None:
        """Draws held-out sentences of each task, continued; every host takes part, the first one writes."""
        run, count = self.run, self.run.config.sample_sentences
        assert run.heldout is not None
        assert run.tokenizer is not None
        title = f"{self.name}, step {step}"
        sheet = sample_sheet(state.params, run.config, run.heldout, run.tokenizer, self.name, count, title)
        self.report.sheet(step, sheet)

    def _evaluate(self, state: TrainState, step: int) -> None:
        """Writes one line of eval.jsonl."""
        if self.heldout is None and self.run.heldout is not None:
            self.heldout = heldout.read(self.run.heldout, self.name, self.run.config.evaluate_sentences)
        found = self.heldout
        scores: Mapping[str, TaskScore] = {}
        if found is not None and len(found.codes):
            parts, put = batch_parts(self.run.mesh), partial(batches.spread_whole, self.run.mesh)
            size = heldout.batch_size(found, parts, self.config.batch_sentences // self.config.microbatches)
            scores = heldout.score(found, self.run.config.model, self.run.evaluate, state.params, size, put)
        missing = self.tasks if found is None else found.missing
        self.report.evaluation(step, step - self.first, scores, missing, self._generated(state, step))

    def _generated(self, state: TrainState, step: int) -> Mapping[str, GeneratedScore]:
        """Judges generated images where that is due, and at the stage's end; every host takes part."""
        run, every = self.run, self.run.config.figures_every
        if not every or not (step == self.last or _is_due(every, step - self.first)):
            return {}
        assert run.heldout is not None
        assert run.tokenizer is not None
        return score_generated(state.params, run.config, run.heldout, run.tokenizer, self.name)


def _is_due(every: int, done: int) -> bool:
    return every > 0 and done % every == 0


@contextlib.contextmanager
def _explained(stage: Stage) -> Iterator[None]:
    """Turns divergence and a stop by the user into one line that says where the run stands."""
    try:
        yield
    except Diverged as diverged:
        run = stage.run
        kept, root = run.checkpoints.latest, str(run.folder.root)
        raise explanation(
            diverged, run.corpus, stage.name, stage.config, stage.first, run.config.seed, kept, root
        ) from diverged
    except KeyboardInterrupt:
        raise UserError(f"stopped; the same command goes on from step {stage.run.checkpoints.latest or 0}") from None
