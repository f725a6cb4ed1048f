//! Who may ask: a file of users and bcrypt hashes, as `htpasswd -B` writes it, and HTTP's Basic
//! scheme (RFC 7617).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Digest;

use super::durable;
use super::error::ServeError;
use super::failure::{Code, Failure};

const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long a password that was right is remembered: bcrypt is slow on purpose, and a pull asks
/// dozens of times.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
const REMEMBERED_MAX: usize = 1024;
/// Different passwords that wait to be hashed at one time: further ones are told to come again.
const WAITING_MAX: usize = 16;
/// Those of one address; this machine's own, which a proxy's may be, have no such bound.
const WAITING_PER_PEER_MAX: usize = 4;
/// Seconds after which a password that found no room may be tried again.
const RETRY_AFTER: &str = "2";

/// The users and what their passwords hash to.
pub(super) struct Passwords {
    path: PathBuf,
    /// Makes what is remembered useless to whoever sees it.
    salt: String,
    state: Mutex<State>,
    /// Held while a password is hashed: guessing costs one processor, not all.
    hashing: Mutex<()>,
    /// Digests as in `known` that are being hashed or wait for it, and who asked.
    waiting: Mutex<HashMap<Digest, IpAddr>>,
    /// Told when there are fewer of those.
    left: Condvar,
}

/// One place among those that wait to be hashed.
struct Turn<'a> {
    passwords: &'a Passwords,
    proof: Digest,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.passwords.waiting().remove(&self.proof);
        self.passwords.left.notify_all();
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Passwords").field("path", &self.path).finish_non_exhaustive()
    }
}

struct State {
    users: HashMap<String, String>,
    changed: Option<SystemTime>,
    /// Digests of salt, user and password, and until when.
    known: HashMap<Digest, Instant>,
    /// What is hashed against for a user that does not exist, so that it takes as long.
    dummy: String,
}

