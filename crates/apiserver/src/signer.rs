//! Answers requests for certificates (upstream's controllers `csrapproving` and `csrsigning`).
//!
//! Those of nodes are approved here: of one that joins, by its token; of one that has joined, by what it
//! has. Others are approved by people. What is approved is signed if its signer's rules allow it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use client::{Cache, Client, Failure, Patch, Reflector, kind};
use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::authentication::{BOOTSTRAPPERS, MASTERS};
use crate::cluster::items;
use crate::signing::Asked;

/// The signers that are served.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVER: &str = "kubernetes.io/kubelet-serving";
/// Who nodes are.
const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";
/// How long a watch waits before it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After the API could not be asked.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The shortest time that may be asked for; upstream's.
const SECONDS_MIN: u64 = 600;

/// Answers requests for certificates.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// Names and addresses of the server itself, which nobody else may have.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    longest: Duration,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("longest", &self.longest).finish_non_exhaustive()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Somebody else decides, or has decided.
    Wait,
    /// It is signed, and approved before that if nobody has done so.
    Sign { approves: bool },
    /// It is not signed, approved or not.
    Refuse(String),
}

impl Signer {
    pub(crate) fn new(
        issuer: Issuer<'static, KeyPair>,
        (names, addresses): (Vec<String>, Vec<IpAddr>),
        longest: Duration,
    ) -> Self {
        Self { issuer, names, addresses, longest }
    }

    /// Answers requests until `is_over`.
    pub fn run(&self, client: &Client, is_over: &AtomicBool) {
        let cache = Cache::default();
        let mut reflector = Reflector::new(client.clone(), kind("CertificateSigningRequest"), &[]);
        while !is_over.load(Ordering::Relaxed) {
            match reflector.step(&cache, LOOK_EVERY) {
                Ok(changes) => {
                    for request in changes.iter().filter_map(|change| change.now.as_deref()) {
                        // A conflict comes again as news.
                        let _ = self.answer(client, request);
                    }
                }
                Err(_) => std::thread::sleep(RETRY_AFTER),
            }
        }
    }

