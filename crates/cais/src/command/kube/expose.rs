//! `cais expose`

use serde_json::{Map, Value, json};

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item};
use super::super::cluster::{self, Outcome, Query, Trouble, list, name};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// What `expose` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service's name; without one, that of what is exposed
    #[arg(long)]
    name: Option<String>,
    /// The service's port; without one, those of the containers
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The port of the containers, or its name
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long)]
    protocol: Option<String>,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The labels of the pods; without them, those that are selected
    #[arg(long, value_name = "LABELS")]
    selector: Option<String>,
    /// The service's labels
    #[arg(short, long, value_name = "LABELS")]
    labels: Option<String>,
    /// The service's address, or None for a service without one
    #[arg(long, value_name = "ADDRESS")]
    cluster_ip: Option<String>,
    /// Another address that leads to it
    #[arg(long, value_name = "ADDRESS")]
    external_ip: Option<String>,
    /// None or ClientIP
    #[arg(long, value_name = "HOW")]
    session_affinity: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A kind and a name, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let items = select::all(&cluster, &args.words, &args.files)?;
        let printed = Printed::new(session, args.output.as_deref())?;
        let services = cluster.kind("services")?;
        for (item, object) in select::each(&cluster, items, &Query::new())? {
            let service = args.service(&item, &object)?;
            let made = match args.dry_run.is_client() {
                true => service,
                false => {
                    let path = services.path(&item.namespace, &[], &args.dry_run.query());
                    cluster.send("POST", path, "application/json", &service)?.1
                }
            };
            printed.show(&made, &args.dry_run.says("exposed"), cluster.kinds()?)?;
        }
        Ok(0)
    })
}

/// `a=b,c=d`
fn pairs(text: &str) -> Outcome<Map<String, Value>> {
    let pair = |word: &str| {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| Trouble::local(format!("invalid label spec: {word}")))?;
        Ok((key.to_owned(), value.into()))
    };
    text.split(',').filter(|word| !word.is_empty()).map(pair).collect()
}

impl Args {
    fn service(&self, item: &Item, object: &Value) -> Outcome<Value> {
        let selector = match &self.selector {
            Some(text) => pairs(text)?,
            None => selected(item, object)?,
        };
        let labels = match &self.labels {
            Some(text) => pairs(text)?,
            None => object["metadata"]["labels"].as_object().cloned().unwrap_or_default(),
        };
        let own = self.name.as_deref().unwrap_or(name(object));
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": own, "namespace": item.namespace},
            "spec": {"ports": self.ports(item, object)?, "selector": selector},
        });
        if !labels.is_empty() {
            service["metadata"]["labels"] = labels.into();
        }
        let spec = &mut service["spec"];
        for (field, value) in [
            ("type", &self.kind),
            ("clusterIP", &self.cluster_ip),
            ("sessionAffinity", &self.session_affinity),
        ] {
            if let Some(value) = value {
                spec[field] = value.as_str().into();
            }
        }
        if let Some(address) = &self.external_ip {
            spec["externalIPs"] = json!([address]);
        }
        Ok(service)
    }

    fn ports(&self, item: &Item, object: &Value) -> Outcome<Vec<Value>> {
        let own = open_ports(item, object);
        let ports: Vec<(u16, String)> = match self.port {
            Some(port) => {
                let protocol =
                    own.iter().find(|(own, _)| *own == port).map(|(_, protocol)| protocol.clone());
                vec![(port, protocol.unwrap_or_else(|| "TCP".to_owned()))]
            }
            None if own.is_empty() => {
                return Err(Trouble::local("couldn't find port via --port flag or introspection"));
            }
            None => own,
        };
        let count = ports.len();
        let one = |(at, (port, protocol)): (usize, (u16, String))| {
            let target = match &self.target_port {
                Some(text) => {
                    text.parse::<u16>().map_or_else(|_| json!(text), |number| json!(number))
                }
                None => json!(port),
            };
            let protocol = self.protocol.clone().unwrap_or(protocol);
            let mut port = json!({"port": port, "protocol": protocol, "targetPort": target});
            if count > 1 {
                port["name"] = format!("port-{}", at + 1).into();
            }
            port
        };
        Ok(ports.into_iter().enumerate().map(one).collect())
    }
}

/// The labels of the pods of what is exposed.
fn selected(item: &Item, object: &Value) -> Outcome<Map<String, Value>> {
    let labels = match item.kind.kind.as_str() {
        "Pod" => &object["metadata"]["labels"],
        "Service" | "ReplicationController" => &object["spec"]["selector"],
        "Deployment" | "ReplicaSet" => {
            if list(object, "/spec/selector/matchExpressions").next().is_some() {
                return Err(Trouble::local(
                    "couldn't convert expressions - cannot be converted to a map of labels",
                ));
            }
            &object["spec"]["selector"]["matchLabels"]
        }
        _ => {
            let kind = item.kind.resource();
            return Err(Trouble::local(format!(
                "cannot expose a {kind}: it has no pods that a service could select"
            )));
        }
    };
    match labels.as_object().filter(|labels| !labels.is_empty()) {
        Some(labels) => Ok(labels.clone()),
        None => Err(Trouble::local("the pod has no labels and cannot be exposed")),
    }
}

/// The ports of the containers, or of the service, with their protocols.
fn open_ports(item: &Item, object: &Value) -> Vec<(u16, String)> {
    let (place, field) = match item.kind.kind.as_str() {
        "Service" => ("/spec", "port"),
        "Pod" => ("/spec/containers", "containerPort"),
        _ => ("/spec/template/spec/containers", "containerPort"),
    };
    let ports = |of: &Value| -> Vec<(u16, String)> {
        let all = list(of, "/ports").filter_map(|port| {
            let number = u16::try_from(port[field].as_u64()?).ok()?;
            Some((number, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
        });
        all.collect()
    };
    match object.pointer(place) {
        Some(Value::Array(containers)) => containers.iter().flat_map(ports).collect(),
        Some(spec) => ports(spec),
        None => Vec::new(),
    }
}
