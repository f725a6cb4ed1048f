//! The controllers and the scheduler that run in `cais server`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use apiserver::{Cluster, InProcess, Signer};
use client::{Call, Client, Transport as _};
use control::{Metrics, Settings};
use serde_json::Value;

/// Who they are for the API.
const USER: &str = "system:kube-controller-manager";

/// Begins to decide, until `is_over`.
pub(super) fn start(
    cluster: Cluster,
    (settings, signer): (Settings, Signer),
    is_over: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let transport = Arc::new(InProcess::new(cluster.clone(), USER));
    let client = Client::new(transport.clone(), "kube-controller-manager");
    let (own, until) = (client.clone(), Arc::clone(is_over));
    let sign = move || signer.run(&own, &until);
    thread::Builder::new().name("certificates".to_owned()).spawn(sign)?;
    let is_over = Arc::clone(is_over);
    let decide = move || {
        // What a server that was killed did not come to; if it fails, the next start does it.
        let _ = cluster.sweep();
        // Without threads nothing is decided; what is served stays as it is.
        let _ = control::run(&client, (Measured(transport), settings), &is_over);
    };
    thread::Builder::new().name("control".to_owned()).spawn(decide).map(drop)
}

/// Measurements, by the API.
#[derive(Debug)]
struct Measured(Arc<InProcess>);

impl Metrics for Measured {
    fn get(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Value, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let call = Call {
            method: "GET",
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            query: query.iter().map(owned).collect(),
            content_type: "",
            body: Vec::new(),
        };
        self.0.send(&call).map_err(|failure| failure.message)
    }
}
