"""The official Python client as an application uses it, from environment to archive.

Plays the tools itself: it answers every call, so no worker is needed.
"""

import os

import anthropic

client = anthropic.Anthropic()
beta = client.beta


def text(value):
    return [{"type": "text", "text": value}]


def message(value):
    return {"type": "user.message", "content": text(value)}


# Environments and agents, with their versions.
environment = beta.environments.create(name="apps", config={"type": "self_hosted"}, metadata={"team": "a"})
assert beta.environments.retrieve(environment.id).metadata == {"team": "a"}
assert beta.environments.update(environment.id, metadata={"team": "b"}).metadata == {"team": "b"}
assert environment.id in [found.id for found in beta.environments.list(limit=1)]
agent = beta.agents.create(
    name="coder",
    model="claude-opus-5-5",
    tools=[
        {
            "type": "agent_toolset_20260401",
            "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
        }
    ],
)
assert (agent.version, agent.model.id) == (1, "claude-opus-5-5")
agent = beta.agents.update(agent.id, version=1, system="be brief")
assert [version.version for version in beta.agents.versions.list(agent.id)] == [2, 1]
assert beta.agents.retrieve(agent.id, version=1).system is None

# A session: stream, confirm, answer.
session = beta.sessions.create(
    agent=agent.id, environment_id=environment.id, title="first", initial_events=[message("echo one")]
)
assert session.agent.version == 2 and session.resources == []
answered = set()


def serve(stream, until):
    """Answers calls until the turn ends for the reason `until`; the types seen."""
    seen = []
    for event in stream:
        seen.append(event.type)
        if event.type == "agent.tool_use" and event.id not in answered:
            assert event.evaluated_permission == "ask", event
            answer(event)
        if event.type == "session.status_idle" and event.stop_reason.type == until:
            return seen
    raise AssertionError(f"the stream ended after {seen}")


def answer(call):
    answered.add(call.id)
    allow = {"type": "user.tool_confirmation", "tool_use_id": call.id, "result": "allow"}
    result = {"type": "user.tool_result", "tool_use_id": call.id, "is_error": False, "content": text("one")}
    sent = beta.sessions.events.send(session.id, events=[allow, result])
    assert [event.type for event in sent.data] == ["user.tool_confirmation", "user.tool_result"]
    assert all(event.id and event.processed_at for event in sent.data)


with beta.sessions.events.stream(session.id) as stream:
    for event in beta.sessions.events.list(session.id, types=["agent.tool_use"]):
        answer(event)
    seen = serve(stream, "end_turn")
    assert "agent.message" in seen, seen

    # Pages join to the whole; the last thing said is the command's output.
    events = list(beta.sessions.events.list(session.id, limit=2))
    assert [event.id for event in reversed(events)] == [
        event.id for event in beta.sessions.events.list(session.id, order="desc")
    ]
    assert [event.content[0].text for event in events if event.type == "agent.message"] == ["one"]

    # An interrupt ends the turn and closes its call.
    beta.sessions.events.send(session.id, events=[message("sleep 100")])
    for event in stream:
        if event.type == "session.status_idle" and event.stop_reason.type == "requires_action":
            (call,) = event.stop_reason.event_ids
            break
    beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
    answered.add(call)
    assert "agent.tool_result" in serve(stream, "end_turn")

# Late results and unknown things are refused, with an id to ask about.
try:
    beta.sessions.events.send(
        session.id,
        events=[{"type": "user.tool_result", "tool_use_id": call, "content": text("late")}],
    )
    raise AssertionError("a late result was accepted")
except anthropic.BadRequestError as error:
    assert error.request_id and error.body["error"]["type"] == "invalid_request_error"
try:
    beta.sessions.retrieve("sesn_none")
    raise AssertionError("an unknown session was found")
except anthropic.NotFoundError as error:
    assert error.request_id
try:
    anthropic.Anthropic(api_key="sk-ant-api03-wrong").beta.sessions.retrieve(session.id)
    raise AssertionError("a wrong key was accepted")
except anthropic.AuthenticationError:
    pass

# Lists, changes, and the end.
assert [thread.parent_thread_id for thread in beta.sessions.threads.list(session.id)] == [None]
assert beta.sessions.update(session.id, title="second", metadata={"k": "v"}).title == "second"
assert [found.id for found in beta.sessions.list(agent_id=agent.id)] == [session.id]
assert beta.sessions.archive(session.id).status == "terminated"
assert beta.sessions.retrieve(session.id).archived_at
assert list(beta.sessions.list(agent_id=agent.id)) == []
assert beta.sessions.delete(session.id).type == "session_deleted"

# Memory: a path is taken once, and a change needs the hash it starts from.
store = beta.memory_stores.create(name="User Preferences")
memories = beta.memory_stores.memories
made = memories.create(memory_store_id=store.id, path="/notes/a.md", content="one")
guard = {"type": "content_sha256", "content_sha256": made.content_sha256}
changed = memories.update(made.id, memory_store_id=store.id, content="two", precondition=guard, view="full")
assert changed.content == "two" and changed.content_sha256 != made.content_sha256
for attempt in (
    lambda: memories.update(made.id, memory_store_id=store.id, content="three", precondition=guard),
    lambda: memories.create(memory_store_id=store.id, path="/notes", content="a directory"),
):
    try:
        attempt()
        raise AssertionError("a conflict was accepted")
    except anthropic.ConflictError:
        pass
assert [memory.path for memory in memories.list(store.id, path_prefix="/notes/")] == ["/notes/a.md"]

assert beta.agents.archive(agent.id).archived_at
# Its work item is still there for a worker, so the environment can only be archived.
assert beta.environments.archive(environment.id).archived_at
assert os.environ["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
print("ok")
