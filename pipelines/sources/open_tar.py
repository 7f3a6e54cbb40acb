"""Opening a tar that somebody else made."""

import tarfile
from typing import Any

MAX_HEADER = 1 << 20  # bytes of a long name or of pax records; tarfile reads them whole
_LONG = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Header(tarfile.TarInfo):
    """A member's header: no size below zero, which would lead tarfile in circles, and no endless name."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.size < 0 or (self.type in _LONG and self.size > MAX_HEADER):
            raise tarfile.ReadError(f"the header at byte {tar.offset} states {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def open_tar(file: Any) -> tarfile.TarFile:
    """Opens a tar, plain or gzip, from its beginning; other packings may ask for gigabytes to be opened, and are none.

    Raises: what `tars.CUT` names.
    """
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return tarfile.open(fileobj=file, mode="r:gz" if packed else "r:", tarinfo=_Header)
