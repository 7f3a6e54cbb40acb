"""What an ordered run forgets, and runs opened at earlier steps."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from an_evaluation import evaluation

from trainer import model as llama
from trainer.checkpoint import Checkpoints, Keep, RunFacts
from trainer.evaluate.judge import Judged, StageScores, here, judge
from trainer.evaluate.scores import Positions, TaskScore
from trainer.loop import train
from trainer.plan import fit
from trainer.protocols import forgetting
from trainer.protocols.forgetting import Forgetting, Score
from trainer.protocols.results import read
from trainer.run_folder import RunFolder, open_run, steps_of
from visent.cli import visent
from visent.errors import UserError


@pytest.fixture(scope="module")
def run(config, lock, tmp_path_factory) -> Path:
    """A run of stages images and sequences: checkpoints of its middle and of both ends, with different parameters."""
    root = tmp_path_factory.mktemp("ordered")
    fitted = fit(config, lock)
    facts = RunFacts(config=fitted, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    RunFolder(root).write(facts, lock)
    with Checkpoints(RunFolder(root).checkpoints, Keep.of(fitted)) as checkpoints:
        for step, stage in ((4, "images"), (6, "images"), (11, "sequences")):
            params = llama.init(fitted.model, step, llama.any_codebook(fitted.model))
            checkpoints.save_params(step, params, dataclasses.replace(facts, stage=stage))
    return root


def test_every_task_is_scored_where_each_stage_ended(run, config, lock):
    compute = here(config.compute)
    found = forgetting.measure(run, lock, compute, sentences=8)
    assert (found.stages, found.steps) == (("images", "sequences"), (6, 11))
    assert dict(found.tasks) == {"photos": "images", "edge": "sequences"}
    assert found.notes == ("task 'rare' of stage 'sequences' has no held-out rows",)
    alone = judge(open_run(run, 6), lock, compute, stages=[], split="val", sentences=8)
    for task, stage in found.tasks.items():
        assert found.scores[0][task].loss == pytest.approx(alone.stages[stage].tasks[task].loss, rel=1e-6)
    assert found.scores[0]["edge"].loss != pytest.approx(found.scores[1]["edge"].loss, rel=1e-3)


@pytest.mark.slow
def test_the_matrix_has_what_the_run_itself_found_at_each_stages_end(config, lock, tmp_path):
    train(config, lock, tmp_path / "run")
    found = forgetting.measure(tmp_path / "run", lock, here(config.compute), sentences=config.evaluate_sentences)
    lines = [json.loads(line) for line in (tmp_path / "run" / "eval.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(found.steps)
    for line, scores in zip(lines, found.scores, strict=True):
        for task, figures in line["per_task"].items():
            if found.tasks[task] == line["stage"]:
                assert scores[task].loss == pytest.approx(figures["loss"], rel=1e-5)
                assert scores[task].accuracy == pytest.approx(figures["accuracy"])


def test_a_run_that_lost_the_checkpoint_of_a_stage_says_which_there_are(run, config, lock, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "6")
    with pytest.raises(UserError, match=r"of steps (4, )?11, .*lacks 6 \(images\).*keep_every"):
        forgetting.measure(copy, lock, here(config.compute), sentences=4)


def test_a_run_opens_at_any_kept_step_and_knows_its_stage(run):
    assert {6, 11} <= set(steps_of(run))
    early, newest = open_run(run, 6), open_run(run)
    assert (early.step, early.facts.stage, newest.step, newest.facts.stage) == (6, "images", 11, "sequences")
    assert early.digest() != newest.digest()
    assert open_run(run, 11).digest() == newest.digest()


def test_a_step_without_a_checkpoint_is_refused_with_those_that_there_are(run):
    kept = ", ".join(map(str, steps_of(run)))
    with pytest.raises(UserError, match=rf"no checkpoint of step 7: it has {kept};.*keep_every"):
        open_run(run, 7)


def test_the_command_scores_an_earlier_checkpoint(run, config, lock, tmp_path, capsys):
    visent(["evaluate", str(run), "--step", "6", "--stage", "images", "--out", str(tmp_path / "scores"), "--json"],
           standalone_mode=False)  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 6
    alone = judge(open_run(run, 6), lock, here(config.compute), stages=["images"], split="val", sentences=32)
    loss = found["stages"]["images"]["per_task"]["photos"]["loss"]
    assert loss == pytest.approx(alone.stages["images"].tasks["photos"].loss, rel=1e-6)


@pytest.mark.slow
def test_evaluations_of_two_checkpoints_stand_side_by_side(run, tmp_path):
    first = ["evaluate", str(run), "--protocol", "forgetting", "--sentences", "4"]
    visent([*first, "--step", "6", "--out", str(tmp_path / "first")], standalone_mode=False)
    other = str(tmp_path / "first" / "evaluation.json")
    visent([*first, "--out", str(tmp_path / "second"), "--compare", other], standalone_mode=False)
    text = (tmp_path / "second" / "evaluation.md").read_text()
    for step in (6, 11):
        assert f"Loss, nats a token: {run.name} (mini, step {step})" in text
    assert read(tmp_path / "second" / "evaluation.json").step == 11, "the JSON is of one run"
    assert (tmp_path / "second" / "evaluation.html").read_text().count("Forgetting: ") == 2


def test_evaluations_by_another_protocol_are_refused_before_anything_is_opened(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps(evaluation().to_json()))
    command = ["evaluate", "/no/such/run", "--protocol", "delvm", "--compare", str(tmp_path / "other.json")]
    with pytest.raises(UserError, match="is by protocol 'lvm-lite': compare evaluations by the same one"):
        visent(command, standalone_mode=False)


def made(*losses):
    """A matrix of one task for each of `losses`, which are by checkpoint."""
    tasks = {f"task{n}": f"stage{n}" for n in range(len(losses))}
    scores = tuple(
        {task: Score(sentences=8, loss=by_step[at], accuracy=0.25) for task, by_step in zip(tasks, losses, strict=True)}
        for at in range(len(losses[0]))
    )
    stages = tuple(f"stage{at}" for at in range(len(losses[0])))
    return Forgetting(stages=stages, steps=tuple(range(1, len(stages) + 1)), tasks=tasks, scores=scores)


def test_forgotten_is_the_loss_at_the_end_less_the_least_so_far():
    found = made([2.0, 1.5, 3.0], [9.0, 4.0, 2.5])
    assert found.forgotten("task0") == 1.5
    assert found.forgotten("task1") == 0.0, "the last checkpoint is its best"


def test_json_tables_and_plot_have_the_whole_matrix():
    found = made([2.0, 3.0], [9.0, 4.0])
    assert Forgetting.from_json(json.loads(json.dumps(found.to_json()))) == found
    loss, perplexity, accuracy = forgetting.grids(found)
    assert loss.head == ["task", "trained in", "after stage0 (1)", "after stage1 (2)", "forgotten"]
    assert loss.rows == [
        ["task0", "stage0", "2.0000", "3.0000", "1.0000"],
        ["task1", "stage1", "9.0000", "4.0000", "0.0000"],
    ]
    assert perplexity.rows[0][2:] == ["7.39", "20.09"]
    assert accuracy.rows[0][2:] == ["25.00", "25.00"]
    drawn = forgetting.plot(found)
    assert drawn.startswith("<svg")
    assert "task1" in drawn


def test_a_task_of_several_stages_is_that_of_the_first(lock):
    def score(loss):
        nothing = Positions(loss=(), accuracy=())
        return TaskScore(sentences=1, tokens=1, loss=loss, accuracy=0.0, roles=(), by_image=nothing, by_token=nothing)

    stages = {name: StageScores(tasks={"both": score(loss)}, missing=[]) for name, loss in (("a", 1.0), ("b", 2.0))}
    judged = [Judged(step=step, split="val", lock_digest="", stages=stages) for step in (1, 2)]
    found = forgetting.collect(["a", "b"], judged)
    assert dict(found.tasks) == {"both": "a"}
    assert found.scores[0]["both"].loss == 1.0
