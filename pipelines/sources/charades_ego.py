"""Charades-Ego (Sigurdsson et al., Actor and Observer: Joint Modeling of First and Third-Person Videos, 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pipelines.sources.charades import Charades
from pipelines.sources.dataset import option


@dataclass(frozen=True, kw_only=True)
class CharadesEgo(Charades):
    """Charades-Ego: the same home scenes filmed twice, by a bystander (<id>) and by the actor (<id>EGO).

    <root>/CharadesEgo_v1_480/<id>.mp4 (or CharadesEgo_v1/, at full size)
    <root>/{CharadesEgo_v1_train,CharadesEgo_v1_test}.csv, Charades_v1_classes.txt

    The CSV files may lie in <root>/CharadesEgo/. Meta names the other view's video in `pair`.
    """

    view: Literal["both", "first", "third"] = option("both", "First person (the actor's) or third (the bystander's).")

    folders: ClassVar[tuple[str, ...]] = ("CharadesEgo_v1_480", "CharadesEgo_v1")
    tables: ClassVar[tuple[str, ...]] = ("CharadesEgo_v1_{split}.csv", "CharadesEgo/CharadesEgo_v1_{split}.csv")
    classes: ClassVar[tuple[str, ...]] = ("Charades_v1_classes.txt", "CharadesEgo/Charades_v1_classes.txt")

    def wanted(self, row: Mapping[str, str]) -> bool:
        """Chooses by the column `egocentric`."""
        return self.view in ("both", _view(row))

    def described(self, row: Mapping[str, str]) -> dict[str, Any]:
        """Adds the view and the other video of the pair."""
        key = row["id"]
        pair = row.get("charades_video") or (key.removesuffix("EGO") if key.endswith("EGO") else f"{key}EGO")
        return {"view": _view(row), "pair": pair}


def _view(row: Mapping[str, str]) -> str:
    return "first" if row.get("egocentric", "").strip().lower() == "yes" else "third"
