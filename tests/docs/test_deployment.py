"""The deployment of docs/deployment.md: one machine, then several hosts with a PostgreSQL."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.docs.terminal import perform
from tests.postgres import PostgresServer

FORWARD = """
import asyncio, sys

async def pump(reader, writer):
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    writer.close()

async def forward(reader, writer):
    there = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

async def main():
    async with await asyncio.start_server(forward, "10.0.0.10", 5432) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def test_what_the_page_says_can_be_done(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """The database server runs outside of the machine that the document gets; a forwarder stands at its address.

    Red when a host with a node alone is given a configuration that names the file with the database's password."""
    postgres_server.execute("CREATE DATABASE trivet TEMPLATE template0 ENCODING 'UTF8'")
    program = tmp_path / "forward.py"
    program.write_text(FORWARD)
    socket = postgres_server.folder / f".s.PGSQL.{postgres_server.port}"
    try:
        perform(
            "docs/deployment.md", tmp_path, needs=("curl",), before=f"{sys.executable} {program} {socket} &"
        )
    finally:
        postgres_server.execute("DROP DATABASE trivet WITH (FORCE)")
