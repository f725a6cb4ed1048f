//! Who is answered next, where more is asked than is answered at a time: whoever is answered least.
//!
//! Each user may have so many requests answered at a time, and all together so many. Watches, logs and
//! conversations count until they begin only. Upstream's levels of priority are one here, beside those
//! who never wait (apiserver, `exempt`).

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::authentication::User;
use crate::failure::Failure;

/// Requests that are answered at a time.
const SEATS: usize = 128;
/// Those of one user: whom it asks, and who asks us back, has room.
const SEATS_OF_ONE: usize = SEATS / 2;
/// How long a request waits (apiserver, a quarter of `--request-timeout`).
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Whose requests are being answered, and whose wait.
#[derive(Debug, Clone)]
pub(crate) struct Fairness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: Condvar,
    seats: usize,
    seats_of_one: usize,
    wait_max: Duration,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    users: HashMap<String, Own>,
}

/// A user's requests.
#[derive(Debug, Default, Clone, Copy)]
struct Own {
    taken: usize,
    waiting: usize,
}

impl Default for Fairness {
    fn default() -> Self {
        Self::new(SEATS, SEATS_OF_ONE, WAIT_MAX)
    }
}

impl Fairness {
    fn new(seats: usize, seats_of_one: usize, wait_max: Duration) -> Self {
        let (state, freed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { state, freed, seats, seats_of_one, wait_max }) }
    }

    /// Waits until a user's turn has come. It is over when what is returned is dropped.
    pub(crate) fn enter(&self, user: &User) -> Result<Option<Seat>, Failure> {
        if user.is_master() {
            return Ok(None);
        }
        let shared = &*self.shared;
        let deadline = Instant::now() + shared.wait_max;
        let mut state = shared.lock();
        state.own(&user.name).waiting += 1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let may_begin = state.may_begin(&user.name, shared);
            if may_begin || left.is_zero() {
                state.own(&user.name).waiting -= 1;
                if !may_begin {
                    state.forget(&user.name);
                    let why = "Too many requests, please try again later.";
                    let details = serde_json::json!({"retryAfterSeconds": 1});
                    return Err(Failure { details, ..Failure::too_many_requests(why) });
                }
                state.own(&user.name).taken += 1;
                state.taken += 1;
                return Ok(Some(Seat { of: self.clone(), user: user.name.clone() }));
            }
            let waited = shared.freed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    /// A thread that panicked while it held the lock has broken nothing: changes are made whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn own(&mut self, user: &str) -> &mut Own {
        self.users.entry(user.to_owned()).or_default()
    }

    /// Whether nobody else waits who has less.
    fn may_begin(&self, user: &str, shared: &Shared) -> bool {
        let own = self.users.get(user).copied().unwrap_or_default();
        self.taken < shared.seats
            && own.taken < shared.seats_of_one
            && self.users.values().all(|other| other.waiting == 0 || other.taken >= own.taken)
    }

    /// Forgets a user who asks nothing.
    fn forget(&mut self, user: &str) {
        if self.users.get(user).is_some_and(|own| own.taken == 0 && own.waiting == 0) {
            self.users.remove(user);
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Seat {
    of: Fairness,
    user: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.of.shared.lock();
        state.taken -= 1;
        state.own(&self.user).taken -= 1;
        state.forget(&self.user);
        drop(state);
        self.of.shared.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn user(name: &str) -> User {
        User::known(name, &[])
    }

    #[test]
    fn one_user_leaves_room_for_others() {
        let fairness = Fairness::new(4, 2, Duration::ZERO);
        let greedy: Vec<_> = (0..3).map(|_| fairness.enter(&user("greedy"))).collect();
        assert!(greedy[0].is_ok() && greedy[1].is_ok());
        let refused = greedy[2].as_ref().unwrap_err();
        assert_eq!((refused.code, refused.reason), (429, "TooManyRequests"));
        let other = fairness.enter(&user("other")).unwrap();
        assert!(other.is_some());
        assert!(fairness.enter(&User::administrator()).unwrap().is_none());
        drop((greedy, other));
        assert!(fairness.shared.lock().users.is_empty());
    }

    #[test]
    fn the_next_is_whoever_has_least() {
        let fairness = Fairness::new(2, 2, Duration::from_secs(120));
        let first = fairness.enter(&user("greedy")).unwrap();
        let second = fairness.enter(&user("greedy")).unwrap();
        let (begun, begins) = channel();
        std::thread::scope(|scope| {
            for name in ["greedy", "modest"] {
                let (fairness, begun) = (fairness.clone(), begun.clone());
                scope.spawn(move || {
                    let seat = fairness.enter(&user(name)).unwrap();
                    begun.send((name, seat)).unwrap();
                });
            }
            let both_wait = || {
                let state = fairness.shared.lock();
                state.users.values().map(|own| own.waiting).sum::<usize>() == 2
            };
            while !both_wait() {
                std::thread::yield_now();
            }
            drop(first);
            let (name, seat) = begins.recv().unwrap();
            assert_eq!(name, "modest");
            drop(second);
            assert_eq!(begins.recv().unwrap().0, "greedy");
            drop(seat);
        });
    }
}
