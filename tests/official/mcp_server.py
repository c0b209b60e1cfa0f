"""A server of the official Python package: `stdio`, or `http`, where it prints its port first."""

import asyncio
import os
import socket
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Image

server = MCPServer("tests")


@server.tool()
def add(a: int, b: int) -> str:
    return f"{a + b} by python"


@server.tool()
def picture() -> Image:
    return Image(data=b"\x89PNG", format="png")


@server.tool()
def fail() -> str:
    raise ValueError("no luck")


@server.tool()
async def slow() -> str:
    await asyncio.sleep(86400)
    return "late"


@server.tool()
def die() -> str:
    os._exit(3)


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
