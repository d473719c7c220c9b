"""How far back the newest documents of a collection reach: a bound on what is counted, said as a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pymongo.asynchronous.collection import AsyncCollection

from storage.database import Document

TICK: Final = timedelta(milliseconds=1)
"""The store keeps moments to the millisecond."""


async def newest_since(
    collection: AsyncCollection[Document], by: str, since: datetime, count_max: int, *, query_ms_max: int
) -> datetime:
    """The moment from which on there are no more documents than that, as they lie in the store now.

    Args:
        by: the field with the moment of a document; there is an index that begins with it.
        since: no earlier than this.
        count_max: documents counted at most, >= 1.
    Returns: ``since``, where there are no more since then.
    """
    cursor = collection.find({by: {"$gte": since}}, {"_id": False, by: True}, max_time_ms=query_ms_max)
    beyond = await cursor.sort(by, -1).skip(count_max).limit(1).to_list()
    return beyond[0][by] + TICK if beyond else since
