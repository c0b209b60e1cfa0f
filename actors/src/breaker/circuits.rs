//! The circuits of a provider: one for creating, one for each image that fails, and one for resuming.
//!
//! # What a failed create counts against
//! One with an image counts against that image. It counts against creating as such, too, once two different
//! images have failed, or something without an image has, with no success in between: one bad image is its
//! own fault, several are the provider's. A create that succeeds clears creating and its image. The probe of
//! half-open creating decides about it whatever its image.
//!
//! # Why resuming has its own
//! A provider may well be able to wake what it holds and not to make anything new, say because a registry is
//! out of reach. A hundred thaws a second must not hide that, and that must not cost a sleeping sandbox its
//! thaw, since one that cannot be woken is given up with everything in it.
//!
//! # Invariants
//! - A create passes only if both its own circuit and its image's let it, and a probe that the one granted is
//!   given back when the other refuses.
//! - At most [`IMAGES`] images are watched. Failures of further ones count as failures without an image.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Breaker, Pass, Policy};

/// Images that are watched at a time, at most. Only those that have failed since they last worked are.
pub const IMAGES: usize = 256;

/// What a circuit is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circuit {
    /// Creating sandboxes.
    Create,
    /// Creating sandboxes of this image.
    Image(Arc<str>),
    /// Resuming sandboxes.
    Resume,
}

impl Circuit {
    /// What it lets pass or not, in one word.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create | Self::Image(_) => "create",
            Self::Resume => "resume",
        }
    }

    /// The image, if it is about one.
    pub fn image(&self) -> Option<&Arc<str>> {
        match self {
            Self::Create | Self::Resume => None,
            Self::Image(image) => Some(image),
        }
    }
}

/// A request that wants to pass.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// To create a sandbox.
    Create {
        /// The image it is to have, if one is named.
        image: Option<&'a Arc<str>>,
    },
    /// To resume one.
    Resume,
}

/// Leave for one request, from every circuit that it concerns.
#[derive(Clone, Debug)]
pub enum Passes {
    /// For a create: from that circuit, and from its image's if that is watched.
    Create(Pass, Option<(Arc<str>, Pass)>),
    /// For a resume.
    Resume(Pass),
}

impl Passes {
    fn image(&self) -> Option<&Arc<str>> {
        match self {
            Self::Create(_, image) => image.as_ref().map(|(image, _)| image),
            Self::Resume(_) => None,
        }
    }
}

/// Which circuit let a request not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The circuit.
    pub circuit: Circuit,
    /// How long to wait before the next try, at least.
    pub retry_after: Duration,
    /// How long it has been open.
    pub open_for: Duration,
    /// The last failure.
    pub reason: Arc<str>,
}

/// What a request came to, as far as circuits are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked.
    Succeeded,
    /// The provider could not do it.
    Failed(Arc<str>),
    /// It tells nothing about the provider.
    Neither,
}

/// A circuit changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub circuit: Circuit,
    /// The state it left.
    pub from: &'static str,
    /// The state it is in.
    pub to: &'static str,
}

/// Whom the failures since the last success speak against.
#[derive(Clone, Debug, Default)]
enum Suspect {
    #[default]
    Nobody,
    Image(Arc<str>),
    Everything,
}

/// The circuits of a provider.
#[derive(Clone, Debug, Default)]
pub struct Circuits {
    create: Breaker,
    /// Those that have failed since they last worked.
    images: BTreeMap<Arc<str>, Breaker>,
    resume: Breaker,
    suspect: Suspect,
}

impl Circuits {
    /// A request wants to pass. What changed is told even if it is refused.
    ///
    /// # Errors
    /// [`Refused`] if a circuit that it concerns is open.
    pub fn pass(
        &mut self,
        request: Request<'_>,
        now: Instant,
        policy: &Policy,
        changes: &mut Vec<Change>,
    ) -> Result<Passes, Refused> {
        let image = match request {
            Request::Create { image } => image,
            Request::Resume => None,
        };
        let before = self.names(image);
        let passed = match request {
            Request::Create { image } => self.pass_create(image, now),
            Request::Resume => match self.resume.pass(now) {
                Ok(pass) => Ok(Passes::Resume(pass)),
                Err(wait) => Err(refused(Circuit::Resume, &self.resume, wait, now)),
            },
        };
        self.changed(image, before, changes);
        passed.map_err(|refused| {
            // While a probe is under way nobody knows; it is soon enough after the shortest wait there is.
            let wait = Some(refused.retry_after).filter(|wait| !wait.is_zero());
            Refused { retry_after: wait.unwrap_or(policy.open.base), ..refused }
        })
    }

