"""ETags: the version of a definition, and what `If-Match` says about it."""

import re
from typing import Annotated

from fastapi import Depends, Header, Response

from api.errors import PreconditionRequiredError
from latchflow.store.versions import Expected

_STRONG = re.compile(r'"(\d{1,9})"')


def set_etag(response: Response, version: int) -> None:
    """Name the version in the answer."""
    response.headers["ETag"] = f'"{version}"'


def _expected(
    if_match: Annotated[str | None, Header(description="The `ETag` that was read, or `*`.")] = None,
) -> Expected:
    if if_match is None:
        raise PreconditionRequiredError(
            "Send If-Match with the ETag of what you read, or * to overwrite whatever is there."
        )
    if if_match.strip() == "*":
        return None
    tags = (_STRONG.fullmatch(tag.strip()) for tag in if_match.split(","))
    return frozenset(int(tag[1]) for tag in tags if tag)


IfMatch = Annotated[Expected, Depends(_expected)]
"""The versions an ``If-Match`` header allows. A tag of any other form (a weak one too) matches nothing."""
