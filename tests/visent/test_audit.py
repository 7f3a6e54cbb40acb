"""`.ci/audit` against a real server with OSV's interface: what is not known is never taken for safe."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pip_audit")
AUDIT = Path(__file__).resolve().parents[2] / ".ci" / "audit"
LOCK = "# a comment\nsix==1.17.0\nclick==8.5.1 ; python_version >= '3.11'\nrich==15.0.0\n"


class _Osv(BaseHTTPRequestHandler):
    """Answers as api.osv.dev does; the server says which packages have a flaw, and with which status it answers."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
        flaw = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "made", "affected": affected}
        server: Any = self.server
        body = json.dumps({"vulns": [flaw]} if name in server.flawed else {}).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that knows every package and no flaw."""
    osv: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Osv)
    osv.flawed, osv.status = (), 200
    threading.Thread(target=osv.serve_forever, daemon=True).start()
    yield osv
    osv.shutdown()
    osv.server_close()


def audit(folder: Path, port: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs the script on a small lock."""
    lock = folder / "requirements.lock"
    lock.write_text(LOCK)
    command = [sys.executable, str(AUDIT), "--lock", str(lock), "--osv-url", f"http://127.0.0.1:{port}/v1/query", *more]
    return subprocess.run(command, check=False, text=True, capture_output=True, timeout=120)


def test_packages_that_the_service_knows_are_counted(server: Any, tmp_path: Path) -> None:
    done = audit(tmp_path, server.server_port, "--required")
    assert done.stdout == "pip-audit: 3 packages audited: no known vulnerabilities\n", done.stderr
    assert done.returncode == 0


def test_a_vulnerability_fails_and_says_where_it_is_fixed(server: Any, tmp_path: Path) -> None:
    server.flawed = ("six",)
    done = audit(tmp_path, server.server_port)
    assert done.returncode == 1
    assert "six 1.17.0: PYSEC-2026-1, fixed in 99.0" in done.stdout
    assert "no known" not in done.stdout


@pytest.mark.parametrize("status", [404, 503])
def test_a_service_without_answers_is_a_skip_in_words_and_a_failure_where_one_is_required(
    status: int, server: Any, tmp_path: Path
) -> None:
    server.status = status
    for more, code in (((), 0), (("--required",), 1)):
        done = audit(tmp_path, server.server_port, *more)
        assert "SKIPPED, NOT AUDITED: every package" in done.stdout
        assert "no known vulnerabilities" not in done.stdout
        assert "gave no answer" in done.stdout
        assert (done.returncode, done.stderr) == (code, "")


def test_no_server_at_all_is_a_skip_in_words(server: Any, tmp_path: Path) -> None:
    port = server.server_port
    server.shutdown()
    server.server_close()
    done = audit(tmp_path, port)
    assert "SKIPPED, NOT AUDITED: every package" in done.stdout
    assert done.returncode == 0
