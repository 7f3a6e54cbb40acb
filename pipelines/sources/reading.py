"""Reading one file of a source: bytes, or a reject that says why not."""

from pathlib import Path

from pipelines.sources.base import Reject

MAX_BYTES = 1 << 30  # a "picture" of more than 1 GiB is none, and would break the memory bound


def read_file(key: str, source: str, path: str) -> bytes | Reject:
    """Returns the bytes of a file, or a reject of stage "read"; `source` is its readable name."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            return _reject(key, source, "too-large", f"over {MAX_BYTES} bytes")
        return Path(path).read_bytes()
    except FileNotFoundError:
        return _reject(key, source, "missing", "gone since the listing")
    except OSError as error:
        return _reject(key, source, "unreadable", error.strerror or str(error))


def _reject(key: str, source: str, reason: str, detail: str) -> Reject:
    return Reject(key=key, source=source, stage="read", reason=reason, detail=detail)
