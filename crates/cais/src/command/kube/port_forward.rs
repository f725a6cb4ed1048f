//! `cais port-forward`

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use client::https::WebSocket;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;

use super::super::cluster::{
    self, Cluster, Outcome, Trouble, list, name, namespace, note, pods, word,
};
use crate::session::Session;

/// One channel for each direction and one for errors, which the number of the port begins.
const PROTOCOL: &str = "v4.channel.k8s.io";
const DATA: u8 = 0;
const ERROR: u8 = 1;
/// What is passed on at once, in bytes.
const PIECE: usize = 32 << 10;

/// What `port-forward` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: addresses, or localhost
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A pod, or KIND/NAME; then ports, as in 8080:80, 80 or :80
    #[arg(value_name = "POD|KIND/NAME", num_args = 2.., required = true)]
    words: Vec<String>,
}

/// A port here and one there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: String,
}

impl Ports {
    fn parse(text: &str) -> Outcome<Self> {
        let bad = || Trouble::local(format!("invalid port format '{text}'"));
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = match local {
            "" => 0,
            local => local.parse().map_err(|_| bad())?,
        };
        if remote.is_empty() {
            return Err(bad());
        }
        Ok(Self { local, remote: remote.to_owned() })
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let (word, ports) = args.words.split_first().expect("clap requires two words");
        let cluster = args.cluster.connect(session)?;
        let ports = ports.iter().map(|text| Ports::parse(text)).collect::<Outcome<Vec<_>>>()?;
        let (pod, service) = target(&cluster, word)?;
        let phase = cluster::word(&pod, "/status/phase");
        if phase != "Running" {
            return Err(Trouble::local(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            )));
        }
        let mut listeners = Vec::new();
        for own in &ports {
            let remote = remote(&pod, service.as_ref(), &own.remote)?;
            for listener in listen(&args.address, own.local)? {
                let here =
                    listener.local_addr().map_err(|error| Trouble::local(error.to_string()))?;
                session.say(format!("Forwarding from {here} -> {remote}"))?;
                listeners.push((listener, remote));
            }
        }
        serve(session, &cluster, &pod, &listeners)
    })
}

/// The pod that connections go to, and the service whose ports they are.
fn target(cluster: &Cluster, word: &str) -> Outcome<(Value, Option<Value>)> {
    let pod = pods::one(cluster, word)?;
    let kind = word.split_once('/').map_or("pod", |(kind, _)| kind);
    let kind = cluster.kind(kind)?;
    let is_service = kind.group.is_empty() && kind.kind == "Service";
    let own = word.split_once('/').map_or(word, |(_, name)| name);
    let service = is_service.then(|| cluster.get(&kind, &cluster.namespace, own)).transpose()?;
    Ok((pod, service))
}

/// The number of a port of a pod's, of what a port or a service's port is called.
fn remote(pod: &Value, service: Option<&Value>, text: &str) -> Outcome<u16> {
    let number: Option<u16> = text.parse().ok();
    let missing =
        || Trouble::local(format!("Pod '{}' does not have a named port '{text}'", name(pod)));
    let mut wanted = text.to_owned();
    if let Some(service) = service {
        let is_it = |port: &&Value| match number {
            Some(number) => port["port"] == number,
            None => word(port, "/name") == text,
        };
        let port = list(service, "/spec/ports").find(is_it).ok_or_else(|| {
            Trouble::local(format!("Service {} does not have a service port {text}", name(service)))
        })?;
        wanted = match &port["targetPort"] {
            Value::String(name) => name.clone(),
            Value::Number(number) => number.to_string(),
            _ => port["port"].to_string(),
        };
    }
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    let of_pod = list(pod, "/spec/containers").flat_map(|own| list(own, "/ports"));
    let found = of_pod.into_iter().find(|port| word(port, "/name") == wanted);
    let found = found.and_then(|port| port["containerPort"].as_u64());
    found.and_then(|number| u16::try_from(number).ok()).ok_or_else(missing)
}

