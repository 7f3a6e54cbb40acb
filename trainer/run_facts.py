"""What a checkpoint belongs to, and whether a run may go on from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.config import RunConfig
from visent import __version__
from visent.errors import UserError

_SHOWN = 6  # differences listed in one message


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a checkpoint belongs to; stored in it and compared before a run goes on from it."""

    config: RunConfig
    lock_digest: str
    fingerprint: str  # of the tokenizer
    stage: str = ""  # in which the checkpoint was written
    teacher: Mapping[str, Any] = field(default_factory=dict)  # which one, where there is one
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**self.__dict__, "config": self.config.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunFacts":
        """Reads what `to_json` wrote.

        Raises:
            UserError: another version of visent wrote it, with other settings.
        """
        try:
            return cls(**{**data, "config": RunConfig.from_json(data["config"])})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"facts of a checkpoint do not fit visent {__version__} ({error}): "
                f"use visent {data.get('version', 'of then')}, which wrote it, or start a new run"
            ) from error


def check_same_run(
    old: RunFacts,
    new: RunFacts,
    old_lock: Mapping[str, Any],
    new_lock: Mapping[str, Any],
    *,
    allow_other_lock: bool = False,
    allow_other_settings: bool = False,
) -> None:
    """Checks that a run may go on from a checkpoint.

    How it is computed, microbatches too, and how often the run logs, evaluates and saves may change freely, and so may
    stages that have not begun.

    Raises:
        UserError: another tokenizer or model; another lock or other settings, unless allowed.
    """
    if old.fingerprint != new.fingerprint:
        raise UserError(
            f"the checkpoint was trained on tokens of tokenizer {old.fingerprint}, the lock has those of "
            f"{new.fingerprint}: use another --out folder"
        )
    before, after = old.config.to_json(), new.config.to_json()
    model = differences(before["model"], after["model"])
    if model:
        raise UserError(f"the checkpoint holds another model ({'; '.join(model)}): use --model and --set as before, "
                        "or another --out folder")  # fmt: skip
    begun = list(before["stages"])[: list(before["stages"]).index(old.stage) + 1] if old.stage else []
    settings = differences(_learned_with(before, begun), _learned_with(after, begun))
    settings += differences(old.teacher, new.teacher, "teacher")
    if settings and not allow_other_settings:
        raise UserError(f"the checkpoint was written with other settings ({'; '.join(settings[:_SHOWN])}): repeat the "
                        "first command, use another --out folder, or pass --allow-other-settings")  # fmt: skip
    if old.lock_digest != new.lock_digest and not allow_other_lock:
        found = differences(old_lock, new_lock)
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UserError(
            f"the checkpoint read lock {old.lock_digest[:16]}, this manifest gives {new.lock_digest[:16]} "
            f"({'; '.join(found[:_SHOWN]) or 'unknown difference'}{more}): restore the manifest, use another --out "
            "folder, or pass --allow-other-lock"
        )


def _learned_with(config: Mapping[str, Any], stages: list[str]) -> dict[str, Any]:
    """Returns the settings that what was learned so far depends on."""
    found: dict[str, Any] = {name: config[name] for name in ("seed", "start", "distill")}
    if config["classify"] is not None:
        found["classify"] = {key: value for key, value in config["classify"].items() if key != "reading_threads"}
    begun = ((name, config["stages"].get(name)) for name in stages)
    found["stages"] = {name: stage and {k: v for k, v in stage.items() if k != "microbatches"} for name, stage in begun}
    found["order of stages"] = list(config["stages"])[: len(stages)]  # a step is the stage's that stands there
    return found


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns one phrase for each value that two JSON values do not share, such as `seed: 0, now 1`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        missing = object()
        pairs = ((old.get(name, missing), new.get(name, missing), f"{path}.{name}".lstrip(".")) for name in names)
        return [
            phrase
            for a, b, where in pairs
            for phrase in (
                [f"{where} {'added' if a is missing else 'removed'}"] if missing in (a, b) else differences(a, b, where)
            )
        ]
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        if len(old) != len(new):
            return [f"{path}: {len(old)} entries, now {len(new)}"]
        return [
            phrase
            for i, (a, b) in enumerate(zip(old, new, strict=True))
            for phrase in differences(a, b, f"{path}[{i}]")
        ]
    return [] if old == new else [f"{path}: {old}, now {new}"]
