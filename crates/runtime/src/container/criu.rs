//! CRIU, the program that saves processes to files and makes them again: started as
//! `criu swrk <descriptor>`, it serves one request over a socket
//! (<https://criu.org/RPC>, `rpc.proto`).

mod message;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketFlags, SocketType, recvmsg, send, socketpair,
};

use super::Error;
use crate::error::Doing;

use message::Answer;
pub(super) use message::{Message, numbers};

/// The longest answer, in bytes; CRIU's own limit is a page.
const ANSWER_MAX: usize = 40 << 10;

/// The kinds of requests (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Request {
    fn name(self) -> &'static str {
        match self {
            Request::Dump => "DUMP",
            Request::Restore => "RESTORE",
            Request::PreDump => "PRE_DUMP",
            Request::Notify => "NOTIFY",
            Request::FeatureCheck => "FEATURE_CHECK",
            Request::Version => "VERSION",
        }
    }
}

/// What CRIU and the kernel may be able to do (`criu_features`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// To tell which memory was written to since the last time.
    MemTrack = 1,
    /// To give pages to a process when it needs them.
    LazyPages = 2,
}

impl Feature {
    fn name(self) -> &'static str {
        match self {
            Feature::MemTrack => "MemTrack",
            Feature::LazyPages => "LazyPages",
        }
    }
}

/// The fields of `criu_opts`.
pub(super) mod option {
    pub(in super::super) const IMAGES_DIR_FD: u32 = 1;
    pub(in super::super) const PID: u32 = 2;
    pub(in super::super) const LEAVE_RUNNING: u32 = 3;
    pub(in super::super) const EXT_UNIX_SK: u32 = 4;
    pub(in super::super) const TCP_ESTABLISHED: u32 = 5;
    pub(in super::super) const EVASIVE_DEVICES: u32 = 6;
    pub(in super::super) const SHELL_JOB: u32 = 7;
    pub(in super::super) const FILE_LOCKS: u32 = 8;
    pub(in super::super) const LOG_LEVEL: u32 = 9;
    pub(in super::super) const LOG_FILE: u32 = 10;
    pub(in super::super) const PAGE_SERVER: u32 = 11;
    pub(in super::super) const NOTIFY_SCRIPTS: u32 = 12;
    pub(in super::super) const ROOT: u32 = 13;
    pub(in super::super) const PARENT_IMG: u32 = 14;
    pub(in super::super) const TRACK_MEM: u32 = 15;
    pub(in super::super) const AUTO_DEDUP: u32 = 16;
    pub(in super::super) const WORK_DIR_FD: u32 = 17;
    pub(in super::super) const LINK_REMAP: u32 = 18;
    pub(in super::super) const EXT_MNT: u32 = 23;
    pub(in super::super) const MANAGE_CGROUPS: u32 = 24;
    pub(in super::super) const CG_ROOT: u32 = 25;
    pub(in super::super) const RST_SIBLING: u32 = 26;
    pub(in super::super) const INHERIT_FD: u32 = 27;
    pub(in super::super) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(in super::super) const EXTERNAL: u32 = 37;
    pub(in super::super) const EMPTY_NS: u32 = 38;
    pub(in super::super) const JOIN_NS: u32 = 39;
    pub(in super::super) const FREEZE_CGROUP: u32 = 44;
    pub(in super::super) const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub(in super::super) const LAZY_PAGES: u32 = 48;
    pub(in super::super) const STATUS_FD: u32 = 49;
    pub(in super::super) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(in super::super) const CONFIG_FILE: u32 = 51;
    pub(in super::super) const LSM_PROFILE: u32 = 53;
    pub(in super::super) const LSM_MOUNT_CONTEXT: u32 = 63;
}

/// What CRIU tells while it works, and waits for to be done.
#[derive(Debug)]
pub(super) struct Notice {
    /// The name of the moment, as action scripts know it.
    pub(super) name: String,
    /// The first process, where that matters.
    pub(super) pid: i32,
    /// A descriptor that comes along.
    pub(super) fd: Option<OwnedFd>,
}

/// The installed program.
#[derive(Debug)]
pub(super) struct Criu {
    program: PathBuf,
    /// Major, minor and sublevel in two digits each: 31701 is 3.17.1.
    version: u32,
}

