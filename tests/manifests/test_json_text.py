"""The JSON that is written: the same values, and a line for each object of a list."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manifests import canonical
from manifests.dataset import FACTS_FILE, DatasetFacts, write_facts
from manifests.schema import Schema
from manifests.shards import ShardInfo
from tokenizer.load import load_card

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert json.loads(canonical.indented(value)) == value


def test_objects_are_indented_and_those_of_a_list_stand_on_a_line_each() -> None:
    assert canonical.indented({"a": {"b": [1, 2]}, "c": [{"d": {}}, {"d": []}]}) == (
        '{\n "a": {\n  "b": [1, 2]\n },\n "c": [\n  {"d": {}},\n  {"d": []}\n ]\n}'
    )


def test_every_shard_is_one_line_of_the_facts(tmp_path: Path) -> None:
    schema = Schema(roles={"image": "still"}, card=load_card())
    shards = [
        ShardInfo(file=f"{unit}.parquet", unit=unit, split="train", first_view=0, last_view=0, rows=1,
                  rows_per_view=(1,), bytes=9, sha256="", keys_sha256="", frames={3: 1}, made_with={"jax": "1"})
        for unit in ("train-00000-of-00002", "train-00001-of-00002")
    ]  # fmt: skip
    write_facts(str(tmp_path), DatasetFacts(name="d", schema=schema, shards=shards))
    lines = (tmp_path / FACTS_FILE).read_text().splitlines()
    found = [json.loads(line.strip().rstrip(",")) for line in lines if '"unit"' in line]
    assert [ShardInfo.from_json(value) for value in found] == shards
