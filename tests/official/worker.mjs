// The official TypeScript worker: `worker.mjs poll WORKDIR` serves a queue, `worker.mjs item WORKDIR` one item.
//
// Everything else comes from the ANTHROPIC_* variables, as it does in a deployment. The package is found under
// OFFICIAL_NODE, since it is not installed beside this file.

const { default: Anthropic } = await import(`${process.env.OFFICIAL_NODE}/node_modules/@anthropic-ai/sdk/index.mjs`);

// Long enough for the message that wakes an idle session, short enough not to be waited for.
const maxIdleMs = 600;
const [mode, workdir] = process.argv.slice(2);
const { work } = new Anthropic({ apiKey: null, authToken: null }).beta.environments;

if (mode === 'item') {
  await work.worker({ workdir, maxIdleMs }).handleItem();
} else {
  await work
    .worker({
      environmentId: process.env.ANTHROPIC_ENVIRONMENT_ID,
      environmentKey: process.env.ANTHROPIC_ENVIRONMENT_KEY,
      workdir,
      maxIdleMs,
    })
    .run();
}
