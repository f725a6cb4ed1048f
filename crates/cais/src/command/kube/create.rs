//! `cais create -f FILE`, and what is made of a few words: `cais create deployment web --image=app`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::cluster::file::{Document, Files};
use super::super::cluster::{self, Cluster, Outcome, Trouble, select};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais create -f FILE | KIND NAME [OPTIONS] [-- COMMAND [ARG...]]")]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// The images of a deployment or a job
    #[arg(long)]
    image: Vec<String>,
    /// How many pods a deployment has
    #[arg(short, long, value_name = "NUMBER", default_value_t = 1, hide_default_value = true)]
    replicas: u32,
    /// The port of a deployment's container
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// When a cron job begins
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// A key and its value, of a configuration or a secret
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A file, or a key and a file, of a configuration or a secret
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<String>,
    /// A file with a key and a value on each line
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<String>,
    /// The certificate of a secret for TLS
    #[arg(long, value_name = "FILE")]
    cert: Option<String>,
    /// The key of a secret for TLS
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// The type of a secret
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A kind and a name
    #[arg(value_name = "KIND")]
    words: Vec<String>,
    /// The command of the container
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let documents = match args.files.is_empty() {
            false => args.files.read()?,
            true => vec![Document { object: args.object()?, place: "the command line".to_owned() }],
        };
        if documents.is_empty() {
            return Err(Trouble::local("no objects passed to create"));
        }
        let printed = Printed::new(session, args.output.as_deref())?;
        let mut code = 0;
        for document in &documents {
            let shown = make(&cluster, args, document).and_then(|object| {
                printed.show(&object, &args.dry_run.says("created"), cluster.kinds()?)
            });
            if let Err(trouble) = shown {
                trouble.tell();
                code = 1;
            }
        }
        Ok(code)
    })
}

fn make(cluster: &Cluster, args: &Args, document: &Document) -> Outcome<Value> {
    let item = select::of_document(cluster, cluster.kinds()?, document)?;
    if args.dry_run.is_client() {
        return Ok(document.object.clone());
    }
    let mut query = args.dry_run.query();
    query.push(("fieldManager", "kubectl-create".to_owned()));
    query.push(("fieldValidation", "Strict".to_owned()));
    let path = item.kind.path(&item.namespace, &[], &query);
    let made = cluster.send("POST", path, "application/json", &document.object);
    made.map(|(_, object)| object).map_err(|trouble| match trouble {
        // As kubectl says it of what is made of words.
        Trouble::Refused(status) if args.files.is_empty() && status["code"] == 409 => {
            let message = status["message"].as_str().unwrap_or_default();
            Trouble::local(format!("failed to create {}: {message}", item.kind.kind.to_lowercase()))
        }
        trouble => trouble,
    })
}