    /// A request that had passed has come to its end. `open_for` is as in [`Breaker::failed`].
    pub fn finish(
        &mut self,
        passes: Passes,
        outcome: &Outcome,
        now: Instant,
        policy: &Policy,
        mut open_for: impl FnMut(u32) -> Duration,
        changes: &mut Vec<Change>,
    ) {
        let watched = passes.image().cloned();
        let before = self.names(watched.as_ref());
        let mut settle = |breaker: &mut Breaker, pass| match outcome {
            Outcome::Succeeded => breaker.succeeded(pass),
            Outcome::Failed(reason) => breaker.failed(pass, reason, now, policy, &mut open_for),
            Outcome::Neither => breaker.dropped(pass, now),
        };
        match passes {
            Passes::Resume(pass) => settle(&mut self.resume, pass),
            Passes::Create(pass, image) => {
                if pass == Pass::Probe || self.concerns_all(image.as_ref(), outcome) {
                    settle(&mut self.create, pass);
                }
                if let Some((image, pass)) = image {
                    self.with_image(image, |breaker| settle(breaker, pass));
                }
            }
        }
        self.changed(watched.as_ref(), before, changes);
    }

    /// All circuits that have something to tell: those of the provider, and of images that have failed.
    pub fn all(&self) -> impl Iterator<Item = (Circuit, &Breaker)> {
        let images = self.images.iter().map(|(image, breaker)| (Circuit::Image(image.clone()), breaker));
        [(Circuit::Create, &self.create), (Circuit::Resume, &self.resume)].into_iter().chain(images)
    }

    fn pass_create(&mut self, image: Option<&Arc<str>>, now: Instant) -> Result<Passes, Refused> {
        let watched = image.filter(|image| self.images.contains_key(*image) || self.images.len() < IMAGES);
        let image = match watched {
            None => None,
            Some(image) => match self.images.get_mut(image).map(|breaker| (breaker.pass(now), breaker)) {
                Some((Err(wait), breaker)) => {
                    return Err(refused(Circuit::Image(image.clone()), breaker, wait, now));
                }
                Some((Ok(pass), _)) => Some((image.clone(), pass)),
                None => Some((image.clone(), Pass::Plain)),
            },
        };
        match self.create.pass(now) {
            Ok(pass) => Ok(Passes::Create(pass, image)),
            Err(wait) => {
                if let Some((image, pass)) = image {
                    self.with_image(image, |breaker| breaker.dropped(pass, now));
                }
                Err(refused(Circuit::Create, &self.create, wait, now))
            }
        }
    }

    /// Whether what a create came to speaks for or against all creates, and not just those of its image.
    fn concerns_all(&mut self, image: Option<&(Arc<str>, Pass)>, outcome: &Outcome) -> bool {
        self.suspect = match (&self.suspect, image, outcome) {
            (_, _, Outcome::Neither) => return false,
            (_, _, Outcome::Succeeded) => Suspect::Nobody,
            (Suspect::Nobody, Some((image, _)), Outcome::Failed(_)) => Suspect::Image(image.clone()),
            (Suspect::Image(before), Some((image, _)), Outcome::Failed(_)) if before == image => {
                return false;
            }
            (_, _, Outcome::Failed(_)) => Suspect::Everything,
        };
        !matches!(self.suspect, Suspect::Image(_))
    }

    /// Changes an image's circuit, and forgets it if it has nothing to tell any more.
    fn with_image(&mut self, image: Arc<str>, change: impl FnOnce(&mut Breaker)) {
        let mut breaker = self.images.remove(&image).unwrap_or_default();
        change(&mut breaker);
        if *breaker.state() != *Breaker::default().state() {
            self.images.insert(image, breaker);
        }
    }

    /// The states of the circuits that a request may change.
    fn names(&self, image: Option<&Arc<str>>) -> [&'static str; 3] {
        let image = image.and_then(|image| self.images.get(image));
        [self.create.name(), self.resume.name(), image.map_or("closed", Breaker::name)]
    }

