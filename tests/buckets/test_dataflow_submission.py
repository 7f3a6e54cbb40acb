"""A Dataflow job as the SDK really sends it: staged to a bucket, posted and watched over HTTP.

Dataflow itself is Google's alone; a small server here answers as it does when it refuses, loses or fails a job.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.faults.buckets import Bucket
from pipelines.commands.tokenize import tokenize
from visent.errors import UserError

DIED = "Traceback (most recent call last):\n  File x\nOSError: the bucket says no [while running 'Tokenize']"


class Service(BaseHTTPRequestHandler):
    """Takes a job, or says why not; a job that it took fails at the second look."""

    answer = ""

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.answer == "forbidden":
            self.say(403, {"error": {"code": 403, "message": "The API is not enabled", "status": "PERMISSION_DENIED"}})
            return
        own = "of another" if self.answer == "exists" else job["clientRequestId"]
        self.say(200, {"id": "1", "name": job["name"], "currentState": "JOB_STATE_PENDING", "clientRequestId": own})

    def do_GET(self) -> None:
        if "messages" in self.path:
            said = {"id": "1", "time": "2026-01-01T00:00:00Z", "messageText": DIED,
                    "messageImportance": "JOB_MESSAGE_ERROR"}  # fmt: skip
            self.say(200, {"jobMessages": [said]})
            return
        self.say(200, {"id": "1", "currentState": "JOB_STATE_FAILED"})

    def say(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("localhost", 0), type("Answering", (Service,), {"answer": request.param}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("forbidden", r"DataflowRunner did not take the job: .*The API is not enabled; nothing runs"),
        ("exists", r"a job for gs://.*/out runs already: `visent status gs://.*/out`"),
        ("fails", r"failed with 1 of 1 shards \(train-00000-of-00001.parquet\) missing \(OSError: the bucket says no"),
    ],
    indirect=["service"],
)
def test_what_dataflow_says_reaches_the_user_as_one_line(
    google: Bucket, service: str, message: str, tmp_path: Path
) -> None:
    filesystem, inner = fsspec.core.url_to_fs(google.url)
    Image.new("RGB", (40, 40)).save(tmp_path / "0.png")
    filesystem.put_file(str(tmp_path / "0.png"), f"{inner}/photos/0.png")
    arguments = ["folder", f"{google.url}/photos", "--out", f"{google.url}/out", "--runner", "DataflowRunner",
                 "--project", "my-project", "--region", "us-central1", "--", "--no_auth",
                 f"--dataflow_endpoint={service}"]  # fmt: skip
    with pytest.raises(UserError, match=message) as failure:
        CliRunner().invoke(tokenize, arguments, catch_exceptions=False)
    assert "\n" not in str(failure.value)
    filesystem.invalidate_cache()
    staged = {name.rsplit("/", 1)[-1] for name in filesystem.find(f"{inner}/visent-temp")}
    assert {"pipeline.pb", "workflow.tar.gz"} <= staged
    assert not filesystem.exists(f"{inner}/out/dataset.json")
