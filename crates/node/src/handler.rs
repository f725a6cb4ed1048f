//! Asking a container something: a command in it, an HTTP request, a connection. For probes and hooks.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use engine::{Container, Exec, Said};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::field::{items, text, texts};
use crate::host::Host;
use crate::probe::tls::{self, Stream};

/// How much of an answer is looked at, in bytes; upstream's limit for output of probes.
const ANSWER_BYTES_MAX: usize = 10 << 10;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It went well; what was written.
    Success(String),
    /// It did not, in upstream's words.
    Failure(String),
    /// It could not be tried.
    Error(String),
}

/// Whom a handler is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) container: &'a Container,
    /// What the pod says of the container: for names of ports.
    pub(crate) spec: &'a Value,
    /// The pod's address.
    pub(crate) address: &'a str,
}

impl Host {
    /// Tries a handler, for at most a time.
    pub(crate) fn ask(&self, handler: &Value, of: Asked<'_>, longest: Duration) -> Outcome {
        if handler["exec"].is_object() {
            return self.execute(of.container, texts(&handler["exec"], "command"), longest);
        }
        if handler["httpGet"].is_object() {
            return match get(&handler["httpGet"], of, longest) {
                Ok(outcome) => outcome,
                Err(why) => Outcome::Failure(why),
            };
        }
        if handler["tcpSocket"].is_object() {
            let socket = &handler["tcpSocket"];
            let connected = port(&socket["port"], of.spec)
                .ok_or_else(|| format!("no port {}", socket["port"]))
                .and_then(|port| connect(host(text(socket, &["host"]), of), port, longest));
            return match connected {
                Ok(_) => Outcome::Success(String::new()),
                Err(why) => Outcome::Failure(why),
            };
        }
        if handler["grpc"].is_object() {
            return crate::probe::grpc::ask(&handler["grpc"], of, longest);
        }
        if let Some(seconds) = handler["sleep"]["seconds"].as_u64() {
            std::thread::sleep(Duration::from_secs(seconds).min(longest));
            return Outcome::Success(String::new());
        }
        Outcome::Error("there is no handler".to_owned())
    }

    /// Executes a command in a container, and kills it after a time.
    pub(crate) fn execute(
        &self,
        container: &Container,
        command: Vec<String>,
        longest: Duration,
    ) -> Outcome {
        let exec = Exec {
            command,
            attached: engine::Attached { stdout: true, stderr: true, stdin: false },
            ..Exec::default()
        };
        let begun = self.engine.create_exec(container, &exec);
        let begun = begun.and_then(|id| Ok((self.spawner.exec(&id, true)?, id)));
        let (conversation, id) = match begun {
            Ok((Some(conversation), id)) => (conversation, id),
            Ok((None, _)) => return Outcome::Error("nobody to talk with".to_owned()),
            Err(error) => {
                let text = crate::image::chain(&error);
                // A command that is not there has failed, and the container is as it is.
                return match error.kind() {
                    engine::Kind::CommandNotFound | engine::Kind::CommandNotExecutable => {
                        Outcome::Failure(text)
                    }
                    _ => Outcome::Error(text),
                };
            }
        };
        let outcome = listen(conversation, longest);
        if outcome.is_none()
            && let Ok(instance) = self.engine.exec_instance(&id)
            && instance.is_running()
            && let Some(pid) = Pid::from_raw(instance.state.pid)
        {
            // It is a process of the container's until its holder has seen its end.
            let _ = kill_process(pid, Signal::KILL);
        }
        outcome.unwrap_or_else(|| {
            Outcome::Failure(format!("command timed out after {}s", longest.as_secs()))
        })
    }
}

/// What a command says, and how it ends; none if it takes too long.
fn listen(mut conversation: engine::Conversation, longest: Duration) -> Option<Outcome> {
    let deadline = Instant::now() + longest;
    let mut output = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut set = [PollFd::new(&conversation, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut set, Some(&left)));
        if ready.unwrap_or(0) == 0 {
            return None;
        }
        match conversation.listen() {
            Said::Stdout(bytes) | Said::Stderr(bytes) => {
                let room = ANSWER_BYTES_MAX.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Said::Exit(code) => {
                let text = String::from_utf8_lossy(&output).into_owned();
                return Some(if code == 0 {
                    Outcome::Success(text)
                } else {
                    Outcome::Failure(text)
                });
            }
            Said::Gone => return Some(Outcome::Error("the command has gone".to_owned())),
        }
    }
}

