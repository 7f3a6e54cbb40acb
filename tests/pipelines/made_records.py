"""TFRecord files written by the letter of the format, for tests."""

import struct
from pathlib import Path
from typing import Any

from pipelines.sources.tfrecords import example_class, masked_crc


def example_bytes(features: dict[str, Any]) -> bytes:
    """Encodes a tf.train.Example; a value is bytes, text, int, float, or a list of one of them."""
    example = example_class()()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        if values and isinstance(values[0], (bytes, str)):
            feature.bytes_list.value.extend(one.encode() if isinstance(one, str) else one for one in values)
        elif values and isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    made: bytes = example.SerializeToString()
    return made


def framed(record: bytes) -> bytes:
    """Returns a record with its length and both checksums."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length)) + record + struct.pack("<I", masked_crc(record))


def write_records(path: Path, records: list[bytes]) -> Path:
    """Writes a TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(framed, records)))
    return path
