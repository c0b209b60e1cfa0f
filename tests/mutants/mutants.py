"""The mutants: ways in which the tree could be wrong.

Each names what is broken, where, and the plans that are to catch it. `before` stands in the file exactly once;
`after` takes its place in a copy of the tree, where `crate::mutant("name")` says whether this one is meant. The
product itself knows nothing of all this.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    what: str
    plans: list[str]
    changes: list[tuple[str, str, str]]  # file below actors/src, before, after


MUTANTS = [
    Mutant(
        "no-fence",
        "the lease is not looked at before a post, a stop or a call",
        ["clock-jumps"],
        [("ledger.rs", "if is_over {", 'if is_over && !crate::mutant("no-fence") {')],
    ),
    Mutant(
        "no-expiry",
        "a lease that got no beat for a whole TTL is kept",
        ["lease-expired"],
        [
            (
                "session/lease.rs",
                "E::Expired { number }) if chain.expiry == number => {",
                'E::Expired { number }) if chain.expiry == number && !crate::mutant("no-expiry") => {',
            ),
            (
                "ledger.rs",
                "        let memory = self.memory();\n        let is_over = memory",
                '        if crate::mutant("no-expiry") { return Ok(()); }\n'
                "        let memory = self.memory();\n        let is_over = memory",
            ),
        ],
    ),
    Mutant(
        "stop-after-loss",
        "an item is stopped when its lease was lost",
        ["lease-taken"],
        [
            (
                "session/lease.rs",
                "    effects.push(Effect::Ended(Ending::Lost(loss)));\n    over(effects)",
                "    effects.push(Effect::Ended(Ending::Lost(loss)));\n"
                '    if crate::mutant("stop-after-loss") { effects.push(Effect::Stop); }\n    over(effects)',
            ),
        ],
    ),
    Mutant(
        "take-up-anything",
        "any token that the server names is taken for our own lost one",
        ["lease-taken"],
        [
            (
                "session/lease.rs",
                "let may_be_ours = chain.failures > 0",
                'let may_be_ours = (chain.failures > 0 || crate::mutant("take-up-anything"))',
            )
        ],
    ),
    Mutant(
        "post-twice",
        "an answer that was accepted is posted again",
        ["calm"],
        [
            (
                "session/requests.rs",
                "    let call = answer.call;\n    match posted {",
                '    if posted.is_ok() && crate::mutant("post-twice") {\n'
                "        let _ = control(within, context.ports.control.post(&entry.item, &answer)).await;\n    }\n"
                "    let call = answer.call;\n    match posted {",
            )
        ],
    ),
    Mutant(
        "failed-listing-is-empty",
        "a listing that failed counts as an empty one",
        ["no-listings"],
        [
            (
                "reaper/actor.rs",
                "        Err(error) => {\n            tracing::warn!",
                '        Err(_) if crate::mutant("failed-listing-is-empty") => Vec::new(),\n'
                "        Err(error) => {\n            tracing::warn!",
            )
        ],
    ),
    Mutant(
        "failed-history-is-empty",
        "a history that cannot be read counts as an empty one",
        ["control-5xx"],
        [
            (
                "session/requests.rs",
                "control(deadlines.history, context.ports.control.history(&entry.item)).await?;",
                "match control(deadlines.history, context.ports.control.history(&entry.item)).await {\n"
                '            Err(_) if crate::mutant("failed-history-is-empty") => Vec::new(),\n'
                "            read => read?,\n        };",
            )
        ],
    ),
    Mutant(
        "skip-abandoning",
        "a create that nobody wants any more is forgotten instead of undone",
        ["stop-asked"],
        [
            (
                "sandbox/lifecycle/ending.rs",
                "(S::Creating { .. }, _) => self.state = S::Abandoning,",
                '(S::Creating { .. }, _) if crate::mutant("skip-abandoning") => self.gone(effects),\n'
                "            (S::Creating { .. }, _) => self.state = S::Abandoning,",
            )
        ],
    ),
    Mutant(
        "parked-for-anyone",
        "a parked sandbox is given to whichever session comes next",
        ["calm"],
        [
            (
                "herd/shelf.rs",
                "        self.parked.remove(session).map(",
                '        let any = self.parked.keys().next().filter(|_| crate::mutant("parked-for-anyone")).cloned();\n'
                "        self.parked.remove(any.as_ref().unwrap_or(session)).map(",
            )
        ],
    ),
    Mutant(
        "rerun-lost-calls",
        "a call whose sandbox was lost is run again in the next one, whatever it may have done",
        ["sandboxes-vanish"],
        [
            (
                "sandbox/calls.rs",
                "let kept = !entry.is_given() ||",
                'let kept = !entry.is_given() || crate::mutant("rerun-lost-calls") ||',
            )
        ],
    ),
    Mutant(
        "rerun-after-restart",
        "after a restart calls are run again that an earlier process had started",
        ["reboots"],
        [
            (
                "sandbox/actor.rs",
                "let given = self.entry.call_sandbox(&id);",
                'let given = self.entry.call_sandbox(&id).filter(|_| !crate::mutant("rerun-after-restart"));',
            )
        ],
    ),
    Mutant(
        "start-unwritten",
        "a call is started without its start being written down first",
        ["reboots"],
        [
            (
                "sandbox/requests.rs",
                "if !about.entry.is_call_written(call) {",
                'if !about.entry.is_call_written(call) && !crate::mutant("start-unwritten") {',
            )
        ],
    ),
    Mutant(
        "beats-unwritten",
        "accepted beats are not written down",
        ["killed-writing"],
        [("session/requests.rs", "if beat.extended {", 'if beat.extended && !crate::mutant("beats-unwritten") {')],
    ),
    Mutant(
        "old-token",
        "the next beat echoes the token before the last",
        ["calm"],
        [
            (
                "session/lease.rs",
                "    Lease::Resting(Chain { token: Some(beat.token), failures: 0, number, ttl, expiry, standing })",
                '    let token = if crate::mutant("old-token") { chain.token } else { Some(beat.token) };\n'
                "    Lease::Resting(Chain { token, failures: 0, number, ttl, expiry, standing })",
            )
        ],
    ),
    Mutant(
        "no-ack",
        "items are not acknowledged",
        ["calm"],
        [
            (
                "session/requests.rs",
                "control(context.settings.deadlines.ack, context.ports.control.ack(item)).await;",
                'if crate::mutant("no-ack") { Ok(()) } else { control(context.settings.deadlines.ack, '
                "context.ports.control.ack(item)).await };",
            )
        ],
    ),
    Mutant(
        "reap-strangers",
        "the reaper does not look at the owner",
        ["bad-listings"],
        [
            (
                "reaper/plan.rs",
                "sandbox.owner == *owner &&",
                '(sandbox.owner == *owner || crate::mutant("reap-strangers")) &&',
            )
        ],
    ),
    Mutant(
        "reap-owned",
        "the reaper does not ask who holds a sandbox",
        ["bad-listings"],
        [
            (
                "reaper/plan.rs",
                "&& !is_owned(&sandbox.id)",
                '&& (!is_owned(&sandbox.id) || crate::mutant("reap-owned"))',
            ),
            (
                "reaper/actor.rs",
                "if !context.owns(&sandbox) {",
                'if !context.owns(&sandbox) || crate::mutant("reap-owned") {',
            ),
        ],
    ),
    Mutant(
        "no-reaper",
        "nobody looks for what crashes left behind",
        ["killed"],
        [
            (
                "reaper/actor.rs",
                "                    sweep(&context).await;",
                '                    if !crate::mutant("no-reaper") { sweep(&context).await; }',
            )
        ],
    ),
    Mutant(
        "unbounded-starts",
        "any number of sandboxes is created at once",
        ["stop-asked"],
        [
            (
                "context.rs",
                "        let _start = self.admission.start().await;",
                '        let _start = if crate::mutant("unbounded-starts") { None } else '
                "{ Some(self.admission.start().await) };",
            )
        ],
    ),
    Mutant(
        "credential-inside",
        "the item's credential is among what a sandbox is made from",
        ["calm"],
        [
            (
                "sandbox/requests.rs",
                "let (image, limits) = (route.image.clone(), route.limits.clone());",
                "let leak = about.entry.item.credential.as_ref().map(|secret| secret.expose().into());\n"
                '    let image = leak.filter(|_| crate::mutant("credential-inside")).or_else(|| route.image.clone());\n'
                "    let limits = route.limits.clone();",
            )
        ],
    ),
    Mutant(
        "parallel-writers",
        "any number of a session's calls runs at once",
        ["calm"],
        [
            (
                "session/run.rs",
                "self.schedule.next(policy.parallel_calls)",
                'self.schedule.next(if crate::mutant("parallel-writers") { usize::MAX } else { policy.parallel_calls })',
            ),
            (
                "session/schedule.rs",
                "        !self.running.values().any(|other| beside(&other))",
                '        crate::mutant("parallel-writers") || !self.running.values().any(|other| beside(&other))',
            ),
        ],
    ),
    Mutant(
        "intent-unheard",
        "a sandbox is used though nobody knows whether that was written down",
        ["killed-writing", "journal-slow", "everything"],
        [
            (
                "sandbox/requests.rs",
                "if !about.entry.is_sandbox_written() {",
                'if !about.entry.is_sandbox_written() && !crate::mutant("intent-unheard") {',
            ),
        ],
    ),
    Mutant(
        "late-acks",
        "an item is acknowledged however long ago it was offered",
        ["claims-late", "everything"],
        [
            (
                "session/requests.rs",
                "    if entry.is_reserved(Instant::now()) {",
                '    if entry.is_reserved(Instant::now()) || crate::mutant("late-acks") {',
            )
        ],
    ),
    Mutant(
        "ask-outside-again",
        "after a restart a tool outside is asked again for what it was asked for before",
        ["tools-reboots"],
        [
            (
                "session/outside.rs",
                "    if entry.is_call_written(call) {",
                '    if entry.is_call_written(call) && !crate::mutant("ask-outside-again") {',
            )
        ],
    ),
    Mutant(
        "ask-outside-unwritten",
        "a tool outside is asked before that is written down",
        ["tools-reboots"],
        [
            (
                "session/outside.rs",
                "    let written = context.record(&entry.item.id, Record::CallStarted",
                '    if crate::mutant("ask-outside-unwritten") { entry.write_call(call); return Ok(()); }\n'
                "    let written = context.record(&entry.item.id, Record::CallStarted",
            )
        ],
    ),
]