fn host<'a>(asked: &'a str, of: Asked<'a>) -> &'a str {
    if asked.is_empty() { of.address } else { asked }
}

/// A port by its number, or by its name in the container.
pub(crate) fn port(value: &Value, container: &Value) -> Option<u16> {
    if let Some(number) = value.as_u64() {
        return u16::try_from(number).ok();
    }
    let name = value.as_str()?;
    let named = items(container, "ports").iter().find(|port| text(port, &["name"]) == name);
    match named {
        Some(port) => u16::try_from(port["containerPort"].as_u64()?).ok(),
        None => name.parse().ok(),
    }
}

/// Connects, within a time; reads and writes take no longer either.
pub(crate) fn connect(host: &str, port: u16, longest: Duration) -> Result<TcpStream, String> {
    let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port),
        Err(_) => {
            let mut found = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
            found.next().ok_or_else(|| format!("no address of {host}"))?
        }
    };
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        std::io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {address}: connect: connection refused")
        }
        _ => format!("dial tcp {address}: {error}"),
    };
    let stream = TcpStream::connect_timeout(&address, longest).map_err(failed)?;
    let limit = stream.set_read_timeout(Some(longest));
    limit.and_then(|()| stream.set_write_timeout(Some(longest))).map_err(failed)?;
    Ok(stream)
}

/// Asks by HTTP: a status from 200 to 399 is good.
fn get(handler: &Value, of: Asked<'_>, longest: Duration) -> Result<Outcome, String> {
    let is_secret = text(handler, &["scheme"]).eq_ignore_ascii_case("https");
    let port =
        port(&handler["port"], of.spec).ok_or_else(|| format!("no port {}", handler["port"]))?;
    let host = host(text(handler, &["host"]), of);
    let path = text(handler, &["path"]);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let scheme = if is_secret { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{port}{path}");
    let quoted = |why: &str| format!("Get \"{url}\": {why}");
    let deadline = Instant::now() + longest;
    let stream = connect(host, port, longest).map_err(|why| quoted(&why))?;
    let mut stream: Box<dyn Stream> = match is_secret {
        true => tls::connect(stream, host).map_err(|why| quoted(&why))?,
        false => Box::new(stream),
    };
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let mut fields = vec![
        ("Host".to_owned(), format!("{host}:{port}")),
        ("User-Agent".to_owned(), "kube-probe/1.34".to_owned()),
        ("Accept".to_owned(), "*/*".to_owned()),
        ("Connection".to_owned(), "close".to_owned()),
    ];
    for header in items(handler, "httpHeaders") {
        let (name, value) = (text(header, &["name"]), text(header, &["value"]));
        if [name, value].iter().any(|part| part.contains(['\r', '\n'])) {
            return Err(quoted("a header has more than one line"));
        }
        fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        fields.push((name.to_owned(), value.to_owned()));
    }
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let timed_out = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    stream.write_all(request.as_bytes()).map_err(|_| quoted(timed_out))?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() < ANSWER_BYTES_MAX && !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if Instant::now() >= deadline {
            return Err(quoted(timed_out));
        }
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // Whoever closes a connection of TLS without a word has said all that is wanted.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(quoted(timed_out));
            }
            Err(error) => return Err(quoted(&error.to_string())),
        }
    }
    let head = String::from_utf8_lossy(&answer);
    let status = head.lines().next().unwrap_or_default();
    let code: Option<u16> = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(match code {
        Some(200..=399) if status.starts_with("HTTP/1.") => Outcome::Success(String::new()),
        Some(code) if status.starts_with("HTTP/1.") => {
            Outcome::Failure(format!("HTTP probe failed with statuscode: {code}"))
        }
        _ => Outcome::Failure(quoted("EOF")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_have_numbers_and_names() {
        let container = json!({"ports": [{"name": "web", "containerPort": 8080}]});
        assert_eq!(port(&json!(80), &container), Some(80));
        assert_eq!(port(&json!("web"), &container), Some(8080));
        assert_eq!(port(&json!("81"), &container), Some(81));
        assert_eq!(port(&json!("other"), &container), None);
    }
}