impl Passwords {
    /// Reads the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Passwords { path: path.to_owned(), source };
        let (users, changed) = read(path).map_err(failed)?;
        let salt = durable::random_id().map_err(failed)?;
        let dummy = dummy(&users).map_err(failed)?;
        let state = State { users, changed, known: HashMap::new(), dummy };
        Ok(Self {
            path: path.to_owned(),
            salt,
            state: Mutex::new(state),
            hashing: Mutex::default(),
            waiting: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// The user that an `Authorization` field of a request from `peer` proves.
    pub(super) fn check(
        &self,
        authorization: Option<&str>,
        peer: IpAddr,
    ) -> Result<String, Failure> {
        let refused = |what: &str| {
            Failure::new(Code::Unauthorized, what)
                .header("WWW-Authenticate", "Basic realm=\"cais registry\", charset=\"UTF-8\"")
        };
        let given = authorization.ok_or_else(|| refused("authentication required"))?;
        let (user, password) =
            basic(given).ok_or_else(|| refused("Basic authentication required"))?;
        match self.is_right(&user, &password, peer)? {
            true => Ok(user),
            false => Err(refused("wrong user name or password")),
        }
    }

    fn is_right(&self, user: &str, password: &str, peer: IpAddr) -> Result<bool, Failure> {
        self.reload();
        // No password has a line feed in front: what is remembered cannot be mistaken.
        let proof = Digest::of(format!("{}\n{user}\n{password}", self.salt).as_bytes());
        let Some(_turn) = self.wait_for_turn(proof, peer)? else { return Ok(true) };
        let (hash, exists) = {
            let state = self.lock();
            let hash = state.users.get(user);
            (hash.unwrap_or(&state.dummy).clone(), hash.is_some())
        };
        let right = {
            let _one = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
            bcrypt::verify(password, &hash).unwrap_or(false)
        };
        if !(right && exists) {
            return Ok(false);
        }
        let mut state = self.lock();
        // The file may have changed meanwhile.
        if state.users.get(user) == Some(&hash) {
            let now = Instant::now();
            state.known.retain(|_, until| *until > now);
            if state.known.len() < REMEMBERED_MAX {
                state.known.insert(proof, now + REMEMBERED);
            }
        }
        Ok(true)
    }

    /// The leave to hash what `proof` is the digest of; `None` if it is known to be right. The
    /// same password from many connections at once is hashed once, and takes one place.
    fn wait_for_turn(&self, proof: Digest, peer: IpAddr) -> Result<Option<Turn<'_>>, Failure> {
        let mut waiting = self.waiting();
        loop {
            let until = self.lock().known.get(&proof).copied();
            if until.is_some_and(|until| until > Instant::now()) {
                return Ok(None);
            }
            if !waiting.contains_key(&proof) {
                break;
            }
            waiting = self.left.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let of_peer = waiting.values().filter(|other| **other == peer).count();
        let is_full = waiting.len() >= WAITING_MAX
            || (of_peer >= WAITING_PER_PEER_MAX && !peer.to_canonical().is_loopback());
        if is_full {
            let what = "too many passwords are being checked";
            return Err(
                Failure::new(Code::TooManyRequests, what).header("Retry-After", RETRY_AFTER)
            );
        }
        waiting.insert(proof, peer);
        Ok(Some(Turn { passwords: self, proof }))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Digest, IpAddr>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it was changed. One that cannot be read now changes nothing.
    fn reload(&self) {
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if changed.is_none() || self.lock().changed == changed {
            return;
        }
        if let Ok((users, changed)) = read(&self.path)
            && let Ok(dummy) = dummy(&users)
        {
            *self.lock() = State { users, changed, known: HashMap::new(), dummy };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Users = HashMap<String, String>;

fn read(path: &Path) -> std::io::Result<(Users, Option<SystemTime>)> {
    let meta = std::fs::metadata(path)?;
    let bad = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    if meta.len() > FILE_BYTES_MAX {
        return Err(bad(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    let users = parse(&std::fs::read_to_string(path)?).map_err(bad)?;
    Ok((users, meta.modified().ok()))
}

fn parse(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = number + 1;
        let (user, hash) =
            line.split_once(':').ok_or_else(|| format!("line {number}: expected USER:HASH"))?;
        if hash.parse::<bcrypt::HashParts>().is_err() {
            return Err(format!("line {number}: the password of {user} is not hashed by bcrypt"));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    match users.is_empty() {
        true => Err("it names no user".to_owned()),
        false => Ok(users),
    }
}

/// A hash of nobody's password that costs as much as those of `users`.
fn dummy(users: &Users) -> std::io::Result<String> {
    let cost = |hash: &String| hash.parse::<bcrypt::HashParts>().ok().map(|parts| parts.get_cost());
    let cost = users.values().filter_map(cost).max().unwrap_or(bcrypt::DEFAULT_COST);
    bcrypt::hash(durable::random_id()?, cost).map_err(std::io::Error::other)
}

fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, given) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn header(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn only_the_right_password_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let hash = bcrypt::hash("secret", 4).unwrap();
        std::fs::write(&path, format!("# people\nme:{hash}\n")).unwrap();
        let passwords = Passwords::open(&path).unwrap();
        let check = |given: Option<&str>| passwords.check(given, PEER).map_err(|f| f.status);
        for _ in 0..2 {
            assert_eq!(check(Some(&header("me", "secret"))), Ok("me".to_owned()));
        }
        for wrong in [
            header("me", "Secret"),
            header("me", ""),
            header("you", "secret"),
            header("me\nsecret", ""),
            "Basic ?".to_owned(),
            "Bearer x".to_owned(),
        ] {
            assert_eq!(check(Some(&wrong)), Err(401), "{wrong}");
        }
        assert_eq!(check(None), Err(401));

        // A new password counts at once, and the old one does not.
        let hash = bcrypt::hash("other", 4).unwrap();
        std::fs::write(&path, format!("me:{hash}\n")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(check(Some(&header("me", "secret"))), Err(401));
        assert_eq!(check(Some(&header("me", "other"))), Ok("me".to_owned()));
    }

    #[test]
    fn guesses_are_bounded_and_known_clients_do_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let passwords = Passwords::open(&path).unwrap();
        let check = |password: &str, peer: [u8; 4]| {
            passwords.check(Some(&header("me", password)), peer.into()).map_err(|f| f.status)
        };
        let me = Ok("me".to_owned());
        assert_eq!(check("secret", [10, 0, 0, 1]), me);
        let wait_for = |count| {
            while passwords.waiting().len() < count {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let slow = passwords.hashing.lock().unwrap();
            for n in 0..WAITING_PER_PEER_MAX {
                scope.spawn(move || assert_eq!(check(&format!("a{n}"), [10, 0, 0, 2]), Err(401)));
                // The same one again takes no other place.
                scope.spawn(move || assert_eq!(check(&format!("a{n}"), [10, 0, 0, 2]), Err(401)));
            }
            wait_for(WAITING_PER_PEER_MAX);
            assert_eq!(check("b", [10, 0, 0, 2]), Err(429), "this address has enough");
            for n in WAITING_PER_PEER_MAX..WAITING_MAX {
                scope.spawn(move || assert_eq!(check(&format!("a{n}"), [127, 0, 0, 1]), Err(401)));
            }
            wait_for(WAITING_MAX);
            assert_eq!(check("b", [10, 0, 0, 3]), Err(429), "everybody together has enough");
            let told = passwords.check(Some(&header("me", "b")), PEER).unwrap_err().reply();
            assert!(told.headers.iter().any(|(name, _)| *name == "Retry-After"));
            assert_eq!(check("secret", [10, 0, 0, 4]), me, "what is known waits for nobody");
            drop(slow);
        });
        assert!(passwords.waiting().is_empty());
    }

    #[test]
    fn other_hashes_are_refused_by_line() {
        for (text, expected) in [
            ("me:{SHA}x\n", "line 1: the password of me is not hashed by bcrypt"),
            ("\nme\n", "line 2: expected USER:HASH"),
            ("# nobody\n", "it names no user"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }
}
