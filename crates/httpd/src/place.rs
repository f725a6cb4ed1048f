//! The connections that there are: how many may be, and how they end when the server stops.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stream::Stream;

/// Those of one address, or of one network where IPv6 gives a customer 2⁶⁴ of them; this machine's
/// own addresses, which a proxy's may be, have no such bound.
const CONNECTIONS_PER_PEER_MAX: usize = 128;

/// What is going on, from what can be given up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Activity {
    /// No request has begun.
    Idle,
    /// The head of a request is arriving.
    Head,
    /// A request is being answered.
    Request,
    /// It is told of something that may take for ever.
    Watch,
    /// It was hung up on, and has not noticed yet.
    Leaving,
}

struct Known {
    stream: Arc<Stream>,
    activity: Activity,
    /// When it became idle, or began.
    since: Instant,
    /// `None` without a bound.
    peer: Option<IpAddr>,
}

/// Whom connections from `address` are counted for.
fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Some(IpAddr::V6(Ipv6Addr::from(network)))
        }
        address => Some(address),
    }
}

/// Hangs up on whichever of `known` has waited longest without a request, of `peer`'s if there is
/// one: whether there was any.
fn evict(known: &mut HashMap<u64, Known>, peer: Option<IpAddr>) -> bool {
    let may_go = |connection: &&mut Known| {
        connection.activity < Activity::Request && (peer.is_none() || connection.peer == peer)
    };
    let oldest = known.values_mut().filter(may_go);
    let oldest = oldest.min_by_key(|connection| (connection.activity, connection.since));
    let Some(connection) = oldest else { return false };
    connection.activity = Activity::Leaving;
    let _ = connection.stream.shutdown(Shutdown::Both);
    true
}