    fn changed(&self, image: Option<&Arc<str>>, before: [&'static str; 3], changes: &mut Vec<Change>) {
        let image_of = || Circuit::Image(image.map_or_else(|| "".into(), Arc::clone));
        let circuits = [Circuit::Create, Circuit::Resume, image_of()];
        for ((circuit, from), to) in circuits.into_iter().zip(before).zip(self.names(image)) {
            if from != to {
                changes.push(Change { circuit, from, to });
            }
        }
    }
}

fn refused(circuit: Circuit, breaker: &Breaker, retry_after: Duration, now: Instant) -> Refused {
    let outage = breaker.outage();
    Refused {
        circuit,
        retry_after,
        open_for: outage.map_or(Duration::ZERO, |outage| now - outage.since),
        reason: outage.map_or_else(|| "".into(), |outage| Arc::clone(&outage.reason)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::breaker::State;

    const SECOND: Duration = Duration::from_secs(1);

    fn pass(circuits: &mut Circuits, image: Option<&str>, now: Instant) -> Result<Passes, Refused> {
        let image = image.map(Arc::from);
        circuits.pass(Request::Create { image: image.as_ref() }, now, &Policy::default(), &mut Vec::new())
    }

    fn finish(circuits: &mut Circuits, passes: Passes, outcome: &Outcome, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        circuits.finish(passes, outcome, now, &Policy::default(), |_| SECOND, &mut changes);
        changes
    }

    fn failed() -> Outcome {
        Outcome::Failed("no".into())
    }

    /// One request after the other, each of which fails.
    fn fail(circuits: &mut Circuits, images: &[Option<&str>], now: Instant) {
        for image in images {
            let passes = pass(circuits, *image, now).unwrap();
            finish(circuits, passes, &failed(), now);
        }
    }

    fn names(circuits: &Circuits) -> Vec<(Circuit, &'static str)> {
        circuits.all().map(|(circuit, breaker)| (circuit, breaker.name())).collect()
    }

    #[test]
    fn one_bad_image_is_its_own_fault() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        fail(&mut circuits, &[Some("a"); 5], now);
        let expected =
            [(Circuit::Create, "closed"), (Circuit::Resume, "closed"), (Circuit::Image("a".into()), "open")];
        assert_eq!(names(&circuits), expected);
        let refused = pass(&mut circuits, Some("a"), now + SECOND / 2).unwrap_err();
        assert_eq!(refused.circuit, Circuit::Image("a".into()));
        assert_eq!((refused.retry_after, refused.open_for), (SECOND / 2, SECOND / 2));
        assert!(pass(&mut circuits, Some("b"), now).is_ok());
        assert!(pass(&mut circuits, None, now).is_ok());
    }

    #[test]
    fn two_bad_images_or_a_failure_without_one_are_the_providers() {
        let now = Instant::now();
        for images in [
            &[Some("a"), Some("a"), Some("b"), Some("a"), Some("b"), Some("a"), Some("b")][..],
            &[Some("a"), Some("a"), None, Some("a"), Some("a"), Some("b"), Some("b")],
            &[None; 5],
        ] {
            let mut circuits = Circuits::default();
            fail(&mut circuits, &images[..images.len() - 1], now);
            assert!(pass(&mut circuits, None, now).is_ok(), "{images:?}");
            fail(&mut circuits, &images[images.len() - 1..], now);
            assert_eq!(pass(&mut circuits, None, now).unwrap_err().circuit, Circuit::Create, "{images:?}");
        }
    }

    #[test]
    fn a_success_clears_creating_and_its_own_image() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        fail(&mut circuits, &[Some("a"), Some("b"), Some("a"), Some("b"), Some("a")], now);
        let passes = pass(&mut circuits, Some("b"), now).unwrap();
        finish(&mut circuits, passes, &Outcome::Succeeded, now);
        let states: Vec<_> = circuits.all().map(|(circuit, breaker)| (circuit, breaker.state())).collect();
        let closed = |failures| State::Closed { failures };
        let [create, resume, image] = [closed(0), closed(0), closed(3)];
        let image = (Circuit::Image("a".into()), &image);
        assert_eq!(states, [(Circuit::Create, &create), (Circuit::Resume, &resume), image]);
    }

    #[test]
    fn the_probe_closes_it_and_changes_are_told() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        fail(&mut circuits, &[None; 5], now);
        let mut changes = Vec::new();
        let create = Request::Create { image: None };
        let probe = circuits.pass(create, now + SECOND, &Policy::default(), &mut changes).unwrap();
        let refused = pass(&mut circuits, Some("a"), now + SECOND).unwrap_err();
        assert_eq!(refused.retry_after, SECOND, "nobody knows how long the probe takes");
        changes.extend(finish(&mut circuits, probe, &Outcome::Succeeded, now + SECOND));
        let told: Vec<_> = changes.iter().map(|change| (change.from, change.to)).collect();
        assert_eq!(told, [("open", "half_open"), ("half_open", "closed")]);
    }

