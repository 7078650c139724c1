"""`trivet init` and `trivet token`: a store whose processes are started one by one, on one host or on several.

`init` makes what all of them share and no process makes by itself: the cluster's id and secret, the root credentials,
the catalog. Storage nodes join later, each by itself (see cluster.announcement). It may be run at any time again, and
by several hosts: what is there stays; a catalog of an older release is brought up to date.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from catalog.engine import Catalog
from catalog.errors import CatalogError
from compose import credentials
from compose.catalog_place import catalog_of, describe
from compose.catalog_reach import COMMAND_WAIT_S, when_reached
from compose.data_dir import DataDir
from compose.founding import ID_BYTES, make_catalog, there_is_catalog
from compose.join_token import JoinToken, cluster_secret, given_token
from compose.refusal import StartRefused
from compose.settings import Settings

LOCK_WAIT_S = 5.0


def init_store(settings: Settings, environment: Mapping[str, str]) -> str:
    """What was done, for a person. Raises StartRefused."""
    data, where, token = DataDir(settings.data), catalog_of(settings), given_token(settings)
    credentials.from_environment(environment)  # half a pair is refused before anything is made
    lock = data.hold(LOCK_WAIT_S)
    try:
        there = asyncio.run(when_reached(lambda: there_is_catalog(where), where, COMMAND_WAIT_S))
        if there and token is None and not data.cluster_secret.exists():
            raise StartRefused(
                f"{describe(where)} is the catalog of a store whose secret is not in {data.root}: give its join token "
                "(TRIVET_JOIN_TOKEN_FILE, from `trivet token` where the store was made)"
            )
        # The secret first: a catalog without one would be of no use to anybody.
        if token is None:
            credentials.settle_cluster_secret(data)
        cluster_secret(settings)
        credentials.settle(data, environment)
        if not there:
            make_catalog(data, where, os.urandom(ID_BYTES) if token is None else token.cluster_id)
        _bring_up_to_date(settings)
    except CatalogError as refusal:
        raise StartRefused(str(refusal)) from refusal
    finally:
        os.close(lock)
    done = "is there" if there else "is made"
    return f"The store {done}: catalog {describe(where)}, credentials in {data.root}."


def join_token(settings: Settings) -> str:
    """The token for processes elsewhere. Raises StartRefused."""
    token = given_token(settings)
    if token is None:
        token = JoinToken(_cluster_id(settings), cluster_secret(settings))
    return token.render()


def _cluster_id(settings: Settings) -> bytes:
    from compose.wiring import opened_catalog

    async def read() -> bytes:
        async with opened_catalog(settings) as catalog:
            return (await catalog.meta()).cluster_id

    try:
        return asyncio.run(read())
    except CatalogError as refusal:
        raise StartRefused(str(refusal)) from refusal


def _bring_up_to_date(settings: Settings) -> None:
    """Raises CatalogError, StartRefused for a token of another store."""
    token = given_token(settings)

    async def migrate() -> None:
        # Only opened, which brings its schema up to date. Nothing is written, so whatever TRIVET_CATALOG_COPIES says
        # nothing is missing in the catalog's log (S17).
        catalog = Catalog.open(catalog_of(settings))
        await catalog.start()
        try:
            if token is not None and (await catalog.meta()).cluster_id != token.cluster_id:
                raise StartRefused(
                    f"the join token is not of the store whose catalog is {describe(catalog_of(settings))}"
                )
        finally:
            await catalog.close()

    asyncio.run(migrate())
