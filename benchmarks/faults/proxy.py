"""An HTTP proxy before a bucket that does to requests what networks and overloaded servers do, counted and by a seed.

Whether a request meets a fault depends on the seed, the rule, the operation, the object's name and how many requests
of that kind came before, never on time or the order of threads: the same calls meet the same faults.
"""

import hashlib
import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

Operation = Literal["read", "write", "list", "stat", "delete", "copy", "bucket"]
Kind = Literal[
    "status",  # an error instead of an answer; nothing was done
    "drop",  # the connection ends without an answer; nothing was done
    "lost",  # it was done, and the connection ends without an answer
    "hang",  # no answer for `seconds`, then the connection ends; nothing was done
    "cut",  # the answer breaks off in the middle of its body
    "short",  # the answer's body is half, and says of itself that it is whole (reads only)
    "slow",  # the answer takes `seconds`
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
KINDS: tuple[Kind, ...] = get_args(Kind)
STATUSES = (429, 500, 503)
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One rule: which requests meet what. Of several rules that fit, the first one holds."""

    kind: Kind
    operation: Operation | None = None  # None: every one
    rate: float = 1.0  # of the requests
    status: int = 503
    seconds: float = 1.0
    most: int | None = 2  # at most so many for one operation on one object; None: for ever
    skip: int = 0  # the first requests of an operation on an object are let through
    path: str = ""  # only objects with this in their name

    def __post_init__(self) -> None:
        """Refuses what no request could meet."""
        if self.kind not in KINDS or self.operation not in (None, *OPERATIONS) or not 0 <= self.rate <= 1:
            raise ValueError(f"no such fault: {self}; kinds {KINDS}, operations {OPERATIONS}, rate 0 to 1")


def each(rate: float, *, operations: Sequence[Operation] = OPERATIONS, seconds: float = 1.0) -> list[Fault]:
    """Returns every kind of fault for these operations, each at this rate and at most twice for one object."""
    rules = []
    for operation in operations:
        rules += [Fault(kind="status", operation=operation, rate=rate, status=status) for status in STATUSES]
        kinds = [kind for kind in KINDS if kind != "status" and (kind != "short" or operation == "read")]
        rules += [Fault(kind=kind, operation=operation, rate=rate, seconds=seconds) for kind in kinds]
    return rules


class Proxy:
    """Serves on a free port of localhost while its `with` block lasts; `faults` may be replaced at any time."""

    def __init__(self, upstream: str, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self.faults, self.seed = tuple(faults), seed
        self.requests: Counter[str] = Counter()  # by operation
        self.injected: Counter[tuple[str, str]] = Counter()  # by operation and kind (a status by its number)
        self.to = urlsplit(upstream)
        self._seen: Counter[tuple[str, str]] = Counter()
        self._given: Counter[tuple[str, str]] = Counter()
        self._uploads: dict[str, str] = {}  # id of a resumable upload -> object
        self._lock = threading.Lock()
        self.stopping = threading.Event()  # ends what hangs
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        """The URL to give to clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def reset(self, faults: Sequence[Fault] = (), seed: int | None = None) -> None:
        """Forgets what was counted and sets other rules."""
        with self._lock:
            self.faults = tuple(faults)
            self.seed = self.seed if seed is None else seed
            for counter in (self.requests, self.injected, self._seen, self._given):
                counter.clear()

    def fault(self, operation: Operation, name: str) -> Fault | None:
        """Counts a request and returns what it meets."""
        with self._lock:
            self.requests[operation] += 1
            nth = self._seen[operation, name]
            self._seen[operation, name] += 1
            for number, rule in enumerate(self.faults):
                if rule.operation not in (None, operation) or rule.path not in name or nth < rule.skip:
                    continue
                if rule.most is not None and self._given[operation, name] >= rule.most:
                    continue
                if _share(self.seed, number, operation, name, nth) < rule.rate:
                    self._given[operation, name] += 1
                    self.injected[operation, str(rule.status) if rule.kind == "status" else rule.kind] += 1
                    return rule
        return None

    def about(self, method: str, target: str, headers: Any, body: bytes) -> tuple[Operation, str]:
        """Returns what a request does, to which object; of Google's JSON API, or of S3 with buckets in the path."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if "/storage/v1/b" in url.path or url.path.startswith("/batch/storage"):
            return self._google(method, url.path, query, body)
        return _amazon(method, unquote(url.path), query, headers)

    def _google(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[Operation, str]:
        if path.startswith("/batch"):
            return "delete", "batch"
        bucket, _, name = unquote(path.partition("/b/")[2]).partition("/o")
        name = name.strip("/")
        if path.startswith(("/upload", "/resumable")):
            name = query.get("name") or self._uploads.get(query.get("upload_id", "")) or _named(body)
            return "write", f"{bucket}/{name}"
        if "/rewriteTo/" in name or "/copyTo/" in name or name.endswith("/compose"):
            return "copy", f"{bucket}/{name}"
        if method == "DELETE":
            return "delete", f"{bucket}/{name}"
        if not name:
            return ("list", f"{bucket}/{query.get('prefix', '')}") if path.endswith("/o") else ("bucket", bucket)
        read = query.get("alt") == "media" or path.startswith("/download")
        return ("read" if read else "stat"), f"{bucket}/{name}"

    def remember_upload(self, location: str, name: str) -> None:
        """Keeps which object a resumable upload is of: its later requests do not say."""
        upload = parse_qs(urlsplit(location).query).get("upload_id", [""])[0]
        self._uploads[upload] = name.partition("/")[2]


def _amazon(method: str, path: str, query: dict[str, str], headers: Any) -> tuple[Operation, str]:
    name = path.strip("/")
    if "/" not in name:
        if method == "GET" and "location" not in query:
            return "list", f"{name}/{query.get('prefix', '')}"
        return ("delete", name) if "delete" in query else ("bucket", name)
    if method == "PUT" and headers.get("x-amz-copy-source"):
        return "copy", name
    return {"GET": "read", "HEAD": "stat", "DELETE": "delete"}.get(method, "write"), name  # type: ignore[return-value]


def _named(body: bytes) -> str:
    """Returns the object's name out of the metadata with which an upload begins."""
    found = re.search(rb'"name":\s*("(?:[^"\\]|\\.)*")', body[:4096])
    return str(json.loads(found.group(1))) if found else ""


def _share(*what: object) -> float:
    """Returns a number from 0 up to 1 that depends on its arguments only."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "big") / 2**64


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of every request."""

    def _serve(self) -> None:
        body = self._body()
        if body is None:  # the client died in the middle: a bucket takes whole objects only
            self.close_connection = True
            return
        operation, name = self.proxy.about(self.command, self.path, self.headers, body)
        fault = self.proxy.fault(operation, name)
        if fault is not None and fault.kind in ("status", "drop", "hang"):
            self._refuse(fault)
            return
        status, headers, answer = self._ask(body)
        if location := headers.get("Location"):
            self.proxy.remember_upload(location, name)
        self._answer(status, headers, answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _ask(self, body: bytes) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.proxy.to.hostname or "", self.proxy.to.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for key, value in self.headers.items():
                if key.lower() not in _HOP | {"expect"}:
                    connection.putheader(key, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def _refuse(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.kind == "hang":
            self.proxy.stopping.wait(fault.seconds)
        if fault.kind != "status":
            return
        text = {"error": {"code": fault.status, "message": f"injected {fault.status}"}}
        answer = json.dumps(text).encode()
        if "storage/v1" not in self.path:
            code = {429: "SlowDown", 500: "InternalError", 503: "ServiceUnavailable"}.get(fault.status, "Injected")
            answer = f"<Error><Code>{code}</Code><Message>injected {fault.status}</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _answer(self, status: int, headers: Any, answer: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else None
        if kind == "lost":
            self.close_connection = True
            return
        if kind == "short" and status < 300:
            answer = answer[: len(answer) // 2]
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() not in _HOP | {"server", "date"}:
                self.send_header(key, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(answer)))
        self.end_headers()
        if kind == "cut":
            self.close_connection = True
            answer = answer[: len(answer) // 2]
        if self.command != "HEAD":
            self._send(answer, fault.seconds if fault is not None and kind == "slow" else 0.0)

    def _send(self, answer: bytes, seconds: float) -> None:
        pieces = 8 if seconds else 1
        size = max(1, -(-len(answer) // pieces))
        for start in range(0, len(answer), size):
            time.sleep(seconds / pieces)
            self.wfile.write(answer[start : start + size])
            self.wfile.flush()
