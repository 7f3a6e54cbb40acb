"""Networks that draw: loaded once per process, and fed with full batches across examples."""

import importlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from manifests.legend import Legend
from pipelines.annotate import models
from pipelines.annotate.annotators import DRAWN, model, role
from pipelines.batches import IN_FLIGHT, in_batches
from pipelines.examples import Squares
from pipelines.geometry import cut_scaled
from pipelines.meter import Meter
from pipelines.sources.base import Reject
from visent.errors import UserError

_loading = threading.Lock()
_loaded: dict[tuple["Weights", int], "Loaded"] = {}


@runtime_checkable
class Network(Protocol):
    """A network that draws on whole pictures, uint8[h w 3] of any size; used by several threads at once.

    What it draws of a picture must not depend on the others in the batch.
    """

    batch_size: int
    exact: bool  # whether colours mean something, so that they are never mixed

    def prepare(self, image: Any) -> Any:
        """Makes the network's input of a picture: an array whose shape is the same for every picture."""
        ...

    def run(self, inputs: Any) -> Sequence[Any]:
        """Returns one output for each of `batch_size` inputs."""
        ...

    def draw(self, output: Any, image: Any) -> Any:
        """Draws an output as a picture of the size of `image`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The files of a network: of a named one found here, of an ONNX model beside its TOML."""

    annotator: str  # as in --annotate
    sha256: str

    @property
    def role(self) -> str:
        """What it draws."""
        return role(self.annotator)


def weights(annotators: Sequence[str]) -> tuple[Weights, ...]:
    """Names the weights of those annotators that are networks.

    Raises: `UserError` when files are missing.
    """
    networks = [annotator for annotator in annotators if annotator not in DRAWN]
    return tuple(Weights(annotator=annotator, sha256=models.digest(_files(annotator))) for annotator in networks)


def _module(annotator: str) -> Any:
    return importlib.import_module(f"pipelines.annotate.{'onnx_model' if model(annotator) else annotator}")


def _files(annotator: str) -> list[Path]:
    if model(annotator):
        files: list[Path] = _module(annotator).files(model(annotator))
        return files
    return [models.found(file) for file in _module(annotator).FILES]


def legends(annotators: Sequence[Weights]) -> dict[str, Legend]:
    """Returns the colours of the roles that networks draw as maps of classes: ONNX models of labels."""
    onnx = [one for one in annotators if model(one.annotator)]
    found = {one.role: _module(one.annotator).legend_of(_files(one.annotator)) for one in onnx}
    return {role: legend for role, legend in found.items() if legend is not None}


class Loaded:
    """A network in this process, with the threads that run it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.batch_size, self.exact = network.batch_size, network.exact
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="annotate")

    def submit(self, pictures: list[Any], meter: Meter) -> "Future[Sequence[Any]]":
        """Starts to draw on up to `batch_size` pictures; the result is as many pictures."""
        return self._threads.submit(self._draw, pictures, meter)

    def _draw(self, pictures: list[Any], meter: Meter) -> list[Any]:
        with meter.at("annotate"):
            return self._drawn(pictures)

    def _drawn(self, pictures: list[Any]) -> list[Any]:
        inputs = np.stack([self._network.prepare(picture) for picture in pictures])
        missing = self.batch_size - len(pictures)
        outputs = self._network.run(np.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1)))
        return [self._network.draw(output, picture) for output, picture in zip(outputs, pictures, strict=False)]


def shared_network(weights: Weights, size: int) -> Loaded:
    """Returns the process's network for squares of `size`, loading it on the first call.

    Raises: `UserError` when its files are missing, are no such network, or differ from those the job began with.
    """
    with _loading:
        if (weights, size) not in _loaded:
            files = _files(weights.annotator)
            if models.digest(files) != weights.sha256:
                raise UserError(
                    f"the model of annotator {weights.annotator} here ({files[0]}) is another one than where the job "
                    "was started; give all workers the same"
                )
            _loaded[weights, size] = Loaded(_module(weights.annotator).load(files, size))
        return _loaded[weights, size]


def annotated(
    examples: Iterable[Squares | Reject], annotators: Sequence[Weights], size: int, meter: Meter | None = None
) -> Iterator[Squares | Reject]:
    """Adds the role of each network, drawn on the whole picture and cut as the other roles are; keeps the order."""
    for weights in annotators:
        examples = _drawn(examples, weights.role, shared_network(weights, size), meter or Meter())
    for example in examples:
        yield example if isinstance(example, Reject) else replace(example, whole=())


def _drawn(
    examples: Iterable[Squares | Reject], role: str, network: Loaded, meter: Meter
) -> Iterator[Squares | Reject]:
    submit = partial(network.submit, meter=meter)
    for result in in_batches(examples, lambda made: made.whole, submit, network.batch_size):
        if isinstance(result, Reject):
            yield result
            continue
        made, pictures = result
        assert made.shown is not None  # for type checkers: it is there when `whole` is
        drawn = np.stack([cut_scaled(picture, made.shown, nearest=network.exact) for picture in pictures])
        yield replace(made, pictures={**made.pictures, role: drawn})
