"""`python -m tests.benchmarks.distance PORT MS`: a server that is further away.

Listens on a free port, prints it, and passes bytes on to PORT of this machine, each so many milliseconds late in either
direction; in order, and as many as come.
"""

from __future__ import annotations

import asyncio
import sys

SIZE = 1 << 18


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
    """One direction of one connection, to its end."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(SIZE):
        loop.call_later(late_s, writer.write, data)
    loop.call_later(late_s, writer.close)


async def serve(port: int, late_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port, limit=SIZE)
        await asyncio.gather(carry(reader, back, late_s), carry(there, writer, late_s), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=SIZE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
