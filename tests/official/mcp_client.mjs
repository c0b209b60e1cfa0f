// The official TypeScript client of MCP in a sandbox, over streamable HTTP or a bridge. Prints what it sees.

const sdk = `${process.env.OFFICIAL_NODE}/node_modules/@modelcontextprotocol/sdk/dist/esm`;
const { Client } = await import(`${sdk}/client/index.js`);
const { StdioClientTransport } = await import(`${sdk}/client/stdio.js`);
const { StreamableHTTPClientTransport } = await import(`${sdk}/client/streamableHttp.js`);

const { MCP_URL, MCP_TOKEN, MCP_COMMAND, WORKDIR } = process.env;
const [command, ...args] = (MCP_COMMAND ?? '').split(' ');
const transport = MCP_URL
  ? new StreamableHTTPClientTransport(new URL(MCP_URL), {
      requestInit: { headers: { authorization: `Bearer ${MCP_TOKEN}` } },
    })
  : new StdioClientTransport({ command, args });

const client = new Client({ name: 'tests', version: '1' });
await client.connect(transport);
console.log('server:', client.getServerVersion().name);
console.log('version:', MCP_URL ? transport.protocolVersion : '2025-11-25');
console.log('tools:', (await client.listTools()).tools.map(({ name }) => name).join(' '));

const shown = (block) => (block.type === 'text' ? block.text : `<${block.type} ${block.mimeType ?? ''}>`);
const call = async (name, given = {}) => {
  const result = await client.callTool({ name, arguments: given });
  // Times and folders differ.
  const text = result.content.map(shown).join(' | ').replace(/started \d+s ago/g, 'started').replaceAll(WORKDIR, 'WORKDIR');
  console.log(`${name}${result.isError ? ' (error)' : ''}:`, text.replaceAll('\n', ' / '));
};

await call('bash', { command: 'x=5; cd /; echo hello' });
await call('bash', { command: 'echo $x $PWD; (exit 3)' });
await call('write', { file_path: 'notes/a.txt', content: 'one\ntwo\n' });
await call('edit', { file_path: 'notes/a.txt', old_string: 'two', new_string: 'three' });
await call('read', { file_path: 'notes/a.txt' });
await call('read', { file_path: 'none.txt' });
await call('glob', { pattern: '**/*.txt' });
await call('grep', { pattern: 'th.ee' });
await call('bash', { command: `printf '\\x89PNG\\r\\n\\x1a\\n' > ${WORKDIR}/p.png` });
await call('read', { file_path: 'p.png' });
await call('list_files', { depth: 2 });
await call('process_start', { command: 'sleep 300' });
await call('process_list');
await call('process_stop', { name: 'p1' });
await client.callTool({ name: 'custom', arguments: {} }).then(
  () => console.log('custom: answered'),
  (error) => console.log('custom refused:', error.code),
);
// A call that is given up ends in the sandbox, too.
await client.callTool({ name: 'bash', arguments: { command: 'sleep 86399' } }, undefined, { timeout: 500 }).then(
  () => console.log('slow: answered'),
  () => console.log('slow: given up'),
);
await call('bash', { command: "while pgrep -f 'sleep 8639[9]' >/dev/null; do sleep 0.1; done; echo gone" });
if (MCP_URL) await transport.terminateSession();
await client.close();
