"""Lists of the API that come in pages; `comms find` and `comms suppressions list` read them."""

from collections.abc import Mapping
from typing import Any

from comms.client import ApiClient


def fetch_pages(
    client: ApiClient,
    path: str,
    query: Mapping[str, str | None],
    *,
    limit: int,
    cursor: str | None,
    page_size: int,
) -> tuple[list[Any], str | None]:
    """Fetch up to `limit` items, page by page.

    Returns:
        The items, and the cursor of the next ones; None if there are no more.

    Raises:
        ClientError: the API is unreachable or refuses the query.
    """
    items: list[Any] = []
    while True:
        count = str(min(page_size, limit - len(items)))
        page = client.get(path, {**query, "limit": count, "cursor": cursor})
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or len(items) >= limit:
            return items, cursor
