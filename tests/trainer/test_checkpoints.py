"""Checkpoints of small states: what is kept, what is refused, and what is noticed."""

import dataclasses
import errno
import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import files
from trainer import mirror
from trainer.checkpoint import Checkpoints, Keep
from trainer.digest import digests
from trainer.journal import Journal
from trainer.run_facts import RunFacts, check_same_run
from trainer.run_folder import RunFolder, open_run, shapes
from trainer.step import init_state
from visent import storage
from visent.errors import UserError


@pytest.fixture(scope="module")
def facts(config, lock):
    return RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)


@pytest.fixture(scope="module")
def state(config):
    return init_state(config)


@pytest.fixture(scope="module")
def written(tmp_path_factory, state, facts):
    """Checkpoints of steps 1 and 2; those of step 1 have other parameters."""
    folder = tmp_path_factory.mktemp("written")
    with Checkpoints(folder, Keep()) as checkpoints:
        checkpoints.save(at(1, state._replace(params=jax.tree.map(lambda x: x + 1, state.params))), facts)
        checkpoints.save(at(2, state), facts)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def at(step, state):
    return state._replace(step=jnp.int32(step))


def steps_in(folder):
    return sorted(int(path.name) for path in Path(folder).iterdir() if path.name.isdecimal())


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_a_state_comes_back_whole_with_what_it_belongs_to(written, state, facts):
    with Checkpoints(written) as checkpoints:
        assert checkpoints.latest == 2
        assert checkpoints.facts() == facts
        assert same(checkpoints.restore(jax.eval_shape(lambda: state)), at(2, state))
        older = checkpoints.restore_params(state.params, step=1)
        assert same(older, jax.tree.map(lambda x: x + 1, state.params))


def test_kept_are_the_newest_the_ends_of_stages_and_every_nth(tmp_path, config, state, facts):
    rules = Keep.of(dataclasses.replace(config, keep_checkpoints=2, keep_every=4))
    assert rules == Keep(newest=2, every=4, steps=(6, 11))
    with Checkpoints(tmp_path, rules) as checkpoints:
        for step in range(1, 15):
            checkpoints.save(at(step, state), facts)
    assert steps_in(tmp_path) == [4, 6, 8, 11, 12, 13, 14]


def test_a_state_that_is_consumed_while_it_is_written_is_written_as_it_was(tmp_path, state, facts):
    @partial(jax.jit, donate_argnums=0)
    def step(state):
        return jax.tree.map(lambda x: x + 1, state)

    large = jax.tree.map(lambda x: jnp.asarray(np.zeros((64, *x.shape), x.dtype)), state)
    with Checkpoints(tmp_path, Keep()) as checkpoints:
        checkpoints.save(large._replace(step=jnp.int32(1)), facts)
        for _ in range(10):
            large = step(large)
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore_params(large.params)
    assert all(bool((x == 0).all()) for x in jax.tree.leaves(found))
    assert all(bool((x == 10).all()) for x in jax.tree.leaves(large.params))


def test_parameters_alone_can_be_read_by_others_but_not_resumed(tmp_path, state, facts, lock):
    folder = RunFolder(tmp_path)
    folder.write(facts, lock)
    with Checkpoints(folder.checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(0, state.params, facts)
        with pytest.raises(UserError, match=r"holds parameters only.*--from"):
            checkpoints.restore(state)
    run = open_run(tmp_path)
    assert (run.step, run.config, run.lock.digest) == (0, facts.config, lock.digest)
    assert same(run.params(), state.params)
    assert jax.tree.map(jnp.shape, run.params()) == jax.tree.map(lambda x: x.shape, shapes(run.config.model))


def data_files(folder):
    """The files that hold values of arrays, and what says where they are."""
    return sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size and "digests" not in f.parts)


