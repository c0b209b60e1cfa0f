// The official TypeScript client as an application uses it, from environment to archive.
//
// Plays the tools itself: it answers every call, so no worker is needed.

import assert from 'node:assert/strict';

const sdk = await import(`${process.env.OFFICIAL_NODE}/node_modules/@anthropic-ai/sdk/index.mjs`);
const { beta } = new sdk.default();

const text = (value) => [{ type: 'text', text: value }];
const message = (value) => ({ type: 'user.message', content: text(value) });
const all = async (pages) => {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
};

// Environments and agents, with their versions.
const environment = await beta.environments.create({ name: 'apps', config: { type: 'self_hosted' } });
assert((await all(beta.environments.list({ limit: 1 }))).some(({ id }) => id === environment.id));
let agent = await beta.agents.create({
  name: 'coder',
  model: 'claude-opus-5-5',
  tools: [
    {
      type: 'agent_toolset_20260401',
      configs: [{ name: 'bash', permission_policy: { type: 'always_ask' } }],
    },
  ],
});
agent = await beta.agents.update(agent.id, { version: 1, system: 'be brief' });
assert.deepEqual((await all(beta.agents.versions.list(agent.id))).map(({ version }) => version), [2, 1]);

// A session: stream, confirm, answer.
const session = await beta.sessions.create({
  agent: { type: 'agent', id: agent.id, version: 2 },
  environment_id: environment.id,
  initial_events: [message('echo one')],
});
const { events } = beta.sessions;
const answered = new Set();
const answer = async (call) => {
  answered.add(call.id);
  const sent = await events.send(session.id, {
    events: [
      { type: 'user.tool_confirmation', tool_use_id: call.id, result: 'allow' },
      { type: 'user.tool_result', tool_use_id: call.id, is_error: false, content: text('one') },
    ],
  });
  assert.deepEqual(sent.data.map(({ type }) => type), ['user.tool_confirmation', 'user.tool_result']);
};

const stream = await events.stream(session.id);
for (const call of await all(events.list(session.id, { types: ['agent.tool_use'] }))) await answer(call);
const frames = stream[Symbol.asyncIterator]();
const until = async (reason) => {
  const seen = [];
  for (;;) {
    const { value: event, done } = await frames.next();
    assert(!done, `the stream ended after ${seen}`);
    seen.push(event);
    if (event.type === 'agent.tool_use' && !answered.has(event.id) && reason === 'end_turn') await answer(event);
    if (event.type === 'session.status_idle' && event.stop_reason.type === reason) return seen;
  }
};
assert((await until('end_turn')).some(({ type }) => type === 'agent.message'));

// Pages join to the whole; the last thing said is the command's output.
const history = await all(events.list(session.id, { limit: 2 }));
const backwards = await all(events.list(session.id, { order: 'desc' }));
assert.deepEqual(history.map(({ id }) => id).reverse(), backwards.map(({ id }) => id));
const said = history.filter(({ type }) => type === 'agent.message');
assert.deepEqual(said.map(({ content }) => content[0].text), ['one']);

// An interrupt ends the turn and closes its call.
await events.send(session.id, { events: [message('sleep 100')] });
const [call] = (await until('requires_action')).at(-1).stop_reason.event_ids;
answered.add(call);
await events.send(session.id, { events: [{ type: 'user.interrupt' }] });
assert((await until('end_turn')).some(({ type }) => type === 'agent.tool_result'));
stream.controller.abort();

// Late results and unknown things are refused, with an id to ask about.
await assert.rejects(
  events.send(session.id, { events: [{ type: 'user.tool_result', tool_use_id: call, content: text('late') }] }),
  (error) => error instanceof sdk.BadRequestError && Boolean(error.requestID),
);
await assert.rejects(beta.sessions.retrieve('sesn_none'), sdk.NotFoundError);
await assert.rejects(
  new sdk.default({ apiKey: 'sk-ant-api03-wrong' }).beta.sessions.retrieve(session.id),
  sdk.AuthenticationError,
);

// Lists, changes, and the end.
assert.equal((await all(beta.sessions.threads.list(session.id))).length, 1);
assert.equal((await beta.sessions.update(session.id, { title: 'second' })).title, 'second');
assert.deepEqual((await all(beta.sessions.list({ agent_id: agent.id }))).map(({ id }) => id), [session.id]);
assert.equal((await beta.sessions.archive(session.id)).status, 'terminated');
assert.equal((await beta.sessions.delete(session.id)).type, 'session_deleted');
assert((await beta.agents.archive(agent.id)).archived_at);
assert((await beta.environments.archive(environment.id)).archived_at);
console.log('ok');
