"""The package as workers in containers get it: a setup.py that Beam makes an sdist of (`--setup_file`)."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path

from visent import __version__
from visent.errors import UserError

PACKAGES = ("visent", "tokenizer", "manifests", "pipelines", "trainer")
EXTRA = "pipelines"  # what a worker needs of the package's extras; its image has it already
SETUP = """from setuptools import find_packages, setup

setup(
    name="visent",
    version={version!r},
    packages=find_packages(),
    include_package_data=False,
    package_data={{"": ["*", "**/*"]}},
    python_requires=">=3.11",
    install_requires={requires!r},
    entry_points={{"console_scripts": ["visent = visent.cli:main"]}},
)
"""


@contextmanager
def setup_file() -> Iterator[str]:
    """Gives the path of a setup.py beside copies of the packages that run here, wherever they are installed.

    So a checkout, an editable installation and a wheel all send the very code that started the job.

    Raises: `UserError` when the package is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="visent-setup-") as folder:
        for package in PACKAGES:
            place = Path(str(import_module(package).__file__)).parent
            shutil.copytree(place, Path(folder, package), ignore=shutil.ignore_patterns("__pycache__", ".*"))
        setup = Path(folder, "setup.py")
        setup.write_text(SETUP.format(version=__version__, requires=requirements()), encoding="utf-8")
        for name, text in (("MANIFEST.in", "graft *\n"), ("README.md", "visent, as it was started\n")):
            Path(folder, name).write_text(text, encoding="utf-8")
        yield str(setup)


def requirements() -> list[str]:
    """Returns what a worker installs where its image does not have it.

    Raises: `UserError` when the package is not installed.
    """
    try:
        listed = metadata.requires("visent") or []
    except metadata.PackageNotFoundError:
        raise UserError(
            "workers in containers install visent as it is installed here, and it is not: run `pip install -e .` in "
            "its folder first"
        ) from None
    return [kept for requirement in listed if (kept := _kept(requirement))]


def _kept(requirement: str) -> str:
    """Returns a requirement without its extra, or nothing when it belongs to another one."""
    name, _, marker = requirement.partition(";")
    if "extra ==" not in marker:
        return requirement
    return name.strip() if f'"{EXTRA}"' in marker or f"'{EXTRA}'" in marker else ""
