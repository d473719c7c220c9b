"""Lists in pages: an opaque cursor leads from one page to the next."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta

from web.api.operation import Params, Problem

T = TypeVar("T")
C = TypeVar("C")

LIMIT_MAX: Final = 200
CURSOR_CHARS_MAX: Final = 400

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Most items on a page.")]
Cursor = Annotated[
    str, Meta(max_length=CURSOR_CHARS_MAX, description="`next_cursor` of the page before; leave it out for the first.")
]


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. ``next_cursor`` is null on the last page."""

    items: list[T]
    next_cursor: str | None


class PageParams(Params, frozen=True, kw_only=True):
    """The parameters of every list."""

    limit: Limit = 50
    cursor: Cursor | None = None


def paged(items: Sequence[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
    """Make a page of up to ``limit + 1`` items: the last one is not shown, it only tells that there is a next page.

    Args:
        items: up to ``limit + 1``, in order.
        key: where the list goes on after an item; anything that JSON can write.
    """
    shown = list(items[:limit])
    more = len(items) > limit
    return Page(items=shown, next_cursor=encoded(key(shown[-1])) if more else None)


def encoded(key: Any) -> str:
    """Write a place in a list as a cursor.

    >>> decoded(encoded("aud_1"), str)
    'aud_1'
    """
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decoded(cursor: str | None, kind: type[C]) -> C | None:
    """Read a cursor; None stays None.

    Raises: Problem: 400, it is none of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Problem(
            400, "Bad cursor", "Use `next_cursor` of the page before as it is, with the same other parameters."
        ) from None
