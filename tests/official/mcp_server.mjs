// A server of the official TypeScript package, on standard input and output.

const modules = `${process.env.OFFICIAL_NODE}/node_modules`;
const sdk = `${modules}/@modelcontextprotocol/sdk/dist/esm/server`;
const { McpServer } = await import(`${sdk}/mcp.js`);
const { StdioServerTransport } = await import(`${sdk}/stdio.js`);
const { z } = await import(`${modules}/zod/index.js`);

const server = new McpServer({ name: 'tests', version: '1' });
const text = (value) => ({ content: [{ type: 'text', text: value }] });
const empty = { description: '', inputSchema: {} };
server.registerTool('add', { description: '', inputSchema: { a: z.number(), b: z.number() } }, async ({ a, b }) =>
  text(`${a + b} by typescript`),
);
server.registerTool('picture', empty, async () => ({
  content: [{ type: 'image', mimeType: 'image/png', data: Buffer.from('\x89PNG', 'latin1').toString('base64') }],
}));
server.registerTool('fail', empty, async () => {
  throw new Error('no luck');
});
server.registerTool('slow', empty, () => new Promise(() => {}));
server.registerTool('die', empty, () => process.exit(3));
await server.connect(new StdioServerTransport());
