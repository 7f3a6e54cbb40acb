"""Event files for TensorBoard that a resumed run continues without doubled steps."""

import io
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf.message import DecodeError
from PIL import Image
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import text

from manifests import files
from trainer.journal import UPLOAD_SECONDS
from visent.errors import UserError

FLUSH_SECONDS = 10.0  # figures are on the disk after so long, and whenever a run calls `flush`
CONFIG = "config"


class Board:
    """The event files in a folder or at a URL; of several hosts one writes (`writes`).

    Nothing is touched before the first write. Then `config` is shown as the text of that name, in place of an earlier
    one.
    """

    def __init__(self, folder: str | Path, config: str, *, writes: bool = True) -> None:
        self._folder, self._config, self._writes = str(folder), config, writes
        self._after = 0
        self._writer: EventsWriter | None = None
        self._spool: TemporaryDirectory[str] | None = None  # where the file grows that goes to a URL
        self._flushed = time.monotonic()

    def forget_after(self, step: int) -> None:
        """Has the first write remove the events of steps later than `step`: a resumed run writes them again."""
        self._after = step

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of each name.

        Raises:
            UserError: the files cannot be written.
        """
        self._add(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Adds a picture.

        Raises:
            UserError: the files cannot be written.
        """
        data = io.BytesIO()
        picture.convert("RGB").save(data, format="PNG")
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=data.getvalue()
        )
        self._add(step, [Summary.Value(tag=name, image=image)])

    def flush(self) -> None:
        """Brings all so far to the disk or URL.

        Raises:
            UserError: it cannot be written.
        """
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except OSError as error:
            raise files.cannot_write(self._folder, error) from error
        if self._spool is not None:
            for path in Path(self._spool.name).iterdir():
                files.write_bytes(files.join(self._folder, path.name), path.read_bytes())
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
        if self._spool is not None:
            self._spool.cleanup()
        self._writer = self._spool = None

    def _add(self, step: int, values: list[Any]) -> None:
        if not self._writes:
            return
        try:
            self._opened().write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        except OSError as error:
            raise files.cannot_write(self._folder, error) from error
        if time.monotonic() - self._flushed > (FLUSH_SECONDS if self._spool is None else UPLOAD_SECONDS):
            self.flush()

    def _opened(self) -> EventsWriter:
        if self._writer is None:
            _forget(self._folder, self._after)
            files.make_folder(self._folder)
            if files.is_url(self._folder):
                self._spool = TemporaryDirectory(prefix="visent-")
            where = self._folder if self._spool is None else self._spool.name
            # The library's name has the time in seconds only: the step keeps files of two quick starts apart.
            self._writer = EventsWriter(str(Path(where) / "events"), f".{self._after}")
            written = text(CONFIG, f"```json\n{self._config}\n```")
            self._writer.write_event(Event(wall_time=time.time(), step=self._after, summary=written))
        return self._writer


def _forget(folder: str, after: int) -> None:
    """Removes events of steps later than `after`, and the configuration, from all event files of a folder."""
    for name in files.list_names(folder):
        path = files.join(folder, name)
        if ".tfevents." not in name:
            continue
        data = files.read_bytes(path)
        kept = b"".join(record for record, event in _records(path, data) if event.step <= after and not _config(event))
        if kept != data:
            files.write_bytes(path, kept)


def _config(event: Any) -> bool:
    return any(value.tag.startswith(f"{CONFIG}/") for value in event.summary.value)


def _records(path: str, data: bytes) -> Iterator[tuple[bytes, Any]]:
    """Yields each whole record of a file in TFRecord form, and the event in it.

    A record is its length (8 bytes, little endian), a checksum (4), the event and its checksum (4). One cut short by
    a kill ends the file.
    """
    at = 0
    while (end := at + 16 + int.from_bytes(data[at : at + 8], "little")) <= len(data):
        try:
            yield data[at:end], Event.FromString(data[at + 12 : end - 4])
        except DecodeError as error:
            raise UserError(
                f"{path} is damaged at byte {at}: remove it and run the same command again; the figures are in "
                "metrics.jsonl too"
            ) from error
        at = end
