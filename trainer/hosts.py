"""One run on several hosts: the same command on each, connected by `jax.distributed`.

Every host computes on its own devices and reads its own rows of each batch; the first one alone writes what is no
checkpoint. Where a host is lost the others cannot go on: JAX then ends their processes from within, without a chance
for Python to say so. A small process beside each host, the witness, says it instead.
"""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from manifests import files
from trainer.run_facts import differences
from visent.errors import UserError

CONNECT_SECONDS = 300  # hosts may be started so far apart
_CONNECTIONS = ("CoordinationService", "heartbeat", "Gloo", "NCCL operation")  # in messages of what connects hosts
_SHOWN = 4  # differences listed in one message
_WITNESS = """\
import sys
words = sys.stdin.read().splitlines()
if words and words[-1]:
    print(words[-1], file=sys.stderr, flush=True)
"""
# What tells that a process is one of several: its launcher's number of processes.
_LAUNCHED = {"SLURM_STEP_NUM_TASKS": "Slurm step", "OMPI_COMM_WORLD_SIZE": "Open MPI job"}


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Where this process stands among the hosts of a run."""

    count: int | None = None  # None: what launched the process knows (Slurm, Open MPI, Cloud TPU, Kubernetes)
    index: int | None = None
    coordinator: str | None = None  # HOST:PORT of the first host, free there and reached by all
    timeout_seconds: int = 60  # a host that is silent for so long is lost

    def __post_init__(self) -> None:
        if self.count is None or self.count == 1:
            return
        if self.index is None or not 0 <= self.index < self.count:
            raise UserError(
                f"--host-id is {'missing' if self.index is None else self.index}: expected this host's number, "
                f"0 to {self.count - 1}, another one on each of the {self.count} hosts"
            )
        name, colon, port = (self.coordinator or "").rpartition(":")
        if not (name and colon and port.isdigit()):
            raise UserError(
                f"--coordinator is {self.coordinator or 'missing'}: expected HOST:PORT of host 0, the same on every "
                "host, such as --coordinator 10.0.0.1:8476"
            )


def read(count: str | None, index: int | None, coordinator: str | None, timeout_seconds: int) -> Hosts | None:
    """Returns what the options of a command say; None where they say nothing.

    Raises:
        UserError: an option is missing or does not fit the others.
    """
    if count is None:
        if index is not None or coordinator is not None:
            raise UserError("--host-id and --coordinator want the number of hosts beside them: pass --hosts N")
        return None
    if count != "auto" and not (count.isdigit() and int(count) > 0):
        raise UserError(f"--hosts is {count!r}: expected a positive number, or auto")
    number = None if count == "auto" else int(count)
    return Hosts(count=number, index=index, coordinator=coordinator, timeout_seconds=timeout_seconds)


def first() -> bool:
    """Returns whether this host writes what only one may write: configuration, journals, pictures, the terminal."""
    return int(jax.process_index()) == 0


@contextlib.contextmanager
def joined(hosts: Hosts | None) -> Iterator[None]:
    """Connects the hosts of a run while the block runs; must begin before JAX has computed anything.

    Without `hosts`, or with one, the block runs on this host alone.

    Raises:
        UserError: the hosts cannot be connected, or this process is one of several and nothing says so.
    """
    if hosts is None:
        _check_alone()
    if hosts is None or hosts.count == 1:
        yield
        return
    with _Witness() as witness:
        witness.say(f"error: {_apart(hosts)}")
        try:
            _connect(hosts)
            witness.say(f"error: {_lost(hosts)}")
            yield
        except BaseException as error:
            atexit.register(_leave)
            if _tells_of_loss(error):
                raise UserError(_lost(hosts)) from error
            raise


def agree(settings: Mapping[str, Any]) -> None:
    """Checks that every host was started with the same settings.

    Raises:
        UserError: a host has others than the first; says which.
    """
    texts = [json.loads(text) for text in _texts(json.dumps(settings))]
    for host, other in enumerate(texts):
        found = differences(texts[0], other)
        if found:
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UserError(
                f"host {host} was started with other settings than host 0 ({'; '.join(found[:_SHOWN])}{more}): start "
                "every host with the same command, manifest and version"
            )


def check_shared(folder: str | Path) -> None:
    """Checks that all hosts see the same folder.

    Raises:
        UserError: a host does not see what the first one writes, or that one cannot write.
    """
    if jax.process_count() == 1 or files.is_url(folder):
        return
    place = Path(folder, f"host-0-was-here-{_texts(os.urandom(8).hex())[0]}")
    if first():
        try:
            place.touch()
        except OSError as error:
            raise files.cannot_write(folder, error) from error
    blind = [host for host, sees in enumerate(_texts(json.dumps(_sees(place)))) if sees == "false"]
    if first():
        place.unlink(missing_ok=True)
    if blind:
        raise UserError(
            f"--out {folder} is not the same folder on every host: hosts {', '.join(map(str, blind))} do not see what "
            "host 0 writes there; use a shared disk, or a gs:// URL"
        )


def _sees(place: Path) -> bool:
    """Returns whether a file is there, or comes within seconds: network disks may show it late."""
    wait("file of host 0 written")
    for pause in (0.0, 1.0, 3.0, 6.0):
        time.sleep(pause)
        if place.exists():
            return True
    return False


def wait(what: str) -> None:
    """Waits until every host has come here; `what` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def from_first(numbers: list[int]) -> list[int]:
    """Returns the numbers that the first host has."""
    found: list[int] = json.loads(_texts(json.dumps(numbers))[0])
    return found


