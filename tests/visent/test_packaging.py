"""The package as others install it: wheel and sdist of the files that git knows, used away from the repository."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dockerfile_parse import DockerfileParser
from PIL import Image

from pipelines.runners import options
from pipelines.runners.accelerators import gpu, tpu

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("visent", "tokenizer", "manifests", "pipelines", "trainer")


def run(*command: object, cwd: Path, **more: str) -> str:
    """Runs a command and returns what it printed; a failure shows all of it."""
    words, to = [str(word) for word in command], subprocess.PIPE
    more = {**os.environ, **more}
    done = subprocess.run(words, cwd=cwd, env=more, check=False, text=True, stdout=to, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def listed() -> list[str]:
    """The files that git knows."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = run("git", "ls-files", cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def sdist(listed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a clean copy."""
    clone = tmp_path_factory.mktemp("clone")
    for name in listed:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "setup.py", "-q", "sdist", cwd=clone)
    (made,) = (clone / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made of the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation", sdist, cwd=folder
    )
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of an environment where the wheel goes before the repository's packages."""
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, wheel, cwd=target)
    cache = tmp_path_factory.mktemp("cache")
    return {"PYTHONPATH": str(target), "VISENT_CACHE": str(cache), "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path, listed: list[str]) -> None:
    ours = {name for name in listed if name.startswith(PACKAGES) and not name.endswith(".md")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == ours


def test_the_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", "requirements.lock"} <= held
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in held)


def test_the_installed_package_is_used_away_from_the_repository(installed: dict[str, str], tmp_path: Path) -> None:
    where = run(sys.executable, "-c", "import visent; print(visent.__file__)", cwd=tmp_path, **installed)
    assert where.startswith(installed["PYTHONPATH"])
    for command in ((), ("demo",), ("tokenize", "folder"), ("train",), ("manifest",)):
        assert "Usage:" in run(sys.executable, "-m", "visent", *command, "--help", cwd=tmp_path, **installed)


@pytest.mark.slow
def test_the_installed_package_tokenizes_and_trains(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 240)).save(tmp_path / "photos" / f"{number}.jpg")

    def visent(line: str) -> str:
        return run(sys.executable, "-m", "visent", *line.split(), cwd=tmp_path, **installed)

    visent("tokenize folder photos --annotate edge --out corpus/photos")
    visent("verify corpus/photos")
    visent("manifest init corpus/photos --out manifest.toml")
    stages = "--set stages.images.steps=0 --set stages.sequences.steps=2 --set stages.sequences.warmup_steps=0"
    visent(f"train tiny --manifest manifest.toml --out run {stages}")
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_the_images_that_jobs_ask_for_are_targets_of_the_dockerfile(tmp_path: Path) -> None:
    parser = DockerfileParser(str(tmp_path))
    parser.content = (ROOT / "Dockerfile").read_text()
    stages = {line["value"].partition(" AS ")[2] for line in parser.structure if line["instruction"] == "FROM"}
    place = options.Place(project="project", region="here")
    for kind in (None, gpu("nvidia-l4"), tpu("v5e")):
        asked = str(options._image(kind, place, set()))
        assert asked.rpartition("/")[2].partition(":")[0] in stages
