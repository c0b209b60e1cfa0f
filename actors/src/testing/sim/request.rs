//! One request of a tree to the world, as a plan sees it.

use std::time::Duration;

use super::Dice;
use crate::ids::CallId;

/// What a tree asks of the world. The names are those of the ports' methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after the method it stands for")]
pub enum Operation {
    Poll,
    Ack,
    Heartbeat,
    Stop,
    Session,
    Stream,
    History,
    Post,
    /// Not a request: one live event on its way to a tree.
    Event,
    Create,
    Find,
    List,
    Standby,
    Resume,
    Usage,
    Delete,
    Call,
    Cancel,
    Health,
    /// A call of a tool outside.
    Outside,
    Append,
    Shelve,
    Unshelve,
    Fit,
    Tend,
}

/// The port that an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// The control plane.
    Control,
    /// The provider.
    Provider,
    /// A sandbox's hand.
    Hand,
    /// A tool outside all sandboxes.
    Tool,
    /// The journal.
    Journal,
    /// The outfitter.
    Outfitter,
}

impl Operation {
    /// The port it belongs to.
    pub fn port(self) -> Port {
        use Operation as O;
        match self {
            O::Poll
            | O::Ack
            | O::Heartbeat
            | O::Stop
            | O::Session
            | O::Stream
            | O::History
            | O::Post
            | O::Event => Port::Control,
            O::Create | O::Find | O::List | O::Standby | O::Resume | O::Usage | O::Delete => Port::Provider,
            O::Call | O::Cancel | O::Health => Port::Hand,
            O::Outside => Port::Tool,
            O::Append | O::Shelve | O::Unshelve => Port::Journal,
            O::Fit | O::Tend => Port::Outfitter,
        }
    }
}

/// One request of a tree to the world.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// When it is made, since the beginning.
    pub at: Duration,
    /// Which host makes it, counted from 0.
    pub host: usize,
    /// Which life of that host, counted from 1.
    pub life: u32,
    /// What is asked.
    pub operation: Operation,
    /// How often this host has asked the same in this life, this time included.
    pub number: u64,
    /// The work item it is about, or for the provider and the hand the sandbox; empty if it is about none.
    pub subject: &'a str,
    /// The call it is about, if it is about one.
    pub call: Option<&'a CallId>,
    pub(super) seed: u64,
}

impl Request<'_> {
    /// Dice that fall alike for every request about the same subject.
    pub fn fortune(&self) -> Dice {
        Dice::new(self.seed, ("fortune", self.subject))
    }
}
