"""A real S3 server for tests, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

KEY_ID, SECRET = "test:tester", "testing"
BUCKET = "latchflow"


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where it is, and the keys that it knows."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> dict[str, str]:
        """For the provider."""
        return {"bucket": BUCKET, "endpointUrl": self.url, "accessKeyId": KEY_ID, "secretAccessKey": SECRET}

    def client(self) -> Any:
        """A client of the tests' own, to look behind the provider's back."""
        return AioSession().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            config=AioConfig(s3={"addressing_style": "path"}),
        )


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Start one with its data below a folder, and kill it at the end."""
    program = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", Path(__file__).with_name("s3_program.py"), folder],
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        try:
            assert program.stdout is not None
            port = program.stdout.readline().strip()
            assert port.isdecimal(), "the S3 server did not start; its standard error says why"
            yield S3Server(port=int(port))
        finally:
            program.kill()
