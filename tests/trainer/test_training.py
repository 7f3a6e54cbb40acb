"""Whole runs, in this process, over a small random corpus."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from manifests.commands.lineage import lineage
from manifests.corpus import Corpus
from manifests.lock import resolve
from trainer import batches, stage
from trainer.checkpoint import Checkpoints, differences
from trainer.journal import Journal
from trainer.loop import train
from trainer.step import init_state
from visent.errors import UserError


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses_of(run):
    return [(line["stage"], line["step"], line["loss"]) for line in lines_of(run / "metrics.jsonl")]


@pytest.fixture(scope="module")
def done(tmp_path_factory, config, lock):
    """The folder of an undisturbed run of both stages."""
    folder = tmp_path_factory.mktemp("done")
    train(config, lock, folder)
    return folder


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the finished run, to be disturbed."""
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


def stop_at(monkeypatch, step):
    """Makes the run fail where the batch of `step` (of a stage) is read, as an unreadable shard would."""
    real = batches.batch

    def failing(corpus, stage, number, *rest):
        if stage == "sequences" and number == step:
            raise UserError("shard gone")
        return real(corpus, stage, number, *rest)

    monkeypatch.setattr(batches, "batch", failing)


def test_metrics_have_a_line_for_every_step_with_losses_by_task(done, config):
    lines = lines_of(done / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 12))
    assert [line["stage_step"] for line in lines] == [*range(1, 7), *range(1, 6)]
    assert set(lines[0]["per_task"]) == {"photos"}
    assert {task for line in lines[6:] for task in line["per_task"]} == {"photos", "edge", "rare"}
    assert lines[0]["loss"] == pytest.approx(np.log(128), abs=0.05)
    assert lines[0]["learning_rate"] == pytest.approx(config.stages["images"].learning_rate / 2)
    for line in lines:
        assert all(0 <= task["accuracy"] <= 1 for task in line["per_task"].values())
        assert line["tokens_per_second"] > 0


def test_the_batch_s_loss_is_the_mean_of_its_tasks_weighed_by_sentences(done, config, lock):
    line = lines_of(done / "metrics.jsonl")[7]
    tasks = batches.batch(Corpus(lock), "sequences", 1, 4, config.seed).tasks
    names = Corpus(lock).task_names("sequences")
    assert line["loss"] == pytest.approx(np.mean([line["per_task"][names[t]]["loss"] for t in tasks]), rel=1e-5)


def test_the_lineage_of_each_step_has_the_tasks_whose_losses_the_run_wrote(done, config):
    for line in lines_of(done / "metrics.jsonl"):
        options = [str(done), "--stage", line["stage"], "--step", str(line["stage_step"] - 1), "--json"]
        found = json.loads(CliRunner().invoke(lineage, options, catch_exceptions=False).stdout)
        assert (found["batch"], found["seed"]) == (config.stages[line["stage"]].batch_sentences, config.seed)
        assert {example["task"] for example in found["examples"]} == set(line["per_task"])
        assert sum(seen["sentences"] for seen in found["seen"]) == found["batch"] * line["stage_step"]


def test_each_stage_ends_with_an_evaluation_that_names_tasks_without_held_out_rows(done):
    images, sequences = lines_of(done / "eval.jsonl")
    assert (images["stage"], images["step"], sequences["stage"], sequences["step"]) == ("images", 6, "sequences", 11)
    assert images["per_task"]["photos"]["sentences"] == 6
    assert sequences["per_task"]["photos"]["sentences"] == 1
    assert sequences["per_task"]["edge"]["tokens"] == 2 * 64
    assert sequences["without_heldout"] == ["rare"]
    score = images["per_task"]["photos"]
    assert score["perplexity"] == pytest.approx(np.exp(score["loss"]))


def test_a_run_that_failed_goes_on_with_the_same_losses(done, config, lock, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(UserError, match="shard gone"):
            train(config, lock, tmp_path)
    assert losses_of(tmp_path) == losses_of(done)[:9]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == 8
    train(config, lock, tmp_path)
    assert losses_of(tmp_path) == losses_of(done)
    assert [line["step"] for line in lines_of(tmp_path / "eval.jsonl")] == [6, 11]


def test_a_finished_run_does_nothing_more(copy, config, lock, monkeypatch):
    monkeypatch.setattr(stage, "make_step", lambda *_: pytest.fail("it trained"))
    assert len(train(config, lock, copy)) == 2


def test_an_evaluation_lost_by_a_kill_after_the_last_checkpoint_is_made_again(copy, config, lock):
    expected = (copy / "eval.jsonl").read_text()
    (copy / "eval.jsonl").write_text(expected.splitlines(keepends=True)[0])
    train(config, lock, copy)
    assert (copy / "eval.jsonl").read_text() == expected


def test_no_evaluation_of_a_stage_is_made_up_with_what_was_learned_after_it(copy, config, lock):
    (copy / "eval.jsonl").unlink()
    assert [line["step"] for line in train(config, lock, copy)] == [11]


def test_another_model_or_seed_or_schedule_is_refused_with_the_difference(copy, config, lock):
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, layers=3))
    with pytest.raises(UserError, match=r"another model \(layers: 2, now 3\)"):
        train(other, lock, copy)
    with pytest.raises(UserError, match=r"other settings \(seed: 0, now 5\)"):
        train(dataclasses.replace(config, seed=5), lock, copy)
    images = dataclasses.replace(config.stages["images"], learning_rate=2e-2)
    slower = dataclasses.replace(config, stages={**config.stages, "images": images})
    with pytest.raises(UserError, match=r"images.learning_rate: 0.01, now 0.02.*--allow-other-settings"):
        train(slower, lock, copy)
    train(slower, lock, copy, allow_other_settings=True)


