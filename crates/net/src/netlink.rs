//! Netlink conversations: several requests in one datagram, every one of them answered for.
//!
//! Formats: netlink(7), rtnetlink(7), `include/uapi/linux/netlink.h`.

use std::cell::Cell;
use std::io;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::{Error, KernelError, Result};

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
const ACK: u16 = 0x04;
/// `NLM_F_DUMP_INTR`: the table changed while it was being listed.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_EXCL`: fail if the object exists.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_DUMP`: list every object.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`: make the object.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: add at the end.
pub(crate) const APPEND: u16 = 0x800;

/// `NLM_F_CAPPED` of an answer: the request is not quoted beyond its header.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS` of an answer: an extended acknowledgement follows.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ACK_MESSAGE: u16 = 1;

/// `MAX_ERRNO` (`include/linux/err.h`); [`Errno`] holds no other number.
const ERRNO_MAX: i32 = 4095;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_LEN: usize = 16;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// No answer is larger: the kernel sizes a dump's datagrams to the reader, up to 32 KiB
/// (`netlink_recvmsg`), and an error quotes one request.
const DATAGRAM_MAX: usize = 32 * 1024;
/// Bytes that every socket takes at once (half of `net.core.wmem_default`).
const LARGE: usize = 64 * 1024;
/// How often a listing is begun again because the table changed meanwhile.
const DUMP_ATTEMPTS_MAX: usize = 16;

/// What distinguishes the two protocols spoken here, beyond the messages themselves.
#[derive(Debug)]
pub(crate) struct Subsystem {
    /// The `NETLINK_*` protocol number.
    pub(crate) protocol: isize,
    /// Errors that mean the kernel lacks the feature.
    pub(crate) unsupported: &'static [Errno],
    /// What to do about that.
    pub(crate) hint: &'static str,
}

/// One datagram of requests.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    requests: Vec<Request>,
    last: usize,
}

#[derive(Debug)]
struct Request {
    start: usize,
    doing: String,
    tolerated: Option<Errno>,
}

impl Batch {
    /// Adds a request; `doing` says what it does to which object, for an error's message.
    ///
    /// The kernel answers the last request added by this function, and any before it that fails.
    pub(crate) fn request(
        &mut self,
        doing: impl Into<String>,
        (kind, flags): (u16, u16),
        body: impl FnOnce(&mut Body<'_>),
    ) -> &mut Batch {
        self.last = self.requests.len();
        self.frame(doing, (kind, flags), body)
    }

    /// Adds a message that is part of the framing: it can fail, but success is not reported.
    pub(crate) fn frame(
        &mut self,
        doing: impl Into<String>,
        (kind, flags): (u16, u16),
        body: impl FnOnce(&mut Body<'_>),
    ) -> &mut Batch {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_LEN]);
        body(&mut Body { bytes: &mut self.bytes });
        let len = self.bytes.len() - start;
        let len = u32::try_from(len).expect("a request is a few hundred bytes");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.requests.push(Request { start, doing: doing.into(), tolerated: None });
        self
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Makes `errno` a success of the request just added: what it asks for is so already.
    pub(crate) fn tolerate(&mut self, errno: Errno) -> &mut Batch {
        if let Some(request) = self.requests.last_mut() {
            request.tolerated = Some(errno);
        }
        self
    }

    /// Writes the sequence numbers, and asks for the one acknowledgement.
    fn seal(&mut self, first: u32) {
        for (sequence, request) in (first..).zip(&self.requests) {
            let at = request.start + 8;
            self.bytes[at..at + 4].copy_from_slice(&sequence.to_ne_bytes());
        }
        if let Some(last) = self.requests.get(self.last) {
            let flags = self.bytes[last.start + 6..].first_chunk_mut::<2>();
            let flags = flags.expect("a request begins with a whole header");
            *flags = (u16::from_ne_bytes(*flags) | ACK).to_ne_bytes();
        }
    }
}

/// The body of a request under construction: a fixed header, then attributes, each aligned to
/// four bytes.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// Appends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute. Its length excludes the padding.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).expect("an attribute is a few dozen bytes");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// An attribute holding a number in the machine's order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// An attribute holding a number in network order, as netfilter has them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// An attribute holding a NUL-terminated string.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute holding attributes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Body { bytes: self.bytes });
        let len =
            u16::try_from(self.bytes.len() - start).expect("a request is a few hundred bytes");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }
}

