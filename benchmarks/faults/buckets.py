"""Real buckets on localhost: Google's by gcp-storage-emulator, S3 by moto's server, behind a proxy that injects faults.

Run a command against one, with every kind of fault at 2 % of the requests:

    python -m benchmarks.faults.buckets gs --rate 0.02 --seed 1 -- visent tokenize folder photos/ --out gs://bucket/c

The proxy is always between, also without faults: servers for tests keep what a killed client began to send; buckets
do not, and neither does the proxy.
"""

import argparse
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from benchmarks.faults.proxy import Fault, Proxy, each

Scheme = Literal["gs", "s3"]
NAME = "bucket"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An empty bucket: its URL, what clients need in their environment, and the proxy before it."""

    url: str
    environment: Mapping[str, str]
    proxy: Proxy


@contextlib.contextmanager
def bucket(scheme: Scheme, faults: Sequence[Fault] = (), seed: int = 0) -> Iterator[Bucket]:
    """Serves an empty bucket while the block lasts; give `environment` to the processes that use it."""
    serve = {"gs": _google, "s3": _amazon}[scheme]
    with serve() as upstream, Proxy(upstream, faults, seed) as proxy:
        variables = {"gs": _google_variables, "s3": _amazon_variables}[scheme](proxy.address)
        yield Bucket(url=f"{scheme}://{NAME}", environment=variables, proxy=proxy)


@contextlib.contextmanager
def here(served: Bucket) -> Iterator[str]:
    """Lets this process and those that it starts use the bucket, and yields its URL."""
    before = {name: os.environ.get(name) for name in served.environment}
    os.environ.update(served.environment)
    _forget_clients()
    try:
        yield served.url
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _forget_clients()


def _forget_clients() -> None:
    """Drops file systems that were made for another address."""
    import fsspec

    for protocol in ("gs", "s3"):
        with contextlib.suppress(ImportError):
            fsspec.get_filesystem_class(protocol).clear_instance_cache()


def _google_variables(address: str) -> dict[str, str]:
    return {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs
        "TENSORSTORE_GCS_HTTP_URL": address,  # orbax
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # the emulator knows no gRPC
        "GOOGLE_CLOUD_PROJECT": "test",
        "GCE_METADATA_ROOT": "127.0.0.1:1",  # nobody is asked for credentials
    }


def _amazon_variables(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def _google() -> Iterator[str]:
    from gcp_storage_emulator.handlers import objects
    from gcp_storage_emulator.server import create_server

    for name in ("gcp_storage_emulator", "api.object"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    download = objects.download
    objects.download = _with_generation(download)
    server: Any = create_server("127.0.0.1", 0, in_memory=True, default_bucket=NAME)
    server.start()
    try:
        yield f"http://127.0.0.1:{server._api._httpd.server_address[1]}"
    finally:
        server.stop()
        objects.download = download


def _with_generation(download: Any) -> Any:
    """Google's answers name the generation of what they hold, and tensorstore relies on it; the emulator's do not."""
    from gcp_storage_emulator.exceptions import NotFound

    def answer(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> Any:
        place = (request.params["bucket_name"], request.params["object_id"])
        with contextlib.suppress(NotFound):
            response["x-goog-generation"] = storage.get_file_obj(*place)["generation"]
        return download(request, response, storage, *args, **kwargs)

    return answer


@contextlib.contextmanager
def _amazon() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        _reset_amazon(address)
        yield address
    finally:
        server.stop()


def _reset_amazon(address: str) -> None:
    """Makes the bucket; what an earlier server of this process held is dropped."""
    from urllib.request import Request, urlopen

    for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{NAME}")):
        urlopen(Request(f"{address}{path}", method=method, data=b""), timeout=60).close()


def main() -> int:
    """Runs a command with a bucket in its environment and says what its requests met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scheme", choices=get_args(Scheme))
    parser.add_argument("--rate", type=float, default=0.0, help="each kind of fault at this share of the requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="after --")
    chosen = parser.parse_args()
    command = [part for at, part in enumerate(chosen.command) if at or part != "--"]
    with bucket(chosen.scheme, each(chosen.rate) if chosen.rate else (), chosen.seed) as served:
        code = subprocess.run(command, env={**os.environ, **served.environment}, check=False).returncode
        for operation, count in sorted(served.proxy.requests.items()):
            met = {kind: many for (one, kind), many in sorted(served.proxy.injected.items()) if one == operation}
            print(f"{operation}: {count} requests, {met or 'no fault'}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
