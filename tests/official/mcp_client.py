"""The official Python client of MCP in a sandbox, over streamable HTTP or a bridge. Prints what it sees."""

import asyncio
import os
import re

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


def shown(block):
    kind = block.type
    return block.text if kind == "text" else f"<{kind} {getattr(block, 'mime_type', '')}>"


async def play(server):
    async with Client(server) as client:
        print("server:", client.server_info.name)
        print("version:", client.protocol_version)
        tools = (await client.list_tools()).tools
        print("tools:", " ".join(tool.name for tool in tools))

        async def call(name, /, **arguments):
            result = await client.call_tool(name, arguments)
            text = " | ".join(shown(block) for block in result.content)
            # Times and folders differ.
            text = re.sub(r"started \d+s ago", "started", text).replace(os.environ["WORKDIR"], "WORKDIR")
            print(f"{name}{' (error)' if result.is_error else ''}:", text.replace("\n", " / "))

        await call("bash", command="x=5; cd /; echo hello")
        await call("bash", command="echo $x $PWD; (exit 3)")
        await call("write", file_path="notes/a.txt", content="one\ntwo\n")
        await call("edit", file_path="notes/a.txt", old_string="two", new_string="three")
        await call("read", file_path="notes/a.txt")
        await call("read", file_path="none.txt")
        await call("glob", pattern="**/*.txt")
        await call("grep", pattern="th.ee")
        await call("bash", command="printf '\\x89PNG\\r\\n\\x1a\\n' > " + os.environ["WORKDIR"] + "/p.png")
        await call("read", file_path="p.png")
        await call("list_files", depth=2)
        await call("process_start", command="sleep 300")
        await call("process_list")
        await call("process_stop", name="p1")
        try:
            await client.call_tool("custom", {})
            print("custom: answered")
        except MCPError as error:
            print("custom refused:", error.error.code)
        # A call that is given up ends in the sandbox, too.
        try:
            await client.call_tool("bash", {"command": "sleep 86399"}, read_timeout_seconds=0.5)
            print("slow: answered")
        except MCPError:
            print("slow: given up")
        await call("bash", command="while pgrep -f 'sleep 8639[9]' >/dev/null; do sleep 0.1; done; echo gone")


async def main():
    if "MCP_URL" in os.environ:
        headers = {"authorization": f"Bearer {os.environ['MCP_TOKEN']}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            await play(streamable_http_client(os.environ["MCP_URL"], http_client=http))
    else:
        command, *arguments = os.environ["MCP_COMMAND"].split(" ")
        await play(StdioServerParameters(command=command, args=arguments))


asyncio.run(main())
