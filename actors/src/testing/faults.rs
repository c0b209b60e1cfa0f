//! Faults that a test asks for, in the order in which it asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with one request.
#[derive(Debug)]
pub enum Strike<E> {
    /// It fails, and nothing has happened.
    Fail(E),
    /// It happens, but the answer is lost and this comes instead.
    LoseAnswer(E),
    /// It happens, but takes so long.
    Delay(Duration),
    /// It happens never, and no answer comes.
    Hang,
    /// It panics.
    Panic,
}

/// Faults to come, by operation.
#[derive(Debug)]
pub struct Faults<E>(Mutex<BTreeMap<&'static str, VecDeque<Strike<E>>>>);

impl<E> Default for Faults<E> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<E> Faults<E> {
    /// The next request of this operation that is not spoken for suffers this.
    pub fn next(&self, operation: &'static str, strike: Strike<E>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default().push_back(strike);
    }

    /// Performs a request, with what was asked for it.
    pub(super) async fn around<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let strike = {
            let mut strikes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            strikes.get_mut(operation).and_then(VecDeque::pop_front)
        };
        match strike {
            None => request.await,
            Some(Strike::Fail(error)) => Err(error),
            Some(Strike::LoseAnswer(error)) => {
                request.await?;
                Err(error)
            }
            Some(Strike::Delay(time)) => {
                tokio::time::sleep(time).await;
                request.await
            }
            Some(Strike::Hang) => std::future::pending().await,
            #[expect(clippy::panic, reason = "a test asked for it")]
            Some(Strike::Panic) => panic!("{operation} panics because a test asked for it"),
        }
    }
}
