"""The server that the verbs talk to, and how they talk to it."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx2

from latchflow.cli.app_root import find_app_root
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

_HOW_TO_NAME_IT = (
    "Set LATCHFLOW_API_URL and LATCHFLOW_TOKEN, or start `latchflow dev`, which leaves both in its data directory."
)
_SECONDS = 30.0


class Server:
    """The admin API of one deployment.

    Args:
        url: Its address.
        token: ``lfk_…``.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    def of(cls, settings: Settings) -> "Server":
        """The server that the environment names, else the stack of this application root.

        Raises:
            ConfigurationError: There is neither.
        """
        token = settings.token.get_secret_value()
        if settings.api_url and token:
            return cls(settings.api_url, token)
        if settings.api_url or token:
            missing = "LATCHFLOW_TOKEN" if settings.api_url else "LATCHFLOW_API_URL"
            raise ConfigurationError(f"{missing} is not set; both are needed. {_HOW_TO_NAME_IT}")
        profile = find_app_root(settings) / ".latchflow" / "profile.json"
        try:
            found = json.loads(profile.read_text(encoding="utf-8"))
            return cls(found["apiUrl"], found["token"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"There is no server to talk to: {profile} is not there. {_HOW_TO_NAME_IT}"
            ) from None

    def get(self, path: str) -> Any:
        """The answer to a GET. Raises ConfigurationError."""
        return self.call("GET", path)

    def items(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page. Raises ConfigurationError."""
        query = {"limit": "200", **query}
        while True:
            page = self.get(f"{path}?{urlencode(query)}")
            yield from page["items"]
            if page["nextCursor"] is None:
                return
            query["cursor"] = page["nextCursor"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of a call.

        Raises:
            ConfigurationError: The server cannot be reached, or refuses; the message is its own.
        """
        try:
            answer = httpx2.request(
                method, self._url + path, json=body, headers=self._headers, timeout=_SECONDS, trust_env=False
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise ConfigurationError(
                f"{self._url} does not answer: {reason}. Start it, or correct the address."
            ) from None
        if answer.is_success:
            return answer.json() if answer.content else None
        raise ConfigurationError(f"{self._url} answered {answer.status_code}: {_reason(answer)}")


def _reason(answer: httpx2.Response) -> str:
    try:
        problem = answer.json()
        faults = [f"{fault['pointer']}: {fault['detail']}" for fault in problem.get("errors", ())]
        return " ".join([problem["detail"], *faults])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.reason_phrase
