//! What the containers of a pod are made of, as the API and this host have it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use client::{Object, kind};
use objects::Quantity;
use serde_json::{Value, json};

use crate::env::Sources;
use crate::field::{items, text};
use crate::host::Host;
use crate::pod::{name, namespace, uid};
use crate::volume::Origins;

/// The origins of one pod's values.
pub(crate) struct Origin<'a> {
    pub(crate) host: &'a Host,
    pub(crate) pod: &'a Value,
    /// The addresses of the pod.
    pub(crate) addresses: &'a [String],
}

impl Sources for Origin<'_> {
    fn data(&self, of: &'static str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let object = self.host.client.get(kind(of), namespace(self.pod), name).ok()?;
        let decode = |value: &Value| {
            let text = value.as_str()?;
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        };
        let map = |field: &str| object[field].as_object().cloned().into_iter().flatten();
        let mut data = BTreeMap::new();
        match of {
            "Secret" => {
                data.extend(map("data").filter_map(|(key, value)| Some((key, decode(&value)?))));
            }
            _ => {
                let text = |value: Value| Some(value.as_str()?.as_bytes().to_vec());
                data.extend(map("data").filter_map(|(key, value)| Some((key, text(value)?))));
                let binary = map("binaryData");
                data.extend(binary.filter_map(|(key, value)| Some((key, decode(&value)?))));
            }
        }
        Some(data)
    }

    fn status(&self, path: &str) -> Option<String> {
        match path {
            "status.podIP" => Some(self.addresses.first().cloned().unwrap_or_default()),
            "status.podIPs" => Some(self.addresses.join(",")),
            "status.hostIP" | "status.hostIPs" => Some(self.host.facts.address.clone()),
            _ => None,
        }
    }

    fn allocatable(&self, resource: &str) -> Option<Quantity> {
        match resource {
            "cpu" => Some(Quantity::units(i64::try_from(self.host.facts.processors).ok()?)),
            "memory" => Some(Quantity::units(i64::try_from(self.host.facts.memory_bytes).ok()?)),
            _ => None,
        }
    }

    fn services(&self) -> Vec<Object> {
        let mut all = Vec::new();
        let of = kind("Service");
        if self.pod["spec"]["enableServiceLinks"] != false {
            let list = self.host.client.list(of, namespace(self.pod), &[]);
            all.extend(list.map(|(items, _)| items).unwrap_or_default());
        }
        if namespace(self.pod) != "default" || all.is_empty() {
            all.extend(self.host.client.get(of, "default", "kubernetes"));
        }
        all.into_iter().map(Object::new).collect()
    }
}

impl Origins for Origin<'_> {
    fn token(&self, audience: &str, seconds: i64) -> Result<String, String> {
        let account = match text(self.pod, &["spec", "serviceAccountName"]) {
            "" => "default",
            account => account,
        };
        let audiences: Vec<&str> = [audience].into_iter().filter(|word| !word.is_empty()).collect();
        let asked = json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "kind": "Pod", "apiVersion": "v1", "name": name(self.pod), "uid": uid(self.pod),
                },
            },
        });
        let place = (namespace(self.pod), account);
        let made = self.host.client.post(kind("ServiceAccount"), place, "token", &asked);
        let made = made.map_err(|why| format!("failed to fetch token: {why}"))?;
        match text(&made, &["status", "token"]) {
            "" => Err("failed to fetch token: the answer has none".to_owned()),
            token => Ok(token.to_owned()),
        }
    }

    fn claim(&self, claim: &str) -> Result<(PathBuf, bool), String> {
        let client = &self.host.client;
        let found = client.get(kind("PersistentVolumeClaim"), namespace(self.pod), claim);
        let found = found.map_err(|_| format!("persistentvolumeclaim \"{claim}\" not found"))?;
        let volume = text(&found, &["spec", "volumeName"]);
        if volume.is_empty() {
            return Err(format!("persistentvolumeclaim \"{claim}\" is not bound"));
        }
        let volume = client.get(kind("PersistentVolume"), "", volume);
        let volume = volume.map_err(|why| why.to_string())?;
        let spec = &volume["spec"];
        let modes = items(&found["spec"], "accessModes");
        let is_read_only = !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany");
        for kind in ["hostPath", "local"] {
            let path = text(spec, &[kind, "path"]);
            if !path.is_empty() {
                let path = PathBuf::from(path);
                self.host.make_claimed(&volume, &path)?;
                std::fs::create_dir_all(&path)
                    .map_err(|error| format!("make {}: {error}", path.display()))?;
                return Ok((path, is_read_only));
            }
        }
        Err(format!("persistent volumes as {} are not supported", name(&volume)))
    }
}
