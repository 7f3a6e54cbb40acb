"""What `.ci/image` tries in the environment of a target: that it does its work, away from the repository."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Trial = tuple[str, Callable[[], str]]  # what is tried, and the action; it returns the problem, or nothing

# Shared libraries of the slim base image (glibc's, and what it has for Python): all others have to come with wheels.
GLIBC = r"ld-linux|lib(c|m|mvec|dl|rt|pthread|util|resolv|nss_\w+)\.so"
SYSTEM = GLIBC + r"|lib(gcc_s|stdc\+\+|z|bz2|lzma|ffi|ssl|crypto|uuid|sqlite3)\.so"
LIBRARIES = f"""
import importlib, re, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
mapped = {{line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}}
foreign = sorted(p for p in mapped if not p.startswith((sys.prefix, sys.base_prefix)))
missing = [p for p in foreign if not re.match(r"{SYSTEM}", p.rpartition("/")[2])]
sys.exit("not in the base image: " + ", ".join(missing) if missing else 0)
"""
OWN = "import sys, visent; sys.exit(not visent.__file__.startswith(sys.prefix))"
PICTURES = """
import numpy, pathlib, sys
from PIL import Image
folder = pathlib.Path(sys.argv[1]); folder.mkdir()
for i in range(8):
    pixels = numpy.random.default_rng(i).integers(0, 255, (3, 4, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).resize((320, 240)).save(folder / f"{i}.jpg")
"""
SEND = """
import pathlib, subprocess, sys
from pipelines.runners.staging import setup_file
with setup_file() as path:
    command = [sys.executable, path, "-q", "sdist", "--dist-dir", str(pathlib.Path(sys.argv[1]).resolve())]
    subprocess.run(command, cwd=pathlib.Path(path).parent, check=True)
"""
# As Beam's boot does with the workflow.tar.gz of a job.
INSTALL = "pip install --no-index"
INSTALL_SENT = f"{INSTALL} --no-deps --force-reinstall sent/*.tar.gz && {INSTALL} sent/*.tar.gz"
WORKER_MODULES = (
    "ai_edge_litert.interpreter", "apache_beam.runners.worker.sdk_worker_main", "av", "cv2", "gcsfs",
    "array_record.python.array_record_module", "google.cloud.storage", "grpc", "h5py", "jax", "onnxruntime",
    "pyarrow.parquet", "pycocotools.mask", "s3fs", "scipy.ndimage", "tensorflow_datasets",
)  # fmt: skip
TRAINER_MODULES = (
    "array_record.python.array_record_module", "av", "gcsfs", "h5py", "jax", "matplotlib.pyplot", "optax",
    "orbax.checkpoint", "pyarrow.parquet", "s3fs", "tensorboardX",
)  # fmt: skip
ACCELERATED = {"cuda": "jax_cuda12_plugin", "tpu": "libtpu"}
ANNOTATE = "edge,hed,person,pose"


def check_versions(arguments: Mapping[str, str], lock: str) -> None:
    """Compares the Beam of the Dockerfile, whose entry point it copies, with the locked one.

    Raises: `ValueError`.
    """
    locked = re.search(r"^apache-beam==(\S+)", lock, re.MULTILINE)
    if not locked or locked[1] != arguments["BEAM"]:
        raise ValueError(f"ARG BEAM={arguments['BEAM']}, but requirements.lock has {locked and locked[0]}")


def trials(target: str, python: str, variables: Mapping[str, str], folder: Path) -> Iterator[Trial]:
    """Yields what to try, in order; later trials use the files of earlier ones."""
    folder.mkdir()
    kind, _, device = target.partition("-")
    # The plug-ins are imported; without their chips the work itself is done by the CPU.
    environment = {**variables, "JAX_PLATFORMS": "cpu", "VISENT_CACHE": str(folder / "cache"), "MPLBACKEND": "Agg"}

    def run(*command: str) -> Callable[[], str]:
        return lambda: _problem(list(command), environment, folder)

    def shell(command: str) -> Callable[[], str]:
        return run("/bin/sh", "-c", command)

    def visent(line: str) -> Trial:
        return f"visent {line}", shell(f"visent {line}")

    modules = {"beam": WORKER_MODULES, "train": TRAINER_MODULES}.get(kind, (*WORKER_MODULES, *TRAINER_MODULES))
    yield "its libraries are in wheels or the base image", run(python, "-c", LIBRARIES, *modules)
    if device in ACCELERATED:
        yield f"import {ACCELERATED[device]}", run(python, "-c", f"import {ACCELERATED[device]}")
    yield "the package is not the repository's", run(python, "-c", OWN)
    yield visent("--version")
    if kind == "train":
        yield visent("train --help")
        return  # what it trains on is made by another image: see `laptop`, which does both
    yield "pictures are drawn", run(python, "-c", PICTURES, "photos")
    yield visent(f"tokenize folder photos --annotate {ANNOTATE} --out corpus/photos")
    yield visent("verify corpus/photos")
    if kind == "beam":
        yield "a job's package is made", run(python, "-c", SEND, "sent")
        yield "it installs on a worker, without a network", shell(INSTALL_SENT)
        yield visent("tokenize folder photos --out corpus/again")
    else:
        yield visent("demo --help")
        yield visent("manifest init corpus/photos --out manifest.toml")
        stages = "--set stages.images.steps=0 --set stages.sequences.steps=2 --set stages.sequences.warmup_steps=0"
        yield visent(f"train tiny --manifest manifest.toml --out run {stages}")


def _problem(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    to = subprocess.PIPE
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True, stdout=to, stderr=subprocess.STDOUT
    )
    return f"ended with {done.returncode}\n{done.stdout[-4000:]}" if done.returncode else ""
