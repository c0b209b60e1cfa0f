//! What a demonstration prints while it runs: one line per thing that happens, in the order it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use remuda_actors::ids::{CallId, SessionId};
use remuda_actors::notice::Notice;
use serde_json::Value;

/// Longest piece of text on a line, in characters.
const WIDTH: usize = 88;

/// Lines of a result that are shown.
const LINES: usize = 4;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const BAD: Style = AnsiColor::Red.on_default();

/// One colour for each session.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// Turns events and notices into lines.
#[derive(Debug)]
pub(super) struct Transcript {
    begun: Instant,
    names: BTreeMap<SessionId, (String, Style)>,
    width: usize,
    took: BTreeMap<CallId, Duration>,
}

impl Transcript {
    pub(super) fn new(sessions: &[(SessionId, String)]) -> Self {
        let names = sessions.iter().zip(COLOURS.into_iter().cycle());
        let names = names.map(|((id, name), colour)| (id.clone(), (name.clone(), colour.on_default())));
        let width = sessions.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        Self { begun: Instant::now(), names: names.collect(), width, took: BTreeMap::new() }
    }

    /// Prints what the tree did.
    pub(super) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Claimed { session: Some(session), .. } => self.line(session, "claimed", DIM, ""),
            Notice::Sandbox { session, from, to, took, .. } => {
                let (state, rest) = (format!("sandbox {to}"), format!("after {} {from}", short(*took)));
                // What lasts no time is told by the calls themselves.
                if !matches!((*from, *to), ("ready", "busy") | ("busy", "ready")) {
                    self.line(session, &state, DIM, &rest);
                }
            }
            Notice::CallFinished { call, took, .. } => {
                self.took.insert(call.clone(), *took);
            }
            Notice::Ended { session: Some(session), outcome, reason, .. } => {
                let style =
                    if *outcome == remuda_actors::session::end::Outcome::Finished { DIM } else { BAD };
                self.line(session, "released", style, reason);
            }
            Notice::SandboxUnavailable { session, reason } | Notice::PostRefused { session, reason, .. } => {
                self.line(session, "trouble", BAD, reason);
            }
            Notice::Failed { cause, .. } => anstream::println!("{BAD}an actor failed: {cause}{BAD:#}"),
            Notice::Illegal { what } => anstream::println!("{BAD}{what}{BAD:#}"),
            _ => {}
        }
    }

    /// Prints what the control plane saw.
    pub(super) fn event(&mut self, session: &SessionId, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            "user.message" => self.line(session, "user", BOLD, &content(event)),
            "agent.message" => self.line(session, "agent", BOLD, &content(event)),
            "agent.tool_use" => {
                let gate = match event["evaluated_permission"].as_str() {
                    Some("ask") => "  (asks first)",
                    _ => "",
                };
                let what = format!("{}{gate}", arguments(&event["input"]));
                self.line(session, &text(&event["name"]), Style::new(), &what);
            }
            "user.tool_confirmation" => {
                let verdict = format!("{}ed", text(&event["result"])).replace("denyed", "denied");
                self.line(session, &verdict, BOLD, &text(&event["deny_message"]));
            }
            "user.tool_result" | "agent.tool_result" => {
                let call = CallId::from(text(&event["tool_use_id"]));
                let took = self.took.remove(&call).map(short).unwrap_or_default();
                let failed = event["is_error"].as_bool().unwrap_or(false);
                let style = if failed { BAD } else { DIM };
                let shown = content(event);
                let mark = if failed { "✗" } else { "→" };
                self.line(session, &format!("  {mark} {took}"), style, &shown);
            }
            _ => {}
        }
    }

    fn line(&self, session: &SessionId, what: &str, style: Style, rest: &str) {
        let Some((name, colour)) = self.names.get(session) else { return };
        let at = format!("{:7.3}s", self.begun.elapsed().as_secs_f64());
        let width = self.width;
        let mut lines = rest.lines().filter(|line| !line.trim().is_empty());
        let first = clip(lines.next().unwrap_or_default());
        anstream::println!(
            "{DIM}{at}{DIM:#}  {colour}{name:width$}{colour:#}  {style}{what:<18}{style:#} {first}"
        );
        let indent = at.len() + 2 + width + 2 + 18;
        let rest: Vec<&str> = lines.collect();
        for line in rest.iter().take(LINES) {
            anstream::println!("{:indent$} {}", "", clip(line));
        }
        if rest.len() > LINES {
            anstream::println!("{:indent$} {DIM}… {} more lines{DIM:#}", "", rest.len() - LINES);
        }
    }
}

/// A duration as a person would say it.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{:.2} ms", seconds * 1e3),
    }
}

fn clip(text: &str) -> String {
    let clipped: String = text.chars().take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(WIDTH).is_some() { format!("{clipped}…") } else { clipped }
}

/// The text of an event's blocks.
fn content(event: &Value) -> String {
    let blocks = event["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().map(|block| match block["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", block["type"].as_str().unwrap_or("block")),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The arguments of a call: the command alone, or each by its name.
fn arguments(input: &Value) -> String {
    if let Some(command) = input["command"].as_str() {
        return command.to_owned();
    }
    let mut shown = String::new();
    for (name, value) in input.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        };
        let _ = write!(shown, "{}{name}={value}", if shown.is_empty() { "" } else { "  " });
    }
    shown
}
