//! Which of a session's calls may be given to its sandbox now.
//!
//! Each thread of a session is a line of its own, in the order in which its calls were made: calls that only
//! look go side by side, and one that may change something goes alone, after all before it and before all
//! behind it. So nothing is seen that would not be seen if the calls ran one after the other. Different
//! threads do not wait for each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{CallId, ThreadId};

/// What a call shares its line with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The thread that made it; none for the primary one.
    pub thread: Option<ThreadId>,
    /// Whether it only looks.
    pub reads: bool,
}

/// The calls that wait and those that run.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    waiting: VecDeque<(CallId, Place)>,
    running: BTreeMap<CallId, Place>,
}

impl Schedule {
    /// A call gets in line.
    pub fn wait(&mut self, call: CallId, place: Place) {
        self.waiting.push_back((call, place));
    }

    /// A call is over, or will never run.
    pub fn leave(&mut self, call: &CallId) {
        if self.running.remove(call).is_none() {
            self.waiting.retain(|(waiting, _)| waiting != call);
        }
    }

    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// The next call that may run, which does from now on. At most `limit` run at once.
    pub fn next(&mut self, limit: usize) -> Option<CallId> {
        if self.running.len() >= limit {
            return None;
        }
        let mut held = BTreeSet::new();
        let at = self.waiting.iter().position(|(_, place)| {
            let free = !held.contains(&place.thread) && self.admits(place);
            if !free {
                held.insert(place.thread.clone());
            }
            free
        })?;
        let (call, place) = self.waiting.remove(at)?;
        self.running.insert(call.clone(), place);
        Some(call)
    }

    /// Whether a call would run beside no other that it must wait for.
    fn admits(&self, place: &Place) -> bool {
        let beside = |other: &&Place| other.thread == place.thread && !(other.reads && place.reads);
        !self.running.values().any(|other| beside(&other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(thread: u8, reads: bool) -> Place {
        let thread = (thread > 0).then(|| ThreadId::from(format!("t{thread}")));
        Place { thread, reads }
    }

    fn running(schedule: &mut Schedule) -> Vec<String> {
        std::iter::from_fn(|| schedule.next(8)).map(|call| call.to_string()).collect()
    }

    #[test]
    fn readers_go_side_by_side_and_a_writer_alone() {
        let mut schedule = Schedule::default();
        for (call, reads) in [("r1", true), ("r2", true), ("w", false), ("r3", true)] {
            schedule.wait(call.into(), place(0, reads));
        }
        schedule.wait("other".into(), place(1, false));
        assert_eq!(running(&mut schedule), ["r1", "r2", "other"]);
        schedule.leave(&"r1".into());
        assert!(running(&mut schedule).is_empty());
        schedule.leave(&"r2".into());
        assert_eq!(running(&mut schedule), ["w"]);
        schedule.leave(&"w".into());
        assert_eq!(running(&mut schedule), ["r3"]);
    }

    #[test]
    fn one_that_leaves_the_line_holds_nobody_up() {
        let mut schedule = Schedule::default();
        schedule.wait("a".into(), place(0, false));
        schedule.wait("b".into(), place(0, false));
        schedule.wait("c".into(), place(0, false));
        assert_eq!(running(&mut schedule), ["a"]);
        schedule.leave(&"b".into());
        schedule.leave(&"a".into());
        assert_eq!(running(&mut schedule), ["c"]);
    }

    proptest! {
        /// Whatever comes and goes: the limit holds, a writer never shares its thread, within a thread nobody
        /// overtakes a writer or is overtaken by one, and at the end everything has run once.
        #[test]
        fn property_a_thread_looks_serial(calls in prop::collection::vec((0u8..3, any::<bool>()), 0..40), limit in 1usize..5, pick in any::<u64>()) {
            let mut schedule = Schedule::default();
            for (number, (thread, reads)) in calls.iter().enumerate() {
                schedule.wait(CallId::from(format!("{number}")), place(*thread, *reads));
            }
            let (mut live, mut done, mut pick) = (Vec::<usize>::new(), BTreeSet::new(), pick);
            loop {
                while let Some(call) = schedule.next(limit) {
                    let number: usize = call.as_str().parse().unwrap();
                    let (thread, reads) = calls[number];
                    for (before, (of, looks)) in calls.iter().enumerate().take(number) {
                        prop_assert!(*of != thread || (*looks && reads) || done.contains(&before), "{before} must be over before {number}");
                    }
                    live.push(number);
                }
                prop_assert!(live.len() <= limit);
                prop_assert_eq!(schedule.is_running(), !live.is_empty());
                if live.is_empty() {
                    break;
                }
                pick = pick.rotate_left(7) ^ 0x9e37;
                let ended = live.swap_remove(usize::try_from(pick % live.len() as u64).unwrap());
                schedule.leave(&CallId::from(format!("{ended}")));
                prop_assert!(done.insert(ended), "it ran twice");
            }
            prop_assert_eq!(done.len(), calls.len(), "one never ran");
        }
    }
}