def test_another_lock_is_refused_with_the_difference_unless_allowed(copy, config, lock, manifest):
    changed = manifest.with_name("changed.toml")
    changed.write_text(manifest.read_text().replace("photos = 0.5", "photos = 0.25"))
    other = resolve(str(changed))
    with pytest.raises(
        UserError, match=rf"lock {lock.digest[:16]}.*{other.digest[:16]}.*photos.count.*--allow-other-lock"
    ):
        train(config, other, copy)
    train(config, other, copy, allow_other_lock=True)


def test_a_checkpoint_cut_short_names_the_one_to_go_on_from(copy, config, lock):
    for file in (copy / "checkpoints" / "11" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoints/11 cannot be read.*remove that folder to go on from step 10"):
        train(config, lock, copy)
    shutil.rmtree(copy / "checkpoints" / "11")
    train(config, lock, copy)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(config, lock, tmp_path):
    images = dataclasses.replace(config.stages["images"], learning_rate=1e30, final_learning_rate=1e30, warmup_steps=0)
    with pytest.raises(
        UserError, match=r"is (nan|inf) at step \d.*sentences \d+ to \d+.*--set stages.images.learning_rate"
    ):
        train(dataclasses.replace(config, stages={"images": images}, checkpoint_every=1), lock, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        like = jax.eval_shape(lambda: init_state(checkpoints.facts().config))
        assert checkpoints.latest == 1
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(checkpoints.restore(like)))


def test_a_stage_that_the_manifest_lacks_or_another_context_is_refused(config, lock, tmp_path):
    stages = {"image": config.stages["images"]}
    with pytest.raises(UserError, match="did you mean 'images'"):
        train(dataclasses.replace(config, stages=stages), lock, tmp_path)
    stages = {"images": dataclasses.replace(config.stages["images"], context=256)}
    with pytest.raises(UserError, match="context 256 in the recipe and 16 in the manifest"):
        train(dataclasses.replace(config, stages=stages), lock, tmp_path)


def test_a_batch_is_the_sentences_of_its_step(lock):
    corpus = Corpus(lock)
    batch = batches.batch(corpus, "sequences", 3, 4, 7)
    expected, ids = corpus.sentences("sequences", np.array([12, 14, 13, 15]), 7)
    np.testing.assert_array_equal(batch.codes, expected)
    np.testing.assert_array_equal(batch.tasks, ids)


@pytest.mark.parametrize("size", [1, 8, 24, 96, 512])
def test_hosts_that_take_equal_parts_of_a_batch_read_whole_lanes(size):
    numbers = batches.numbers(3, size)
    assert sorted(numbers) == list(range(3 * size, 4 * size))
    for hosts in (2, 4, 8):
        if size % hosts == 0:
            for part in numbers.reshape(hosts, -1):
                assert len(set(part % hosts)) == 1


def test_reading_ahead_keeps_the_order_and_raises_where_the_error_is_due():
    def make(step):
        if step == 5:
            raise UserError("five")
        return step * step

    values = batches.read_ahead(make, range(2, 9))
    assert [next(values) for _ in range(3)] == [4, 9, 16]
    with pytest.raises(UserError, match="five"):
        next(values)


def test_reading_ahead_stops_soon_after_it_is_closed():
    asked = []
    values = batches.read_ahead(lambda step: asked.append(step) or step, range(1000))
    assert next(values) == 0
    values.close()
    assert len(asked) <= 1 + batches.AHEAD


def test_a_journal_forgets_later_lines_and_a_line_cut_short(tmp_path):
    journal = Journal(tmp_path / "x.jsonl")
    for step in (1, 2, 3):
        journal.write({"step": step})
    with Path(journal.path).open("a") as file:
        file.write('{"step": 4')
    journal.forget_after(2)
    journal.write({"step": 9})
    assert [line["step"] for line in journal.read()] == [1, 2, 9]


@pytest.mark.parametrize("damage", ["\0\0\n", "{}\n", "3\n"])
def test_a_damaged_line_of_a_journal_is_named(tmp_path, damage):
    (tmp_path / "x.jsonl").write_text('{"step": 1}\n' + damage)
    with pytest.raises(UserError, match=r"x\.jsonl, line 2, is damaged .*: remove that line"):
        Journal(tmp_path / "x.jsonl").read()


def test_differences_are_named_by_their_path():
    old = {"a": 1, "b": {"c": [1, {"d": 2}], "e": 0}, "gone": 1}
    new = {"a": 1, "b": {"c": [1, {"d": 3}], "e": 0, "new": 1}}
    assert differences(old, new) == ["b.c[1].d: 2, now 3", "b.new added", "gone removed"]