@pytest.mark.parametrize("part", ["params", "rest"])
def test_no_file_can_have_wrong_bytes_unnoticed(copy, state, part):
    """One byte in the middle of each file in turn: either nothing read depends on it, or the checkpoint is refused."""
    noticed = 0
    for file in data_files(copy / "2" / part):
        right = file.read_bytes()
        middle = len(right) // 2
        file.write_bytes(right[:middle] + bytes([right[middle] ^ 0x10]) + right[middle + 1 :])
        with Checkpoints(copy) as checkpoints:
            try:
                assert same(checkpoints.restore(state), at(2, state))
            except UserError as error:
                noticed += 1
                assert f"{copy / '2'} cannot be read" in str(error)  # noqa: PT017
                assert "remove that folder to go on from step 1" in str(error)  # noqa: PT017
        file.write_bytes(right)
    assert noticed >= 2


@pytest.mark.parametrize("cut", ["params", "rest", "facts", "digests", "_CHECKPOINT_METADATA"])
def test_a_checkpoint_cut_short_is_refused_and_the_one_before_is_read_when_it_is_removed(copy, state, cut):
    found = copy / "2" / cut
    for file in [found] if found.is_file() else data_files(found) or [f for f in found.rglob("*") if f.is_file()]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Checkpoints(copy) as checkpoints:
        if cut != "_CHECKPOINT_METADATA":  # nothing that is needed is in it
            with pytest.raises(UserError, match=r"cannot be read .*remove that folder to go on from step 1"):
                (checkpoints.facts(), checkpoints.restore(state))
    shutil.rmtree(copy / "2")
    with Checkpoints(copy) as checkpoints:
        assert int(checkpoints.restore(state).step) == 1


