"""Finding what kills a worker: the reading and decoding of a unit, rehearsed in a child process that may die.

A picture or video can crash a decoder, fill the memory, or keep it busy for ever. Nothing inside the process helps
against that. So when an attempt at a unit died, the next one rehearses it: a child reads and decodes its examples one
by one, and says before each step where it is. A step at which two children died is a fault, and the next child goes on
behind it; of one that died once, somebody else was the cause.
"""

import os
import pickle  # what a parent wrote is read by its child  # nosec B403
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal, cast

from manifests import files
from manifests.shards import rejects_name
from pipelines.examples import Look, squares
from pipelines.faults import DETAILS, Fault, spared
from pipelines.job import Job, Work
from pipelines.resuming.order import read_rejects
from pipelines.resuming.weave import is_chosen
from pipelines.runners.logs import tell
from pipelines.sources.base import Example, Source, Unit
from visent.errors import UserError

VARIABLE = "VISENT_EXAMPLE_SECONDS"
SECONDS = 600  # for a step; buckets are asked again for two minutes, and the slowest videos take one
MOST_BYTES = 8 << 30  # of the child; an example of the largest pictures that are taken needs about one
DEATHS = 2  # at one step, until it is the example's fault
LOOK_SECONDS = 0.05
NEAREST = 1000  # to being chosen, where Linux ends a process for want of memory

Place = tuple[int, int]  # item of the unit, result of the item
Stage = Literal["read", "decode"]


def faults_of(job: Job, work: Work, died: bool) -> tuple[Fault, ...]:
    """Returns the faults of a unit; `died` says that an attempt at it did.

    Those that are in its list of rejects are known; but one that a retry is to try is looked for again.

    Raises: `UserError` when the time limit is no number, or the list is damaged.
    """
    known, again = _listed(job, work)
    return _rehearsed(job, work, known) if died or again else known


def _listed(job: Job, work: Work) -> tuple[tuple[Fault, ...], bool]:
    """Returns the faults that the unit's first shard has among its rejects, and whether some are to be tried again."""
    retry = work.retry
    if retry is None and not work.keys_sha256:
        return (), False  # this makes the first shard
    first = replace(work, views=(0, 0)).file(job.format)
    path = files.join(job.out if retry is None else retry.folder, rejects_name(first))
    listed = [placed for placed in read_rejects(path) if placed.reject.reason in DETAILS]
    kept = [placed for placed in listed
            if retry is None or not (is_chosen(placed.reject, retry) or placed.item in retry.changed)]  # fmt: skip
    faults = tuple(
        Fault(item=placed.item, result=placed.place - placed.span[0], stage=cast(Stage, placed.reject.stage),
              reason=placed.reject.reason)
        for placed in kept
    )  # fmt: skip
    return faults, len(kept) < len(listed)


def _rehearsed(job: Job, work: Work, known: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Looks for the faults of a unit; those that are known cost nothing."""
    began, limit = time.monotonic(), _limit()
    faults, begin, deaths = known, (0, 0), Counter[tuple[Place, Stage]]()
    while True:
        task = (job.source, job.look, work.unit, work.views[0], faults, begin, limit, os.getpid())
        with tempfile.TemporaryFile() as given:
            try:
                pickle.dump(task, given)
            except (pickle.PicklingError, AttributeError, TypeError) as error:  # a source that a script defines
                tell("rehearsal failed", failed=True, unit=work.unit.id, said=str(error))
                return faults
            given.seek(0)
            step, reason = _child(given, work.unit.id)
        if step is None:
            break
        begin = step[0]
        deaths[step] += 1
        if deaths[step] == DEATHS:
            (item, result), stage = step
            faults = (*faults, Fault(item=item, result=result, stage=stage, reason=reason))
    found = len(faults) - len(known)
    tell("rehearsed", unit=work.unit.id, faults=found, seconds=round(time.monotonic() - began, 2))
    return faults


def _limit() -> int:
    """Returns the seconds that a step may take.

    Raises: `UserError`.
    """
    text = os.environ.get(VARIABLE, str(SECONDS))
    if not text.isdecimal() or not int(text):
        raise UserError(f"environment variable {VARIABLE} is {text!r}, expected whole seconds, 1 or more")
    return int(text)


def _child(given: IO[bytes], unit: str) -> tuple[tuple[Place, Stage] | None, str]:
    """Runs one child; returns the step at which it died and the reason, None when it came through or never began."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as steps, tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "pipelines.rehearsal"], stdin=given, stdout=steps,
                                   stderr=said, env=environment)  # fmt: skip  # nosec B603
        try:
            while process.poll() is None:
                if _resident(process.pid) > MOST_BYTES:
                    process.kill()
                time.sleep(LOOK_SECONDS)
        finally:
            process.kill()
            code = process.wait()
        steps.seek(0)
        item, result, stage = (steps.read().decode().split() or ["0", "0", "began"])[:3]
        if stage in ("read", "decode"):
            reasons = {-signal.SIGALRM: "too-slow", -signal.SIGKILL: "too-much-memory"}
            return ((int(item), int(result)), cast(Stage, stage)), reasons.get(code, "crashed")
        if stage != "ended":
            said.seek(0)
            line = (said.read().decode(errors="replace").strip().splitlines() or [f"it ended with {code}"])[-1]
            tell("rehearsal failed", failed=True, unit=unit, said=line)
    return None, ""


def _resident(pid: int) -> int:
    """Returns the bytes of memory that a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _main() -> None:
    """Takes the steps of a unit as the child; what a worker would meet as an error is the worker's to meet."""
    steps = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes there
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(NEAREST))
    source, look, unit, view, faults, begin, limit, parent = pickle.load(sys.stdin.buffer)  # nosec B301

    def say(place: Place, stage: str) -> None:
        if os.getppid() != parent:
            os._exit(1)
        os.pwrite(steps, f"{place[0]:>9} {place[1]:>9} {stage:<7}".encode(), 0)
        signal.alarm(limit if stage in ("read", "decode") else 0)  # nobody handles it: it ends the process

    def walk(source: Source, look: Look, unit: Unit) -> None:
        for item in range(begin[0], len(unit.items)):
            one, at = replace(unit, items=(unit.items[item],)), 0
            say((item, at), "read")
            for result in spared(source.examples(one), unit.items[item], [f for f in faults if f.item == item]):
                if isinstance(result, Example) and (item, at) >= begin:
                    say((item, at), "decode")
                    squares(result, look, [view])
                at += 1
                say((item, at), "read")

    try:
        walk(source, look, unit)
        say((0, 0), "ended")
    except BaseException:
        say((0, 0), "raised")
        raise


if __name__ == "__main__":
    _main()
    os._exit(0)