    #[test]
    fn a_probe_of_an_image_is_given_back_when_creating_is_refused() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        fail(&mut circuits, &[Some("a"); 5], now);
        fail(&mut circuits, &[None; 5], now + SECOND);
        let refused = pass(&mut circuits, Some("a"), now + SECOND).unwrap_err();
        assert_eq!(refused.circuit, Circuit::Create);
        assert!(pass(&mut circuits, Some("a"), now + 2 * SECOND).is_ok(), "both probe");
    }

    #[test]
    fn what_can_be_woken_is_woken_though_nothing_can_be_made() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        let policy = Policy::default();
        for n in 0..5 {
            let resume = circuits.pass(Request::Resume, now, &policy, &mut Vec::new()).unwrap();
            finish(&mut circuits, resume, &Outcome::Succeeded, now);
            assert!(pass(&mut circuits, None, now).is_ok(), "thaws hide nothing: {n}");
            fail(&mut circuits, &[None], now);
        }
        assert!(pass(&mut circuits, None, now).is_err());
        for _ in 0..5 {
            let resume = circuits.pass(Request::Resume, now, &policy, &mut Vec::new()).unwrap();
            finish(&mut circuits, resume, &failed(), now);
        }
        let refused = circuits.pass(Request::Resume, now, &policy, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.circuit, Circuit::Resume);
    }

    #[test]
    fn images_are_watched_in_bounded_number() {
        let (mut circuits, now) = (Circuits::default(), Instant::now());
        for n in 0..2 * IMAGES {
            if let Ok(passes) = pass(&mut circuits, Some(&format!("image-{n}")), now) {
                finish(&mut circuits, passes, &failed(), now);
                let passes = pass(&mut circuits, None, now).unwrap();
                finish(&mut circuits, passes, &Outcome::Succeeded, now);
            }
        }
        assert_eq!(circuits.all().count(), 2 + IMAGES);
    }

    proptest! {
        /// Whatever happens, when everything that is out has come to an end and all waits are over, one
        /// request of each image gets through, and if it succeeds so does everything.
        #[test]
        fn property_never_stuck(
            steps in prop::collection::vec((0u8..6, 0usize..4, any::<usize>(), 0u64..900), 0..200),
        ) {
            const NAMES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
            let (mut now, mut circuits) = (Instant::now(), Circuits::default());
            let mut out = Vec::new();
            for (step, image, nth, millis) in steps {
                match step {
                    0 | 1 => out.extend(pass(&mut circuits, NAMES[image], now)),
                    2..5 if !out.is_empty() => {
                        let passes = out.swap_remove(nth % out.len());
                        let outcomes = [Outcome::Succeeded, failed(), Outcome::Neither];
                        finish(&mut circuits, passes, &outcomes[usize::from(step) - 2], now);
                    }
                    _ => now += Duration::from_millis(millis),
                }
            }
            for passes in out {
                finish(&mut circuits, passes, &Outcome::Neither, now);
            }
            now += 10 * SECOND;
            for image in NAMES {
                let passes = pass(&mut circuits, image, now);
                prop_assert!(passes.is_ok(), "{passes:?}");
                finish(&mut circuits, passes.unwrap(), &Outcome::Succeeded, now);
            }
            prop_assert_eq!(names(&circuits), [(Circuit::Create, "closed"), (Circuit::Resume, "closed")]);
        }
    }
}