impl Args {
    /// What is made of the words.
    fn object(&self) -> Outcome<Value> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words[..] {
            ["namespace" | "ns", name] => Ok(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            })),
            ["serviceaccount" | "sa", name] => Ok(json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
            })),
            ["configmap" | "cm", name] => self.config_map(name),
            ["secret", "generic", name] => self.secret(name),
            ["secret", "tls", name] => self.tls(name),
            ["deployment" | "deploy", name] => self.deployment(name),
            ["job", name] => {
                let spec = json!({"template": self.template(name, "Never")?});
                Ok(json!({
                    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec,
                }))
            }
            ["cronjob" | "cj", name] => {
                let Some(schedule) = &self.schedule else {
                    return Err(Trouble::local("required flag(s) \"schedule\" not set"));
                };
                let job = json!({"metadata": {"name": name}, "spec": {"template": self.template(name, "OnFailure")?}});
                Ok(json!({
                    "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
                    "spec": {"schedule": schedule, "jobTemplate": job},
                }))
            }
            [] => Err(Trouble::local("must specify one of -f and -k")),
            [kind] => Err(Trouble::local(format!("exactly one NAME is required of {kind}, got 0"))),
            [kind, ..] => Err(Trouble::local(format!("{kind} is not made of words"))
                .hint("`cais create -f FILE` makes objects of every kind")),
        }
    }

    fn containers(&self, name: &str) -> Outcome<Vec<Value>> {
        if self.image.is_empty() {
            return Err(Trouble::local("required flag(s) \"image\" not set"));
        }
        let is_one = self.image.len() == 1;
        let container = |image: &String| {
            let own = image.rsplit('/').next().unwrap_or_default();
            let own = own.split([':', '@']).next().unwrap_or(name);
            let own = if is_one && self.words[0].contains("job") { name } else { own };
            let mut container = json!({"image": image, "name": own.replace('_', "-")});
            if !self.command.is_empty() {
                container["command"] = json!(self.command);
            }
            if let Some(port) = self.port {
                container["ports"] = json!([{"containerPort": port}]);
            }
            container
        };
        Ok(self.image.iter().map(container).collect())
    }

    fn template(&self, name: &str, restarts: &str) -> Outcome<Value> {
        Ok(json!({"spec": {"containers": self.containers(name)?, "restartPolicy": restarts}}))
    }

    fn deployment(&self, name: &str) -> Outcome<Value> {
        let labels = json!({"app": name});
        Ok(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": self.containers(name)?},
                },
            },
        }))
    }

    /// Keys and values, of all that was named.
    fn data(&self) -> Outcome<Vec<(String, Vec<u8>)>> {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        for text in &self.from_literal {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                Trouble::local(format!("invalid literal source {text}, expected key=value"))
            })?;
            all.push((key.to_owned(), value.as_bytes().to_vec()));
        }
        for text in &self.from_file {
            let (key, path) =
                text.split_once('=').map_or((None, text.as_str()), |(key, path)| (Some(key), path));
            let path = Path::new(path);
            if key.is_none() && path.is_dir() {
                let bad =
                    |error| Trouble::local(format!("error reading {}: {error}", path.display()));
                let mut files: Vec<_> =
                    std::fs::read_dir(path).map_err(bad)?.flatten().map(|own| own.path()).collect();
                files.retain(|own| own.is_file());
                files.sort();
                for file in files {
                    all.push((file_name(&file), bytes(&file)?));
                }
                continue;
            }
            all.push((key.map_or_else(|| file_name(path), str::to_owned), bytes(path)?));
        }
        for path in &self.from_env_file {
            let text = bytes(Path::new(path))?;
            for line in String::from_utf8_lossy(&text).lines() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                all.push((key.to_owned(), value.as_bytes().to_vec()));
            }
        }
        let mut keys: Vec<&String> = all.iter().map(|(key, _)| key).collect();
        keys.sort();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Trouble::local(format!(
                "cannot add key {}, another key by that name already exists",
                pair[0]
            ))),
            None => Ok(all),
        }
    }

    fn config_map(&self, name: &str) -> Outcome<Value> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        for (key, value) in self.data()? {
            match String::from_utf8(value) {
                Ok(text) => object["data"][key] = text.into(),
                Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
            }
        }
        Ok(object)
    }

    fn secret(&self, name: &str) -> Outcome<Value> {
        let data =
            self.data()?.into_iter().map(|(key, value)| (key, STANDARD.encode(value).into()));
        let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        let data: Map<String, Value> = data.collect();
        if !data.is_empty() {
            object["data"] = data.into();
        }
        if let Some(kind) = &self.kind {
            object["type"] = kind.as_str().into();
        }
        Ok(object)
    }

    fn tls(&self, name: &str) -> Outcome<Value> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Err(Trouble::local("key and cert must be specified"));
        };
        let file = |path: &String| bytes(Path::new(path)).map(|bytes| STANDARD.encode(bytes));
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "type": "kubernetes.io/tls", "data": {"tls.crt": file(cert)?, "tls.key": file(key)?},
        }))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn bytes(path: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Trouble::local(format!("error reading {}: {error}", path.display())))
}