def test_a_full_disk_loses_nothing_and_the_next_try_succeeds(copy, state, facts):
    """Files cannot grow beyond 1,000 bytes, as on a disk without room."""
    before = {f: f.read_bytes() for f in data_files(copy)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with (
            pytest.raises(UserError, match=r"step 3 cannot be written.*free space.*goes on from step 2") as caught,
            Checkpoints(copy, Keep(newest=1)) as checkpoints,
        ):
            checkpoints.save(at(3, state), facts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert os.strerror(errno.EFBIG) in str(caught.value)
    assert not list(copy.glob("*tmp*"))
    assert {f: f.read_bytes() for f in data_files(copy)} == before
    with Checkpoints(copy, Keep(newest=1)) as checkpoints:
        checkpoints.save(at(3, state), facts)
    assert steps_in(copy) == [3]


def test_a_failure_in_the_background_is_told_once_by_check_and_saving_goes_on_after_it(copy, state, facts, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Checkpoints(copy, Keep()) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", no_room)  # the last thing that orbax does to a checkpoint
            patch.setattr(os, "rename", no_room)
            checkpoints.save(at(3, state), facts)
            assert checkpoints.latest == 2
        with pytest.raises(UserError, match=r"step 3 cannot be written.*No space left.*goes on from step 2"):
            checkpoints.check()
        checkpoints.check()
        checkpoints.save(at(3, state), facts)
        assert checkpoints.latest == 3
    assert not list(copy.glob("*tmp*"))


def test_what_a_killed_save_left_is_no_checkpoint_and_is_removed_by_the_next_run(copy, state, facts):
    left = copy / "3.orbax-checkpoint-tmp"
    shutil.copytree(copy / "2", left)
    with Checkpoints(copy) as reader:
        assert reader.latest == 2
    assert left.exists()
    with Checkpoints(copy, Keep()) as checkpoints:
        assert checkpoints.latest == 2
        checkpoints.save(at(4, state), facts)
    assert not left.exists()


def test_reading_does_not_disturb_a_run_that_writes(tmp_path, state, facts):
    with Checkpoints(tmp_path, Keep()) as writer:
        writer.save(at(1, state), facts)
        assert writer.latest == 1
        with Checkpoints(tmp_path) as reader:
            writer.save(at(2, state), facts)
            assert same(reader.restore_params(state.params, step=1), state.params)
        assert writer.latest == 2


def test_a_folder_without_checkpoints_is_no_run():
    with pytest.raises(UserError, match="has no checkpoints"):
        open_run("nowhere")


def test_at_urls_that_orbax_does_not_know_steps_are_kept_whole(state, facts, tmp_path, monkeypatch):
    url, put, real = f"memory://{tmp_path}/checkpoints", [], storage.put
    monkeypatch.setattr(storage, "put", lambda local, url: (put.append(url), real(local, url)))
    with Checkpoints(url, Keep(newest=1, steps=(1,))) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(at(step, state), facts)
    assert files.list_names(url) == ["1", "3"]
    for step in (1, 2, 3):
        of_step = [place for place in put if place.startswith(f"{url}/{step}/")]
        assert of_step.index(f"{url}/{step}/{mirror.MARKER}") == len(of_step) - 1
    mirror._copies.cache_clear()  # another process
    with Checkpoints(url) as reader:
        assert reader.latest == 3
        assert same(reader.restore(state), at(3, state))
        assert [path.name for path in mirror._copies(url, False).iterdir()] == ["3"]
    files.remove(f"{url}/3/{mirror.MARKER}")  # as if the upload had been cut short
    with Checkpoints(url, Keep(newest=1, steps=(1,))) as checkpoints:
        assert checkpoints.latest == 1
        checkpoints.save(at(3, state), facts)
    assert files.exists(f"{url}/3/{mirror.MARKER}")


def test_an_upload_that_fails_is_told_and_earlier_steps_stay(state, facts, tmp_path, monkeypatch):
    url = f"memory://{tmp_path}/checkpoints"
    with Checkpoints(url, Keep()) as checkpoints:
        checkpoints.save(at(1, state), facts)

    def refuse(local, url):
        raise storage.StorageError("out of reach, 5 times in a row")

    refused = pytest.raises(UserError, match=r"step 2 cannot be written to memory://.*out of reach")
    with refused, Checkpoints(url, Keep()) as checkpoints:
        monkeypatch.setattr(storage, "put", refuse)
        checkpoints.save(at(2, state), facts)
    mirror._copies.cache_clear()
    with Checkpoints(url) as reader:
        assert reader.latest == 1


def test_how_it_is_computed_may_change_but_not_what_is_learned(facts):
    def other(**changes):
        return dataclasses.replace(facts, config=dataclasses.replace(facts.config, **changes))

    begun = dataclasses.replace(facts, stage="images")
    images = dataclasses.replace(facts.config.stages["images"], microbatches=2)
    compute = dataclasses.replace(facts.config.compute, fsdp=4, remat="full")
    check_same_run(begun, other(stages={**facts.config.stages, "images": images}, compute=compute), {}, {})
    before = {"new": images, **facts.config.stages}
    with pytest.raises(UserError, match=r"order of stages\[0\]: images, now new"):
        check_same_run(begun, other(stages=before), {}, {})
    teacher = dataclasses.replace(facts.config.distill, teacher="run")
    with pytest.raises(UserError, match=r"distill.teacher: None, now run"):
        check_same_run(begun, other(distill=teacher), {}, {})
    with pytest.raises(UserError, match=r"tokenizer .* use another --out folder"):
        check_same_run(begun, dataclasses.replace(facts, fingerprint="other"), {}, {})


def test_facts_of_another_version_say_which(facts):
    with pytest.raises(UserError, match=r"use visent 9\.9, which wrote it"):
        RunFacts.from_json({**facts.to_json(), "version": "9.9", "mood": "good"})


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.data())
def test_a_digest_changes_with_any_bit_of_any_value(values, data):
    array = np.zeros(40, np.float32)
    array[: len(values)] = values
    changed = array.copy()
    place, bit = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 31))
    changed.view(np.uint32)[place] ^= np.uint32(1 << bit)
    assert digests({"a": jnp.asarray(array)}) != digests({"a": jnp.asarray(changed)})


def test_a_journal_at_a_url_is_uploaded_when_it_is_flushed(tmp_path):
    url = f"memory://{tmp_path}/x.jsonl"
    journal = Journal(url)
    for step in (1, 2, 3):
        journal.write({"step": step})
    assert Journal(url).read() == []
    journal.flush()
    assert [line["step"] for line in Journal(url).read()] == [1, 2, 3]
    resumed = Journal(url)
    resumed.forget_after(2)
    assert [line["step"] for line in Journal(url).read()] == [1, 2]
    resumed.write({"step": 9})
    resumed.flush()
    assert [line["step"] for line in Journal(url).read()] == [1, 2, 9]
