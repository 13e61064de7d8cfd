"""The page behind a release link: what can be downloaded, with a form for each. No script, nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from urllib.parse import quote

from fastapi import Response

from api.schemas.bundles import Release
from api.schemas.conventions import format_time

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.4rem;text-align:left;border-bottom:1px solid #ddd}"
    "td{overflow-wrap:anywhere}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

RELEASE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is the secret
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}
"""Of every answer about a link."""


def release_page(release: Release) -> Response:
    """The list of a page of objects."""
    rows = "".join(
        f"<tr><td>{escape(entry.path)}</td><td>{_size(entry.size)}</td><td>"
        # The form goes to the address of the page, so that the secret stands nowhere in it.
        '<form method="post"><button name="path" '
        f'value="{escape(entry.path)}">Download</button></form></td></tr>'
        for entry in release.objects.items
    )
    more = release.objects.next_cursor
    content = (
        f"<h1>{escape(release.name)}</h1><p>Until {format_time(release.expires_at)}</p>"
        f"<table><tr><th>File</th><th>Size</th><th></th></tr>{rows}</table>"
    )
    if more is not None:
        content += f'<p><a href="?cursor={quote(more)}" rel="noreferrer">More</a></p>'
    return _page(release.name, content)


def refusal_page(status: int, detail: str) -> Response:
    """Why a link opens nothing, for people."""
    return _page("Not available", f"<h1>Not available</h1><p>{escape(detail)}</p>", status)


def _page(title: str, content: str, status: int = 200) -> Response:
    document = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{content}</body></html>"
    )
    return Response(document, status, RELEASE_HEADERS, media_type="text/html")


def _size(size: int) -> str:
    amount, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