impl Criu {
    /// Finds it, by its name in `PATH` unless a path is given, and asks for its version.
    ///
    /// # Errors
    /// [`Error::NoCriu`]; what it answers.
    pub(super) fn find(program: Option<&Path>) -> Result<Criu, Error> {
        let mut criu = Criu { program: program.unwrap_or(Path::new("criu")).into(), version: 0 };
        let answer = criu.start(false, &[])?.ask(&message::request(Request::Version, None))?;
        criu.version = answer.version.ok_or_else(|| criu.odd("gives no version"))?;
        // The request for its version came with 3.0.
        criu.require(30_000, "checkpoint and restore")?;
        Ok(criu)
    }

    /// Whether its version is at least this one.
    pub(super) fn is_at_least(&self, version: u32) -> bool {
        self.version >= version
    }

    /// Refuses what an older version cannot do.
    ///
    /// # Errors
    /// [`Error::Refused`] names what it is, and the versions.
    pub(super) fn require(&self, version: u32, what: &str) -> Result<(), Error> {
        if self.is_at_least(version) {
            return Ok(());
        }
        let (least, found) = (spell(version), spell(self.version));
        Err(Error::Refused(format!("{what} needs CRIU {least} or later; {found} is installed")))
    }

    /// Refuses what it, or the kernel, cannot do.
    ///
    /// # Errors
    /// [`Error::Refused`] names the feature.
    pub(super) fn require_feature(&self, feature: Feature, what: &str) -> Result<(), Error> {
        let answer = self.start(false, &[])?.ask(&message::feature_request(feature as u32))?;
        if answer.features.contains(&(feature as u64)) {
            return Ok(());
        }
        let name = feature.name();
        Err(Error::Refused(format!("{what}: criu is missing features: [{name}]")))
    }

    /// Starts it, with this process' streams or without any, and with further descriptors under
    /// their own numbers.
    ///
    /// # Errors
    /// [`Error::NoCriu`]; those of socketpair(2).
    pub(super) fn start(&self, streams: bool, given: &[BorrowedFd<'_>]) -> Result<Service, Error> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) =
            socketpair(family, kind, SocketFlags::CLOEXEC, None).doing(|| "make a socket")?;
        let mut command = Command::new(&self.program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        if !streams {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        // This process has a single thread: nobody else starts a program meanwhile.
        let inherited: Vec<_> = given.iter().copied().chain([theirs.as_fd()]).collect();
        inherited.iter().try_for_each(|fd| keep_open(*fd, true)).doing(|| "pass descriptors")?;
        let child = command.spawn().map_err(|source| Error::NoCriu {
            program: self.program.display().to_string(),
            source,
        });
        given.iter().try_for_each(|fd| keep_open(*fd, false)).doing(|| "keep descriptors")?;
        Ok(Service { child: child?, socket: Some(ours) })
    }

    fn odd(&self, what: &str) -> Error {
        Error::Refused(format!("`{}` {what}: it is no CRIU", self.program.display()))
    }
}

/// Whether programs that are started inherit a descriptor.
fn keep_open(fd: BorrowedFd<'_>, open: bool) -> io::Result<()> {
    let mut flags = fcntl_getfd(fd)?;
    flags.set(FdFlags::CLOEXEC, !open);
    Ok(fcntl_setfd(fd, flags)?)
}

/// A version as people write it.
fn spell(version: u32) -> String {
    let (major, minor, sub) = (version / 10_000, version / 100 % 100, version % 100);
    if sub == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{sub}") }
}

/// A running CRIU. Dropping it ends the conversation, upon which it takes back what it was doing
/// and ends.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    socket: Option<OwnedFd>,
}

impl Service {
    /// Its process.
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Asks what is answered at once.
    fn ask(self, request: &Message) -> Result<Answer, Error> {
        self.tell(request)?;
        let (answer, _) = self.hear()?;
        if answer.success {
            return Ok(answer);
        }
        let error = answer.error.unwrap_or_else(|| format!("errno {}", answer.errno));
        let error = error.trim_end();
        Err(Error::Refused(format!("CRIU check failed: {error}; `criu check` tells more")))
    }

    /// Has it serve a request; `told` does what it asks for on the way.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) fn serve(
        mut self,
        (request, options): (Request, &Message),
        told: &mut dyn FnMut(Notice) -> Result<(), Error>,
    ) -> Result<(), Failed> {
        self.tell(&message::request(request, Some(options)))?;
        loop {
            let (answer, fd) = self.hear()?;
            if !answer.success {
                return Err(failure(&answer, request.name()));
            }
            match answer.notice {
                Some((name, pid)) if answer.kind == Request::Notify as u64 => {
                    told(Notice { name, pid, fd })?;
                    self.tell(&message::done())?;
                }
                _ if answer.kind == request as u64 => break,
                _ => {
                    let text = format!("answer {} to no question", answer.kind);
                    return Err(Failed::Criu(text, None));
                }
            }
        }
        self.socket = None;
        let status = self.child.wait().doing(|| "wait for CRIU").map_err(Error::from)?;
        // After a pre-dump it waits for the next one, in vain.
        if status.success() || request == Request::PreDump {
            return Ok(());
        }
        Err(Failed::Criu(status.to_string(), None))
    }

    fn tell(&self, message: &Message) -> Result<(), Error> {
        let doing = || "talk to CRIU";
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected).map_err(Into::into);
        let sent = socket.and_then(|socket| {
            Ok::<_, io::Error>(send(socket, message.bytes(), SendFlags::NOSIGNAL)?)
        });
        sent.doing(doing)?;
        Ok(())
    }