/// All connections.
pub(crate) struct Places {
    /// Connections at one time; further ones wait in the kernel's queue.
    max: usize,
    known: Mutex<HashMap<u64, Known>>,
    left: Condvar,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Places").field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        let (known, left) = (Mutex::default(), Condvar::new());
        Self { max, known, left, stopping: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another connection may be: whether the server goes on. Whoever has waited
    /// longest without a request makes room, so that nobody is kept out by those who say nothing.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut known = self.lock();
        while known.len() >= self.max && !self.is_stopping() {
            let is_leaving = |connection: &Known| connection.activity == Activity::Leaving;
            if !known.values().any(is_leaving) {
                evict(&mut known, None);
            }
            known = self.left.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        !self.is_stopping()
    }

    /// Takes in the connection `number` from `address`, which only those of networks have; `None` if that has as many as it may have,
    /// all of them at work.
    pub(crate) fn enter(
        self: &Arc<Self>,
        number: u64,
        stream: Arc<Stream>,
        address: Option<IpAddr>,
    ) -> Option<Guest> {
        let peer = address.and_then(counted);
        let mut known = self.lock();
        let is_theirs = |other: &&Known| other.peer == peer && other.activity != Activity::Leaving;
        if peer.is_some()
            && known.values().filter(is_theirs).count() >= CONNECTIONS_PER_PEER_MAX
            && !evict(&mut known, peer)
        {
            return None;
        }
        let entered = Known { stream, activity: Activity::Request, since: Instant::now(), peer };
        known.insert(number, entered);
        Some(Guest { places: self.clone(), number })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Lets go of those who are waiting, or would for ever; the others finish what they are doing.
    pub(crate) fn stop(&self) {
        let known = self.lock();
        self.stopping.store(true, Ordering::SeqCst);
        let is_endless =
            |connection: &&Known| matches!(connection.activity, Activity::Idle | Activity::Watch);
        for connection in known.values().filter(is_endless) {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        self.left.notify_all();
    }

    /// Waits until the server stops, at most for `longest`.
    pub(crate) fn wait_for_stop(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut known = self.lock();
        while !self.is_stopping() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            known = self.left.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until all have left: whether that happened within `longest`.
    pub(crate) fn wait_until_empty(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        let mut known = self.lock();
        while !known.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            known = self.left.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// One connection among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    places: Arc<Places>,
    number: u64,
}

impl Guest {
    /// Says that nothing is going on: whether another request may come.
    pub(crate) fn may_wait(&self) -> bool {
        self.turn_to(Activity::Idle) && !self.places.is_stopping()
    }

    /// Says that a request has begun.
    pub(crate) fn is_beginning(&self) {
        self.turn_to(Activity::Head);
    }

    /// Says that a request is whole but for its body: whether it is to be answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.turn_to(Activity::Request)
    }

    /// Says that what is going on may take for ever: it ends with the server.
    pub(crate) fn is_watching(&self) {
        self.turn_to(Activity::Watch);
        if self.is_stopping()
            && let Some(connection) = self.places.lock().get(&self.number)
        {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether nobody has hung up on us.
    fn turn_to(&self, activity: Activity) -> bool {
        let mut known = self.places.lock();
        let is_full = known.len() >= self.places.max;
        let Some(connection) = known.get_mut(&self.number) else { return false };
        if connection.activity == Activity::Leaving {
            return false;
        }
        connection.activity = activity;
        if activity == Activity::Idle {
            connection.since = Instant::now();
            if is_full {
                self.places.left.notify_all();
            }
        }
        true
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.places.is_stopping()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.places.lock().remove(&self.number);
        self.places.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const CONNECTIONS_MAX: usize = 512;

    /// A connection's two ends: ours and the client's.
    fn pair(listener: &TcpListener) -> (Arc<Stream>, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (Arc::new(Stream::Tcp(listener.accept().unwrap().0)), client)
    }

    /// Demands that somebody hung up on this client.
    #[track_caller]
    fn assert_left(mut client: &TcpStream) {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn one_address_has_a_part_of_the_places() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Arc::new(Places::new(CONNECTIONS_MAX));
        let (stream, client) = pair(&listener);
        let enter = |number: u64, address: &str| {
            places.enter(number, stream.clone(), Some(address.parse().unwrap()))
        };
        let max = CONNECTIONS_PER_PEER_MAX as u64;
        let mut guests: Vec<Guest> =
            (0..max).map(|n| enter(n, &format!("2001:db8::{n:x}")).expect("room")).collect();
        assert!(enter(max, "2001:db8::ffff").is_none(), "all of them are at work");
        assert!(enter(max, "2001:db8:0:1::1").is_some(), "another network");
        assert!(enter(max, "192.0.2.1").is_some(), "another address");
        assert!(guests[3].may_wait());
        guests.push(enter(max, "2001:db8::ffff").expect("an idle one makes room"));
        assert_left(&client);
        assert!(!guests[3].is_busy(), "it was hung up on");
        for n in 1000..1000 + 2 * max {
            guests.push(enter(n, "::ffff:127.0.0.1").expect("this machine has no bound"));
        }
    }

    #[test]
    fn whoever_has_waited_longest_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Arc::new(Places::new(CONNECTIONS_MAX));
        let address = IpAddr::from([127, 0, 0, 1]);
        let (shared, _client) = pair(&listener);
        let enter = |number, stream| places.enter(number, stream, Some(address)).expect("no bound");
        let mut busy: Vec<Guest> =
            (2..CONNECTIONS_MAX as u64).map(|n| enter(n, shared.clone())).collect();
        let (begun, idle) = (pair(&listener), pair(&listener));
        let (begun_guest, idle_guest) = (enter(0, begun.0), enter(1, idle.0));
        assert!(begun_guest.may_wait());
        begun_guest.is_beginning();
        assert!(idle_guest.may_wait());
        for (n, guest, client) in [(1000, idle_guest, idle.1), (1001, begun_guest, begun.1)] {
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| places.wait_for_room());
                assert_left(&client);
                drop(guest);
                assert!(waiting.join().unwrap());
            });
            // Its place is taken again.
            busy.push(enter(n, shared.clone()));
        }
        assert_eq!(busy.len(), CONNECTIONS_MAX);
    }
}
