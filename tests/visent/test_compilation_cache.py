"""Compiled programs are kept below the cache, for this processor alone, unless the user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visent.compilation_cache import VARIABLE, keep_compiled

CPUINFO = "processor\t: 0\nmodel name\t: One\nflags\t\t: sse avx\n\nprocessor\t: 1\nmodel name\t: One\ncpu MHz\t: 12\n"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, "")  # so that it is put back after the test
    monkeypatch.delenv(VARIABLE)


def kept(tmp_path: Path, text: str) -> str | None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    os.environ.pop(VARIABLE, None)
    keep_compiled(cpuinfo)
    return os.environ.get(VARIABLE)


def test_the_folder_is_below_the_cache_and_told_by_the_processors_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISENT_CACHE", str(tmp_path / "cache"))
    first = kept(tmp_path, CPUINFO)
    assert first is not None
    assert Path(first).parent == tmp_path / "cache"
    assert Path(first).is_dir()
    assert kept(tmp_path, CPUINFO.replace("cpu MHz\t: 12", "cpu MHz\t: 13")) == first
    assert kept(tmp_path, CPUINFO.replace("sse avx", "sse avx avx512")) not in (first, None)


def test_a_processor_that_names_no_features_keeps_nothing(tmp_path: Path) -> None:
    assert kept(tmp_path, "processor\t: 0\n") is None
    keep_compiled(tmp_path / "absent")
    assert VARIABLE not in os.environ


@pytest.mark.parametrize("own", ["", "/somewhere/else"])
def test_the_users_own_setting_is_left(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, own)
    keep_compiled()
    assert os.environ[VARIABLE] == own


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISENT_CACHE", str(tmp_path / "file"))
    assert kept(tmp_path, CPUINFO) is None


@pytest.mark.slow
def test_the_second_run_of_a_command_compiles_nothing_large_and_gives_the_same_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc/cpuinfo: nothing is kept on this system")
    monkeypatch.setenv("VISENT_CACHE", str(tmp_path / "cache"))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(photo)
    codes, entries = [], []
    for run in range(2):
        out = tmp_path / f"codes-{run}.npz"
        command = [sys.executable, "-m", "visent", "tokenizer", "encode", str(photo), "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        codes.append(np.load(out)["codes"])
        entries.append(sorted(path.name for path in (tmp_path / "cache").glob("jax-*/*-cache")))
    np.testing.assert_array_equal(*codes)
    assert any(name.startswith("jit__encode") for name in entries[0])
    assert entries[0] == entries[1]
