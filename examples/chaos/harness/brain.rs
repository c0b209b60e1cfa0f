//! The model of a session: gives calls by the round, and waits for every answer.
//!
//! Rounds differ by the dice, and so do the pauses between them: some sessions go on at once, some are frozen,
//! some lose their work item to idleness and come back to whichever remuda claims the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::SmallRng;
use remuda::emulator::{CallRequest, Resolved, SessionHandle, StopReason};
use remuda_actors::ids::CallId;
use serde_json::json;

use super::book::{Book, Deed, Given, Stranded};
use super::plan::{Fault, Plan};

/// Time between two looks at a session whose answer does not come.
const LOOK: Duration = Duration::from_secs(1);

/// Plays the model of one session.
pub(crate) struct Brain {
    /// The session.
    pub(crate) session: SessionHandle,
    /// Where its calls are entered.
    pub(crate) book: Arc<Book>,
    /// Its dice.
    pub(crate) dice: SmallRng,
    /// What tool calls may do to themselves.
    pub(crate) plan: Arc<Plan>,
    /// When the faults end. No round begins after that.
    pub(crate) until: Instant,
    /// When the answers must be there at the latest.
    pub(crate) deadline: Instant,
    /// Whether no turn runs.
    pub(crate) rests: bool,
}

/// A call that is about to be given.
struct Next {
    number: u64,
    deed: Deed,
    request: CallRequest,
}

impl Brain {
    /// Gives rounds until the faults end.
    pub(crate) async fn think(mut self) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..2_000))).await;
        while Instant::now() < self.until {
            self.round().await?;
            let pause = if self.dice.random_bool(0.5) {
                self.session.rest(StopReason::EndTurn)?;
                self.rests = true;
                self.dice.random_range(0..4_000)
            } else {
                self.dice.random_range(0..800)
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.session.rest(StopReason::EndTurn)?;
        Ok(())
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let calls = self.compose();
        let (at, round) = (Instant::now(), calls[0].number);
        if self.rests {
            self.session.message("go on")?;
            self.rests = false;
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..500))).await;
        }
        let ids = self.session.call(calls.iter().map(|call| call.request.clone()).collect())?;
        if self.dice.random_bool(0.06) {
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..1_500))).await;
            self.session.interrupt()?;
        }
        for (Next { number, deed, .. }, call) in calls.into_iter().zip(ids) {
            let resolved = self.resolved(&call, at).await?.map(|resolved| (resolved, Instant::now()));
            let session = self.session.id().clone();
            self.book.enter(Given { session, call, number, deed, round, at, resolved });
        }
        Ok(())
    }

    /// Waits for an answer. A session whose item was ended meanwhile is brought back as its application would do
    /// it: with another message.
    async fn resolved(&self, call: &CallId, at: Instant) -> anyhow::Result<Option<Resolved>> {
        while Instant::now() < self.deadline {
            if let Some(resolved) = self.session.wait_resolved(call, LOOK).await {
                return Ok(Some(resolved));
            }
            if self.session.live_work().is_none() {
                let session = self.session.id().clone();
                self.book.strand(Stranded { session, at, seen: Instant::now() });
                self.session.message("are you still there?")?;
            }
        }
        Ok(None)
    }

    fn compose(&mut self) -> Vec<Next> {
        let mut calls = vec![self.record()];
        match self.dice.random_range(0..10) {
            0..3 => calls.push(self.record()),
            3..6 => self.files(&mut calls),
            6 => calls.push(self.job()),
            7 => calls.push(self.search()),
            8 => calls.extend(self.greed()),
            _ => {
                self.files(&mut calls);
                let record = self.record();
                calls.push(record);
            }
        }
        calls
    }

    /// A command that writes down that it starts, takes a while, writes down that it ends, and answers with what
    /// nobody else can know.
    fn record(&mut self) -> Next {
        let number = self.book.number();
        let long = self.dice.random_bool(0.1);
        let millis: u32 = self.dice.random_range(if long { 2_000..5_000 } else { 0..900 });
        let after = format!("sleep {}.{:03}", millis / 1_000, millis % 1_000);
        bash(number, Deed::Record, &after, "")
    }

    /// A command that leaves a job behind.
    fn job(&mut self) -> Next {
        let number = self.book.number();
        let job = format!(
            "(for i in $(seq 12); do echo \"{number} job-$i $EPOCHREALTIME $r .\" >>/workspace/ledger; sleep 0.2; \
             done) >/dev/null 2>&1 &"
        );
        bash(number, Deed::Job, &job, "")
    }

    /// A command that looks for credentials with all that a tool can see.
    fn search(&mut self) -> Next {
        let number = self.book.number();
        let look = "found=$( (env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline; cat /workspace/* /tmp/*) 2>/dev/null \
                    | tr '\\0' '\\n' | grep -ac -e 'sk-an[t]-' -e 'ANTHROPI[C]'); true";
        bash(number, Deed::Search, look, " found=$found")
    }

    /// A file that is written, edited, read and searched. Whatever ran twice shows in it.
    fn files(&mut self, calls: &mut Vec<Next>) {
        let file = format!("notes-{}", self.book.number());
        let mut add = |name, input, deed| {
            calls.push(Next { number: self.book.number(), deed, request: CallRequest::tool(name, input) });
        };
        let write = json!({"file_path": file, "content": "END\n"});
        add("write", write, Deed::Fixed(format!("wrote 4 bytes to {file}")));
        let lines: Vec<String> =
            (0..self.dice.random_range(1..4)).map(|n| format!("{file} line {n}")).collect();
        for line in &lines {
            let edit =
                json!({"file_path": file, "old_string": "END\n", "new_string": format!("{line}\nEND\n")});
            add("edit", edit, Deed::Fixed(format!("edited {file} (1 replacement(s))")));
        }
        add("read", json!({"file_path": file}), Deed::Contains(lines.clone()));
        add("grep", json!({"pattern": "line", "path": file}), Deed::Contains(lines));
        add("glob", json!({"pattern": format!("{file}*")}), Deed::Contains(vec![file.clone()]));
    }

    /// A command that takes what it can get: processes until there are no more, or memory.
    fn greed(&mut self) -> Option<Next> {
        let bomb = "b() { [ $SECONDS -lt $e ] || return; b | b & }; e=$((SECONDS+2)); b; sleep 2.5; true";
        let hog = "head -c 400M /dev/zero | tail -c 400M | wc -c";
        let kinds = [(Fault::Pids, bomb), (Fault::Memory, hog)];
        let kinds: Vec<_> = kinds.into_iter().filter(|(kind, _)| self.plan.faults.contains(kind)).collect();
        if kinds.is_empty() {
            return None;
        }
        let (_, command) = kinds[self.dice.random_range(0..kinds.len())];
        let request = CallRequest::tool("bash", json!({"command": command, "timeout_ms": 8_000}));
        Some(Next { number: self.book.number(), deed: Deed::Greed, request })
    }
}

/// A command that keeps the ledger, with something in its middle and something more to say.
fn bash(number: u64, deed: Deed, middle: &str, more: &str) -> Next {
    let command = format!(
        "r=$RANDOM$RANDOM; {{ echo \"{number} start $EPOCHREALTIME $r .\" >>/workspace/ledger; }} && {{ {middle}\n}} && \
         {{ echo \"{number} end $EPOCHREALTIME $r .\" >>/workspace/ledger; }} && echo \"{number} $r{more}\" || \
         {{ echo \"{number} failed\"; false; }}"
    );
    Next { number, deed, request: CallRequest::tool("bash", json!({ "command": command })) }
}