def _texts(text: str) -> list[str]:
    """Returns the text of every host."""
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.array(len(mine)))).reshape(-1)
    padded = np.pad(mine, (0, int(sizes.max()) - len(mine)))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def _check_alone() -> None:
    for variable, name in _LAUNCHED.items():
        count = os.environ.get(variable, "1")
        if count.isdigit() and int(count) > 1:
            raise UserError(
                f"this is one of {count} processes of a {name}, and nothing says whether they share a run: pass "
                "--hosts auto to train one run together, or --hosts 1 to train alone"
            )


def _connect(hosts: Hosts) -> None:
    count, index, coordinator = hosts.count, hosts.index, hosts.coordinator
    if index == 0 and coordinator is not None:
        _check_port(coordinator)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            cluster_detection_method=None if count is None else "deactivate",
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=hosts.timeout_seconds,
        )
    except ValueError as error:
        raise UserError(
            f"--hosts auto found neither a Slurm step nor an Open MPI, Cloud TPU or Kubernetes job ({error}): pass "
            "--hosts N --host-id I --coordinator HOST:PORT instead"
        ) from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"hosts cannot be connected through {coordinator or 'what launched them'} ({reason}): pass an address "
            "and a free port of host 0 to every host, with --coordinator HOST:PORT"
        ) from error


def _check_port(coordinator: str) -> None:
    """JAX does not survive a port that is taken."""
    try:
        with socket.create_server(("", int(coordinator.rpartition(":")[2]))):
            pass
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--coordinator {coordinator}: host 0 cannot listen there ({error}); pass a free port to every host"
        ) from error


def _apart(hosts: Hosts) -> str:
    index = "this host" if hosts.index is None else f"host {hosts.index}"
    return (
        f"{index} waited {CONNECT_SECONDS} s for all {hosts.count or ''} hosts at "
        f"{hosts.coordinator or 'the coordinator'} in vain: start the command on every host, each with its own "
        "--host-id, and see that all can reach that address"
    ).replace("  ", " ")


def _lost(hosts: Hosts) -> str:
    return (
        f"host {jax.process_index()} of {jax.process_count()} stopped, because another host was lost (its own "
        f"log says why; silence for {hosts.timeout_seconds} s counts, see --host-timeout) or because this process was "
        "killed. Nothing saved is lost: start the same command on every host again, or on the hosts that are left, "
        "and it goes on from the newest checkpoint"
    )


def _tells_of_loss(error: BaseException | None) -> bool:
    """Returns whether an error, or one before it, came from a connection to another host."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) and any(word in str(error) for word in _CONNECTIONS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leave() -> None:
    """Ends a process that failed at once: JAX would first wait for the others, which wait for this one.

    Runs after the error was printed, and before what JAX has registered.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class _Witness:
    """A process that prints the last words it was told when this one ends without taking them back."""

    def __enter__(self) -> "_Witness":
        command = [sys.executable, "-S", "-E", "-c", _WITNESS]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)  # nosec B603
        return self

    def say(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate("\n")
