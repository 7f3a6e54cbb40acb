"""TFRecord files, and the tf.train.Example messages in them, read without TensorFlow.

The format (https://www.tensorflow.org/tutorials/load_data/tfrecord): for each record its length as uint64, a masked
CRC-32C of those eight bytes, the record, and a masked CRC-32C of it; all little-endian.
"""

import functools
import gzip
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from pipelines.sources import places
from pipelines.sources.reading import MAX_BYTES

_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8  # so that the checksum of a record that holds checksums is no simple number
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a record is not there; `last` when none can follow."""

    reason: str  # a stable word
    detail: str = ""
    last: bool = False


def records(path: str) -> Iterator[bytes | Fault]:
    """Yields the records of a file, plain or gzip; a record whose content is damaged comes as a fault in its place."""
    try:
        with places.open_file(path) as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                yield from _records(file, sys.maxsize if packed else places.size_of(path))
    except FileNotFoundError:
        yield Fault(reason="missing", detail="gone since the listing", last=True)
    except (OSError, EOFError, zlib.error) as error:
        yield Fault(reason="unreadable", detail=str(error), last=True)


def _records(file: BufferedIOBase, size: int) -> Iterator[bytes | Fault]:
    while head := file.read(_HEAD.size):
        place = f"record at byte {file.tell() - len(head)}"
        if len(head) < _HEAD.size or masked_crc(head[:8]) != _HEAD.unpack(head)[1]:
            cut = len(head) < _HEAD.size
            detail = f"{place}: {'the file ends in its head' if cut else 'its length is damaged'}"
            yield Fault(reason="file-cut" if cut else "damaged", detail=detail, last=True)
            return
        length = _HEAD.unpack(head)[0]
        if length + _CRC.size > size - file.tell():
            yield Fault(reason="file-cut", detail=f"{place}: the file ends inside", last=True)
            return
        if length > MAX_BYTES:
            if size == sys.maxsize:  # packed: to pass over it is to unpack it, and it may be endless
                yield Fault(reason="too-large", detail=f"{place}: {length} bytes", last=True)
                return
            file.seek(length + _CRC.size, os.SEEK_CUR)
            yield Fault(reason="too-large", detail=f"{place}: {length} bytes")
            continue
        record, crc = file.read(length), file.read(_CRC.size)
        if len(record) < length or len(crc) < _CRC.size:
            yield Fault(reason="file-cut", detail=f"{place}: the file ends inside", last=True)
            return
        good = masked_crc(record) == _CRC.unpack(crc)[0]
        yield record if good else Fault(reason="damaged", detail=f"{place}: its checksum does not fit")


def masked_crc(data: bytes) -> int:
    """Returns the checksum as it stands in a file: CRC-32C turned by 15 bits, plus a constant."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def features(record: bytes) -> dict[str, Any] | Fault:
    """Returns the features of an Example by name: a list, or of one value the value alone."""
    try:
        example = example_class().FromString(record)
    except DecodeError as error:
        return Fault(reason="no-example", detail=str(error))
    found: dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        found[name] = values[0] if len(values) == 1 else values
    return found


# tensorflow/core/example/{example,feature}.proto; `map_entry` is how a map<string, Feature> is declared.
_SCHEMA = """
name: "visent/tf_example.proto" package: "visent.tf" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".visent.tf.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type: TYPE_MESSAGE type_name: ".visent.tf.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".visent.tf.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".visent.tf.Feature" }
  }
  field {
    name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".visent.tf.Features.FeatureEntry"
  }
}
message_type {
  name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".visent.tf.Features" }
}
"""


@functools.cache
def example_class() -> Any:
    """Returns the message class of tf.train.Example, in a pool of its own beside TensorFlow's."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("visent.tf.Example"))