    fn hear(&self) -> Result<(Answer, Option<OwnedFd>), Error> {
        let ended = || Error::Refused("criu failed: it ended without an answer".into());
        let socket = self.socket.as_ref().ok_or_else(ended)?;
        let mut bytes = vec![0; ANSWER_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (length, fd) = loop {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Err(ended()),
                other => {
                    let heard = other.doing(|| "listen to CRIU")?;
                    if heard.flags.contains(ReturnFlags::TRUNC) {
                        return Err(Error::Refused("criu failed: its answer is too long".into()));
                    }
                    break (heard.bytes, descriptor(&mut ancillary));
                }
            }
        };
        if length == 0 {
            return Err(ended());
        }
        let answer = Answer::parse(&bytes[..length]);
        let answer =
            answer.ok_or_else(|| Error::Refused("criu failed: it does not speak RPC".into()))?;
        Ok((answer, fd))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.child.wait();
    }
}

fn descriptor(ancillary: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// Why a request was not served.
#[derive(Debug)]
pub(super) enum Failed {
    /// CRIU says so, and perhaps why; its log tells more.
    Criu(String, Option<String>),
    /// What it asked for on the way failed.
    Else(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Else(error)
    }
}

/// In runc's words, which callers look for.
fn failure(answer: &Answer, kind: &str) -> Failed {
    let error = answer.error.as_deref().map(|text| text.trim_end().into());
    Failed::Criu(format!("type {kind} errno {}", answer.errno), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in the place of CRIU.
    fn fake(script: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("criu");
        let text = directory.path().join("text");
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // By another process: a file that this one writes may be open in a child that another test
        // has just forked, and is not executed then (ETXTBSY).
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &path]).status().unwrap().success());
        (directory, path)
    }

    #[test]
    fn what_is_not_criu_is_told_apart() {
        let missing = Criu::find(Some(Path::new("/nonexistent/criu"))).unwrap_err();
        assert!(matches!(missing, Error::NoCriu { .. }), "{missing}");
        let (_directory, path) = fake("exit 3");
        let silent = Criu::find(Some(&path)).unwrap_err().to_string();
        assert!(silent.contains("talk to CRIU") || silent.contains("ended without"), "{silent}");
    }

    #[test]
    fn versions_are_spelled_and_compared() {
        let criu = Criu { program: "criu".into(), version: 31_701 };
        assert!(criu.is_at_least(31_600) && !criu.is_at_least(31_800));
        criu.require(31_701, "x").unwrap();
        let text = criu.require(40_000, "--x").unwrap_err().to_string();
        assert_eq!(text, "--x needs CRIU 4.0 or later; 3.17.1 is installed");
    }
}