    fn answer(&self, client: &Client, request: &Value) -> Result<(), Failure> {
        let spec = &request["spec"];
        let encoded = spec["request"].as_str().unwrap_or_default();
        let pem = BASE64_STANDARD.decode(encoded).unwrap_or_default();
        let asked = Asked::parse(&String::from_utf8_lossy(&pem));
        let of = kind("CertificateSigningRequest");
        let name = request["metadata"]["name"].as_str().unwrap_or_default();
        let change = |subresource: &str, status: Value| {
            let patch = json!({"status": status});
            client.patch(of, ("", name), subresource, Patch::Merge, &patch).map(drop)
        };
        let verdict = match &asked {
            Err(why) if self.is_served(request) && is(request, "Approved") => {
                Verdict::Refuse((*why).to_owned())
            }
            Err(_) => Verdict::Wait,
            Ok(asked) => {
                let own = asked.name.strip_prefix(NODE).unwrap_or_default();
                let nodes = match spec["signerName"] == NODE_SERVER && !own.is_empty() {
                    true => client.list(kind("Node"), "", &[])?.0,
                    false => Vec::new(),
                };
                self.judge(request, asked, &nodes)
            }
        };
        match (verdict, asked) {
            (Verdict::Sign { approves }, Ok(asked)) => {
                if approves {
                    let message = "Auto approving the certificate of a node.";
                    let all = with(request, "Approved", "AutoApproved", message);
                    change("approval", json!({"conditions": all}))?;
                }
                let (use_, longest) = (use_of(spec), self.time(spec));
                let certificate = asked.certify(&self.issuer, use_, longest);
                let certificate = certificate.map_err(Failure::unreachable)?;
                change("status", json!({"certificate": BASE64_STANDARD.encode(certificate)}))
            }
            (Verdict::Refuse(why), _) if is(request, "Approved") => {
                let all = with(request, "Failed", "SignerValidationFailure", &why);
                change("status", json!({"conditions": all}))
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::unused_self, reason = "which signers are served is the signer's matter")]
    fn is_served(&self, request: &Value) -> bool {
        let signer = request["spec"]["signerName"].as_str().unwrap_or_default();
        [CLIENT, NODE_CLIENT, NODE_SERVER].contains(&signer)
            && request["status"]["certificate"].is_null()
            && !is(request, "Denied")
            && !is(request, "Failed")
    }

    fn judge(&self, request: &Value, asked: &Asked, nodes: &[Value]) -> Verdict {
        if !self.is_served(request) {
            return Verdict::Wait;
        }
        let spec = &request["spec"];
        let checked = match spec["signerName"].as_str() {
            Some(CLIENT) => check_client(asked, spec),
            Some(NODE_CLIENT) => check_node_client(asked, spec),
            _ => self.check_node_server(asked, spec, nodes),
        };
        if let Err(why) = checked {
            return Verdict::Refuse(why.to_owned());
        }
        let is_approved = is(request, "Approved");
        match is_approved || is_own(asked, spec) {
            true => Verdict::Sign { approves: !is_approved },
            false => Verdict::Wait,
        }
    }

    /// A node's own name and addresses, and nobody else's: whoever believes the authority would take it
    /// for them.
    fn check_node_server(
        &self,
        asked: &Asked,
        spec: &Value,
        nodes: &[Value],
    ) -> Result<(), &'static str> {
        check_node(asked)?;
        if asked.asks_others {
            return Err("only DNS and IP subjectAltNames are allowed");
        }
        check_usages(spec, "server auth")?;
        let name = asked.name.strip_prefix(NODE).unwrap_or_default();
        let is_inner = name.ends_with(".svc") || name.contains(".svc.") || name == "localhost";
        let is_server = self.names.iter().any(|own| own == name);
        if is_inner || is_server || asked.names.iter().any(|own| own != name) {
            return Err("a node's certificate has no other name than the node's");
        }
        let has = |node: &Value, address: &IpAddr| {
            let all = items(&node["status"]["addresses"]);
            let text = address.to_string();
            all.iter().any(|own| own["type"] == "InternalIP" && own["address"] == *text)
        };
        let of_own = |node: &&Value| node["metadata"]["name"] == *name;
        for address in &asked.addresses {
            let is_own = nodes.iter().filter(of_own).any(|node| has(node, address));
            let is_others =
                nodes.iter().filter(|node| !of_own(node)).any(|node| has(node, address));
            if !is_own || is_others || self.addresses.contains(address) {
                return Err("a node's certificate has no other address than the node's");
            }
        }
        Ok(())
    }

    /// How long a certificate is good.
    fn time(&self, spec: &Value) -> Duration {
        let asked = spec["expirationSeconds"].as_u64().map(|seconds| seconds.max(SECONDS_MIN));
        asked.map_or(self.longest, |seconds| Duration::from_secs(seconds).min(self.longest))
    }
}

/// Whether a node asks for itself, or whoever joins for the node that it is going to be.
fn is_own(asked: &Asked, spec: &Value) -> bool {
    let is_in = |group: &str| items(&spec["groups"]).iter().any(|own| own == group);
    let is_node = is_in(NODES) && spec["username"] == *asked.name;
    match spec["signerName"].as_str() {
        Some(NODE_CLIENT) => is_node || is_in(BOOTSTRAPPERS),
        Some(NODE_SERVER) => is_node,
        _ => false,
    }
}

fn check_client(asked: &Asked, spec: &Value) -> Result<(), &'static str> {
    if asked.groups.iter().any(|group| group == MASTERS) {
        return Err("use of kubernetes.io/kube-apiserver-client signer with system:masters group \
                    is not allowed");
    }
    check_usages(spec, "client auth")
}

fn check_node_client(asked: &Asked, spec: &Value) -> Result<(), &'static str> {
    check_node(asked)?;
    if !asked.names.is_empty() || !asked.addresses.is_empty() || asked.asks_others {
        return Err("subjectAltNames are not allowed");
    }
    check_usages(spec, "client auth")
}

fn check_node(asked: &Asked) -> Result<(), &'static str> {
    if asked.groups != [NODES] {
        return Err("subject organization is not system:nodes");
    }
    let name = asked.name.strip_prefix(NODE);
    if name.is_none_or(str::is_empty) {
        return Err("subject common name does not begin with system:node:");
    }
    Ok(())
}