fn listen(addresses: &[String], port: u16) -> Outcome<Vec<TcpListener>> {
    let mut all: Vec<TcpListener> = Vec::new();
    for text in addresses {
        let (addresses, is_each): (Vec<IpAddr>, bool) = match text.as_str() {
            "localhost" => (
                vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1])],
                false,
            ),
            text => {
                let address = text
                    .parse()
                    .map_err(|_| Trouble::local(format!("{text} is not a valid IP")))?;
                (vec![address], true)
            }
        };
        for address in addresses {
            // The same port on both addresses of this host.
            let known = all.first().and_then(|own| own.local_addr().ok()).map(|own| own.port());
            let port = if port == 0 { known.unwrap_or(0) } else { port };
            match TcpListener::bind(SocketAddr::from((address, port))) {
                Ok(listener) => all.push(listener),
                Err(error) if is_each || all.is_empty() && address.is_ipv6() => {
                    return Err(Trouble::local(format!(
                        "unable to listen on port {port}: {error}"
                    )));
                }
                Err(_) => {}
            }
        }
    }
    Ok(all)
}

/// Takes connections until it is killed.
fn serve(
    session: &Session,
    cluster: &Cluster,
    pod: &Value,
    listeners: &[(TcpListener, u16)],
) -> Outcome<i32> {
    let failed = |error: io::Error| Trouble::local(format!("take a connection: {error}"));
    thread::scope(|scope| {
        loop {
            let mut set: Vec<PollFd<'_>> =
                listeners.iter().map(|(own, _)| PollFd::new(own, PollFlags::IN)).collect();
            rustix::io::retry_on_intr(|| poll(&mut set, None))
                .map_err(|error| failed(error.into()))?;
            let ready: Vec<bool> = set.iter().map(|own| !own.revents().is_empty()).collect();
            for ((listener, remote), _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
                let Ok((socket, _)) = listener.accept() else { continue };
                let here = listener.local_addr().map_or(0, |own| own.port());
                session.say(format!("Handling connection for {here}"))?;
                let https = &cluster.https;
                let path = target_path(pod, *remote);
                scope.spawn(move || {
                    let passed = https
                        .web_socket(&path, &[PROTOCOL])
                        .map_err(|failure| failure.message)
                        .and_then(|mut own| pass_on(&mut own, socket).map_err(|e| e.to_string()));
                    if let Err(why) = passed {
                        note(&format!(
                            "error: an error occurred forwarding {here} -> {remote}: {why}"
                        ));
                    }
                });
            }
        }
    })
}

fn target_path(pod: &Value, port: u16) -> String {
    let parts = ["api", "v1", "namespaces", namespace(pod), "pods", name(pod), "portforward"];
    client::https::target(&parts, &[("ports", port.to_string())])
}

/// Passes on what both sides say, until one of them ends.
fn pass_on(remote: &mut WebSocket, mut local: TcpStream) -> io::Result<()> {
    local.set_nonblocking(false)?;
    let mut begun = [false; 2];
    let mut is_open = true;
    loop {
        loop {
            match remote.try_receive() {
                Ok(Some(message)) => hear(&message, &mut begun, &mut local)?,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut set = vec![PollFd::new(&*remote, PollFlags::IN)];
        if is_open {
            set.push(PollFd::new(&local, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut set, None))?;
        let says = set.get(1).is_some_and(|own| !own.revents().is_empty());
        drop(set);
        if says {
            let mut message = vec![DATA; PIECE];
            match local.read(&mut message[1..])? {
                0 => {
                    is_open = false;
                    remote.close();
                }
                length => remote.send(&message[..=length])?,
            }
        }
    }
}

fn hear(message: &[u8], begun: &mut [bool; 2], local: &mut TcpStream) -> io::Result<()> {
    let Some((&channel, mut bytes)) = message.split_first() else { return Ok(()) };
    let Some(begun) = begun.get_mut(usize::from(channel)) else { return Ok(()) };
    if !*begun {
        // The first two bytes of each channel are the port's number.
        *begun = true;
        bytes = bytes.get(2..).unwrap_or_default();
    }
    match channel {
        ERROR if !bytes.is_empty() => {
            Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned()))
        }
        DATA => local.write_all(bytes),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_read_and_found() {
        let read = |text: &str| Ports::parse(text).ok().map(|own| (own.local, own.remote));
        assert_eq!(read("8080:80"), Some((8080, "80".to_owned())));
        assert_eq!(read("80"), Some((80, "80".to_owned())));
        assert_eq!(read(":http"), Some((0, "http".to_owned())));
        assert_eq!(read("x:80"), None);
        let pod =
            json!({"spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}]}]}});
        let service = json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}});
        assert_eq!(remote(&pod, None, "http").unwrap(), 8000);
        assert_eq!(remote(&pod, Some(&service), "80").unwrap(), 8000);
        assert!(remote(&pod, Some(&service), "81").is_err());
        assert!(remote(&pod, None, "x").is_err());
    }
}