/// A socket that speaks to one subsystem of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    subsystem: &'static Subsystem,
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(subsystem: &'static Subsystem) -> Result<Socket> {
        let doing = || String::from("open a netlink socket");
        let fail = |e: io::Error| refused(subsystem, doing(), kernel_error(&e));
        let raw = RawSocket::new(subsystem.protocol).map_err(fail)?;
        raw.set_ext_ack(true).map_err(fail)?;
        Ok(Socket { raw, subsystem, sequence: Cell::new(1) })
    }

    /// Sends the requests and waits until every one has been answered for. Returns the payloads of
    /// the objects the kernel sent back.
    ///
    /// The kernel works through a datagram in order, reports each failure, and acknowledges what
    /// asks for it: so one acknowledgement, of the last request, answers for all before it that
    /// have not reported a failure (`netlink_rcv_skb`, `nfnetlink_rcv_batch`).
    pub(crate) fn transact(&self, mut batch: Batch) -> Result<Vec<Vec<u8>>> {
        let first = self.sequence.get();
        let count = u32::try_from(batch.requests.len()).expect("a batch is a few requests");
        self.sequence.set(first.wrapping_add(count));
        batch.seal(first);
        let mut exchange = Exchange { batch: &batch, first, objects: Vec::new(), failed: None };
        self.send(&batch)?;
        let mut buffer = Vec::with_capacity(DATAGRAM_MAX);
        loop {
            self.receive(&mut buffer, &batch)?;
            if exchange.read(&buffer) {
                break;
            }
        }
        match exchange.failed {
            Some((doing, error)) => Err(refused(self.subsystem, doing, error)),
            None => Ok(exchange.objects),
        }
    }

    /// Lists objects: the one request of the batch has the flag [`DUMP`].
    pub(crate) fn dump(&self, batch: impl Fn() -> Batch) -> Result<Vec<Vec<u8>>> {
        let mut attempt = 1;
        loop {
            match self.transact(batch()) {
                Err(Error::Kernel { source, .. })
                    if source.errno == Errno::INTR && attempt < DUMP_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// A datagram larger than the socket's buffer is refused; one of a privileged process may be as
    /// large as it says.
    fn make_room(&self, batch: &Batch) -> Result<()> {
        let len = batch.bytes.len();
        if len <= LARGE {
            return Ok(());
        }
        sockopt::set_socket_send_buffer_size_force(&self.raw, len + LARGE)
            .map_err(|errno| self.refuse(batch, errno))
    }

    fn refuse(&self, batch: &Batch, errno: Errno) -> Error {
        refused(self.subsystem, batch.describe(), KernelError { errno, message: None })
    }

    fn send(&self, batch: &Batch) -> Result<()> {
        self.make_room(batch)?;
        let kernel = SocketAddr::new(0, 0);
        match self.raw.send_to(&batch.bytes, &kernel, 0) {
            Ok(_) => Ok(()),
            Err(e) => Err(refused(self.subsystem, batch.describe(), kernel_error(&e))),
        }
    }

    /// The kernel has answered by the time a send returns, and lists on as it is read: an answer
    /// that is not there never comes, and is an error (`EAGAIN`) rather than a wait.
    fn receive(&self, buffer: &mut Vec<u8>, batch: &Batch) -> Result<()> {
        loop {
            buffer.clear();
            let error = match self.raw.recv(buffer, libc::MSG_TRUNC | libc::MSG_DONTWAIT) {
                Ok(len) if len <= buffer.len() => return Ok(()),
                Ok(_) => KernelError { errno: Errno::MSGSIZE, message: None },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => kernel_error(&e),
            };
            return Err(refused(self.subsystem, batch.describe(), error));
        }
    }
}

impl Batch {
    /// What the batch as a whole does, for an error that is not about one request.
    fn describe(&self) -> String {
        self.requests.get(self.last).map_or_else(String::new, |request| request.doing.clone())
    }
}

/// The kernel's answers so far.
struct Exchange<'a> {
    batch: &'a Batch,
    first: u32,
    objects: Vec<Vec<u8>>,
    failed: Option<(String, KernelError)>,
}

impl Exchange<'_> {
    /// Reads a datagram. True when the conversation is over.
    fn read(&mut self, mut datagram: &[u8]) -> bool {
        let mut over = false;
        while let Some((header, payload, rest)) = split_message(datagram) {
            // An answer to an earlier batch on this socket has no place in this one.
            if let Some(index) = self.index_of(header.sequence) {
                over |= self.answer(index, header, payload);
            }
            datagram = rest;
        }
        over
    }

    fn index_of(&self, sequence: u32) -> Option<usize> {
        let index = usize::try_from(sequence.wrapping_sub(self.first)).ok()?;
        (index < self.batch.requests.len()).then_some(index)
    }

    fn answer(&mut self, index: usize, header: Header, payload: &[u8]) -> bool {
        if header.flags & DUMP_INTERRUPTED != 0 && header.kind != NLMSG_ERROR {
            self.fail(index, KernelError { errno: Errno::INTR, message: None });
        }
        match header.kind {
            NLMSG_ERROR | NLMSG_DONE => {
                if let Some(error) = parse_error(header, payload) {
                    self.fail(index, error);
                }
                // What fails before the last request and is framing takes the whole batch down
                // without a further word.
                index >= self.batch.last || (index == 0 && self.is_framed())
            }
            _ => {
                self.objects.push(payload.to_vec());
                false
            }
        }
    }

    fn is_framed(&self) -> bool {
        self.batch.last + 1 < self.batch.requests.len()
    }

    fn fail(&mut self, index: usize, error: KernelError) {
        let request = &self.batch.requests[index];
        if self.failed.is_none() && request.tolerated != Some(error.errno) {
            self.failed = Some((request.doing.clone(), error));
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message of a datagram: its header, its payload, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let header =
        Header { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)? };
    let payload = bytes.get(HEADER_LEN..len)?;
    Some((header, payload, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The error of an `NLMSG_ERROR` or `NLMSG_DONE`, unless it is zero, which is an acknowledgement.
fn parse_error(header: Header, payload: &[u8]) -> Option<KernelError> {
    let code = u32_at(payload, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return None;
    }
    let number = code.checked_neg().filter(|number| (1..=ERRNO_MAX).contains(number));
    let errno = Errno::from_raw_os_error(number.unwrap_or(libc::EIO));
    let message = (header.flags & ACK_TLVS != 0).then(|| ack_message(header, payload)).flatten();
    Some(KernelError { errno, message })
}

fn ack_message(header: Header, payload: &[u8]) -> Option<String> {
    let quoted = match header {
        Header { kind: NLMSG_DONE, .. } => 4,
        Header { flags, .. } if flags & CAPPED != 0 => 4 + HEADER_LEN,
        _ => 4 + usize::try_from(u32_at(payload, 4)?).ok()?.next_multiple_of(4),
    };
    let value = attribute(payload.get(quoted..)?, ACK_MESSAGE)?;
    Some(String::from_utf8_lossy(text(value)).into_owned())
}

/// The first attribute of that type.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & ATTRIBUTE_TYPE;
        let value = rest.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// What follows the first attribute.
pub(crate) fn behind(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(usize::from(u16_at(bytes, 0)?).next_multiple_of(4)..)
}

/// A string attribute without its NUL.
pub(crate) fn text(value: &[u8]) -> &[u8] {
    value.split(|b| *b == 0).next().unwrap_or_default()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn kernel_error(error: &io::Error) -> KernelError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    KernelError { errno, message: None }
}

fn refused(subsystem: &Subsystem, doing: String, source: KernelError) -> Error {
    match source.errno {
        Errno::PERM => Error::Denied { doing, needs: "CAP_NET_ADMIN", source },
        e if subsystem.unsupported.contains(&e) => {
            Error::Unsupported { doing, hint: subsystem.hint, source }
        }
        _ => Error::Kernel { doing, source },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(requests: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for doing in requests {
            batch.request(*doing, (1, 0), |_| {});
        }
        batch
    }

    fn exchange(batch: &Batch) -> Exchange<'_> {
        Exchange { batch, first: 7, objects: Vec::new(), failed: None }
    }

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER_LEN + payload.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// An answer to a request of no more than a header.
    fn answer(errno: i32, sequence: u32, said: Option<&str>) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend_from_slice(&message(1, 0, sequence, &[]));
        let mut tail = Vec::new();
        said.inspect(|said| {
            Body { bytes: &mut tail }.u32(2, 0).string(ACK_MESSAGE, said);
        });
        payload.extend_from_slice(&tail);
        let flags = if said.is_some() { ACK_TLVS } else { 0 };
        message(NLMSG_ERROR, flags, sequence, &payload)
    }

    #[test]
    fn only_the_last_request_asks_for_an_acknowledgement() {
        let mut batch = batch(&["a", "b"]);
        batch.frame("end", (9, 0), |body| {
            body.raw(&[0; 4]);
        });
        batch.seal(7);
        let mut rest = batch.bytes.as_slice();
        let mut seen = Vec::new();
        while let Some((header, _, after)) = split_message(rest) {
            seen.push((header.sequence, header.flags));
            rest = after;
        }
        assert_eq!(seen, [(7, REQUEST), (8, REQUEST | ACK), (9, REQUEST)]);
    }

    #[test]
    fn attributes_are_aligned_and_found_again() {
        let mut bytes = Vec::new();
        Body { bytes: &mut bytes }.attribute(1, b"abcde").nested(2, |inner| {
            inner.string(3, "x").be32(4, 5);
        });
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(attribute(&bytes, 1), Some(b"abcde".as_slice()));
        let inner = attribute(&bytes, 2).unwrap();
        assert_eq!(attribute(inner, 3).map(text), Some(b"x".as_slice()));
        assert_eq!(attribute(inner, 4), Some([0, 0, 0, 5].as_slice()));
        assert_eq!(attribute(&bytes, 5), None);
    }

    #[test]
    fn the_acknowledgement_of_the_last_request_ends_the_conversation() {
        let batch = batch(&["a", "b"]);
        let mut exchange = exchange(&batch);
        assert!(!exchange.read(&message(16, 0, 7, b"link")));
        assert!(!exchange.read(&answer(0, 6, None)), "an answer to an earlier batch");
        assert!(!exchange.read(&answer(0, 9, None)), "an answer to nothing");
        assert!(exchange.read(&answer(0, 8, None)));
        assert_eq!(exchange.failed, None);
        assert_eq!(exchange.objects, [b"link"]);
    }

    #[test]
    fn the_first_failure_is_reported_with_the_kernels_words() {
        let batch = batch(&["a", "b", "c"]);
        let mut exchange = exchange(&batch);
        let both = [answer(17, 8, Some("No such luck")), answer(1, 9, None)].concat();
        assert!(exchange.read(&both));
        let message = Some(String::from("No such luck"));
        let error = KernelError { errno: Errno::EXIST, message };
        assert_eq!(error.to_string(), "File exists (os error 17): No such luck");
        assert_eq!(exchange.failed, Some((String::from("b"), error)));
    }

    #[test]
    fn a_tolerated_failure_is_none() {
        let mut batch = batch(&["a"]);
        batch.tolerate(Errno::EXIST).request("b", (1, 0), |_| {}).tolerate(Errno::EXIST);
        let mut exchange = exchange(&batch);
        assert!(exchange.read(&[answer(17, 7, None), answer(1, 8, None)].concat()));
        let error = KernelError { errno: Errno::PERM, message: None };
        assert_eq!(exchange.failed, Some((String::from("b"), error)));
    }

    #[test]
    fn the_failure_of_the_frame_is_the_end() {
        let mut batch = Batch::default();
        batch.frame("begin", (16, 0), |_| {});
        batch.request("a", (1, 0), |_| {}).frame("end", (17, 0), |_| {});
        let mut exchange = exchange(&batch);
        assert!(exchange.read(&answer(1, 7, None)));
        assert_eq!(exchange.failed.map(|(doing, _)| doing), Some(String::from("begin")));
    }

    #[test]
    fn what_a_caller_can_act_on_has_a_name() {
        static SUBSYSTEM: Subsystem =
            Subsystem { protocol: 0, unsupported: &[Errno::OPNOTSUPP], hint: "load the module" };
        let error =
            |errno| refused(&SUBSYSTEM, String::from("do"), KernelError { errno, message: None });
        assert!(matches!(error(Errno::PERM), Error::Denied { needs: "CAP_NET_ADMIN", .. }));
        assert!(matches!(error(Errno::OPNOTSUPP), Error::Unsupported { .. }));
        assert_eq!(error(Errno::OPNOTSUPP).hint(), Some("load the module"));
        assert!(matches!(error(Errno::EXIST), Error::Kernel { .. }));
        assert_eq!(error(Errno::EXIST).hint(), None);
    }

    #[test]
    fn an_interrupted_listing_is_an_error_to_retry() {
        let batch = batch(&["list"]);
        let mut exchange = exchange(&batch);
        assert!(!exchange.read(&message(16, DUMP_INTERRUPTED, 7, b"link")));
        assert!(exchange.read(&message(NLMSG_DONE, 0, 7, &[0; 4])));
        assert_eq!(exchange.failed.map(|(_, error)| error.errno), Some(Errno::INTR));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange_to_read(
            kind in 0..4_u16,
            flags in any::<u16>(),
            payload in prop::collection::vec(any::<u8>(), 0..64),
            cut in 0..80_usize,
            noise in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let batch = batch(&["a", "b"]);
            let mut bytes = message(kind, flags, 8, &payload);
            bytes.truncate(cut);
            bytes.extend_from_slice(&noise);
            exchange(&batch).read(&bytes);
            attribute(&noise, 1);
        }
    }
}