/// The one usage that is needed, and those of the key.
fn check_usages(spec: &Value, needed: &str) -> Result<(), &'static str> {
    let all = items(&spec["usages"]);
    let is_known =
        |own: &Value| own == needed || own == "digital signature" || own == "key encipherment";
    match all.iter().any(|own| own == needed) && all.iter().all(is_known) {
        true => Ok(()),
        false => Err("usages did not match"),
    }
}

fn use_of(spec: &Value) -> ExtendedKeyUsagePurpose {
    match spec["signerName"] == NODE_SERVER {
        true => ExtendedKeyUsagePurpose::ServerAuth,
        false => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

fn is(request: &Value, condition: &str) -> bool {
    let all = items(&request["status"]["conditions"]);
    all.iter().any(|own| own["type"] == condition && own["status"] != "False")
}

/// A request's conditions with another one.
fn with(request: &Value, condition: &str, reason: &str, message: &str) -> Value {
    let now = objects::time::seconds(jiff::Timestamp::now().as_second());
    let mut all = items(&request["status"]["conditions"]).to_vec();
    all.push(json!({
        "type": condition, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now,
    }));
    all.into()
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;

    use super::*;
    use crate::signing::KeyRequest;

    fn signer() -> Signer {
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        let own = (vec!["kubernetes".to_owned()], vec![IpAddr::from([192, 0, 2, 9])]);
        Signer::new(issuer, own, Duration::from_secs(3600))
    }

    fn request(signer: &str, usage: &str, user: &str, group: &str) -> Value {
        json!({"spec": {
            "signerName": signer, "usages": ["digital signature", usage], "username": user,
            "groups": [group, "system:authenticated"],
        }})
    }

    fn asked(name: &str, group: &str, names: &[&str], addresses: &[[u8; 4]]) -> Asked {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|own| IpAddr::from(*own)).collect();
        let own = KeyRequest::new(name, group, (&names, &addresses)).unwrap();
        Asked::parse(&own.request).unwrap()
    }

    #[test]
    fn nodes_get_what_is_theirs_and_nothing_else() {
        let signer = signer();
        let n = asked("system:node:n", NODES, &[], &[]);
        let joins = request(NODE_CLIENT, "client auth", "system:bootstrap:a", BOOTSTRAPPERS);
        let approved = Verdict::Sign { approves: true };
        assert_eq!(signer.judge(&joins, &n, &[]), approved);
        let renews = request(NODE_CLIENT, "client auth", "system:node:n", NODES);
        assert_eq!(signer.judge(&renews, &n, &[]), approved);
        let other = request(NODE_CLIENT, "client auth", "system:node:m", NODES);
        assert_eq!(signer.judge(&other, &n, &[]), Verdict::Wait);
        let master = asked("admin", MASTERS, &[], &[]);
        let refused = |verdict: Verdict| matches!(verdict, Verdict::Refuse(_));
        assert!(refused(signer.judge(&joins, &master, &[])));
        let as_client = request(CLIENT, "client auth", "jane", "people");
        assert!(refused(signer.judge(&as_client, &master, &[])));
        let jane = asked("jane", "people", &[], &[]);
        assert_eq!(signer.judge(&as_client, &jane, &[]), Verdict::Wait);
    }

    #[test]
    fn a_nodes_server_has_its_name_and_address_alone() {
        let signer = signer();
        let node = |name: &str, address: &str| {
            json!({"metadata": {"name": name}, "status": {"addresses": [
                {"type": "InternalIP", "address": address},
            ]}})
        };
        let nodes = [node("n", "192.0.2.1"), node("m", "192.0.2.2")];
        let ask = |names: &[&str], addresses: &[[u8; 4]]| {
            let request = request(NODE_SERVER, "server auth", "system:node:n", NODES);
            let asked = asked("system:node:n", NODES, names, addresses);
            signer.judge(&request, &asked, &nodes)
        };
        assert_eq!(ask(&["n"], &[[192, 0, 2, 1]]), Verdict::Sign { approves: true });
        for (names, addresses) in [
            (&["m"][..], &[][..]),
            (&["kubernetes.default.svc"], &[]),
            (&["n"], &[[192, 0, 2, 2]]),
            (&["n"], &[[192, 0, 2, 9]]),
        ] {
            assert!(matches!(ask(names, addresses), Verdict::Refuse(_)), "{names:?} {addresses:?}");
        }
    }
}
