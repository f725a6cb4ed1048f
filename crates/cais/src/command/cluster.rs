//! What the verbs of a cluster have in common: kubectl's, with its options, words and exit codes,
//! against any Kubernetes API.

pub(super) mod columns;
pub(super) mod describe;
pub(super) mod file;
pub(super) mod jsonpath;
pub(super) mod kind;
pub(super) mod names;
pub(super) mod output;
pub(super) mod pods;
pub(crate) mod route;
pub(super) mod select;
pub(super) mod stream;
pub(super) mod table;
mod trouble;
pub(super) mod watch;
pub(super) mod yaml;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use client::https::{Request, target};
use client::kubeconfig::Overrides;
use client::{Https, Kubeconfig};
use serde_json::Value;

use crate::session::Session;
use kind::{Kind, Kinds};

pub(super) use trouble::{Outcome, Trouble, note, told};

/// The manager of what these verbs apply: kubectl's own name, so that both own the same fields.
pub(super) const APPLIER: &str = "kubectl";
/// Where a pod finds who it is.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which cluster, as whom, and in which namespace.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cluster options")]
pub(crate) struct Options {
    /// The namespace
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// The file that says where clusters are (KUBECONFIG, ~/.kube/config, or the server's here)
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// The context of the file
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The cluster of the file
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The user of the file
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The address of the server
    #[arg(short, long, value_name = "URL")]
    server: Option<String>,
    /// The token of the user
    #[arg(long)]
    token: Option<String>,
    /// The file with the authority of the server's certificate
    #[arg(long, value_name = "PATH")]
    certificate_authority: Option<PathBuf>,
    /// The file with the user's certificate
    #[arg(long, value_name = "PATH")]
    client_certificate: Option<PathBuf>,
    /// The file with its key
    #[arg(long, value_name = "PATH")]
    client_key: Option<PathBuf>,
    /// Take any certificate of the server's
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// The name in the server's certificate
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// How long to wait for an answer, as in 10s; 0 for ever
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    request_timeout: String,
    /// The user to act as
    #[arg(long = "as", value_name = "USER")]
    act_as: Option<String>,
    /// A group to act as
    #[arg(long, value_name = "GROUP")]
    as_group: Vec<String>,
}

impl Options {
    fn overrides(&self) -> Overrides {
        Overrides {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            server: self.server.clone(),
            token: self.token.clone(),
            is_insecure: self.insecure_skip_tls_verify,
            authority: self.certificate_authority.clone(),
            certificate: self.client_certificate.clone(),
            key: self.client_key.clone(),
            server_name: self.tls_server_name.clone(),
        }
    }

    /// Puts what was said into a context.
    pub(super) fn set_in(&self, context: &mut Value) {
        let said =
            [("cluster", &self.cluster), ("user", &self.user), ("namespace", &self.namespace)];
        for (field, value) in said {
            if let Some(value) = value {
                context[field] = value.as_str().into();
            }
        }
    }

    /// The files that say where clusters are, the first of which counts most.
    pub(super) fn files(&self, session: &Session) -> Vec<PathBuf> {
        if let Some(path) = &self.kubeconfig {
            return vec![path.clone()];
        }
        if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            return std::env::split_paths(&list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
        }
        let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        let of_server = session.roots().0.join("cluster/kubeconfig");
        match own {
            Some(own) if own.exists() || !of_server.exists() => vec![own],
            _ => vec![of_server],
        }
    }

    /// What those files say.
    pub(super) fn config(&self, session: &Session) -> Result<Kubeconfig, Trouble> {
        let files = self.files(session);
        if let Some(path) = self.kubeconfig.as_ref().filter(|path| !path.exists()) {
            let path = path.display();
            return Err(Trouble::local(format!("stat {path}: no such file or directory")));
        }
        Kubeconfig::load(&files).map_err(Trouble::local)
    }

    /// The cluster.
    pub(super) fn connect(&self, session: &Session) -> Result<Cluster, Trouble> {
        let config = self.config(session)?;
        let overrides = self.overrides();
        let own = config.namespace(&overrides);
        let found = config.connect(&overrides)?;
        let (https, account) = match found {
            Some(https) => (https, None),
            None => in_pod()?,
        };
        let timeout = match self.request_timeout.as_str() {
            "0" | "" => None,
            text => Some(duration(text)?),
        };
        let mut https = https.with_timeout(timeout);
        if let Some(user) = &self.act_as {
            https = https.with_header("Impersonate-User", user.clone());
        }
        for group in &self.as_group {
            https = https.with_header("Impersonate-Group", group.clone());
        }
        let is_named = self.namespace.is_some();
        let namespace = self.namespace.clone().or(own).or(account);
        Ok(Cluster {
            https,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            is_named,
            timeout,
            kinds: OnceCell::new(),
        })
    }
}

/// The cluster whose pod this runs in, and its namespace.
fn in_pod() -> Result<(Https, Option<String>), Trouble> {
    use client::https::{Authority, Identity};
    let word = |name: &str| std::env::var(name).ok().filter(|word| !word.is_empty());
    let (Some(host), Some(port)) =
        (word("KUBERNETES_SERVICE_HOST"), word("KUBERNETES_SERVICE_PORT"))
    else {
        return Err(Trouble::local("no cluster is known here").hint(
            "`cais server` starts one; KUBECONFIG or --kubeconfig names the file of another",
        ));
    };
    let read = |name: &str| std::fs::read(format!("{ACCOUNT}/{name}"));
    let bad = |error: std::io::Error| Trouble::local(format!("read {ACCOUNT}: {error}"));
    let token = String::from_utf8_lossy(&read("token").map_err(bad)?).trim().to_owned();
    let ca = Authority::Pem(read("ca.crt").map_err(bad)?);
    let identity = Identity { authorization: Some(format!("Bearer {token}")), certificate: None };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let https = Https::new(&format!("https://{host}:{port}"), &ca, identity)?;
    let namespace = read("namespace").ok();
    Ok((https, namespace.map(|name| String::from_utf8_lossy(&name).trim().to_owned())))
}

/// A duration as Go writes it; of Kubernetes' commands, a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, Trouble> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    let parsed = || {
        let nanos = compose::nanoseconds(text)?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    };
    seconds.or_else(parsed).ok_or_else(|| Trouble::local(format!("invalid duration \"{text}\"")))
}

/// A cluster that is asked.
pub(super) struct Cluster {
    pub(super) https: Https,
    /// Where what is in a namespace is, if nothing else is said.
    pub(super) namespace: String,
    /// Whether the command line named it.
    pub(super) is_named: bool,
    /// How long an answer may take.
    pub(super) timeout: Option<Duration>,
    kinds: OnceCell<Kinds>,
}

/// Query parameters.
pub(super) type Query = Vec<(&'static str, String)>;

impl Cluster {
    /// What kinds there are; the server is asked once.
    pub(super) fn kinds(&self) -> Result<&Kinds, Trouble> {
        if let Some(kinds) = self.kinds.get() {
            return Ok(kinds);
        }
        let kinds = Kinds::ask(self)?;
        Ok(self.kinds.get_or_init(|| kinds))
    }

    /// A kind by what people call it.
    pub(super) fn kind(&self, name: &str) -> Result<Kind, Trouble> {
        self.kinds()?.find(name).cloned().ok_or_else(|| Trouble::no_such_kind(name))
    }

    /// Asks, and gives the document of the answer; what the server warns of is told.
    pub(super) fn ask(&self, request: &Request<'_>) -> Outcome<Value> {
        self.ask_for(request).map(|(_, document)| document)
    }

    /// The same, with the status of HTTP.
    pub(super) fn ask_for(&self, request: &Request<'_>) -> Outcome<(u16, Value)> {
        let answer = self.https.open(request)?;
        let code = answer.code();
        for warning in answer.fields("warning") {
            trouble::warn(warning);
        }
        let bytes = answer.bytes(1 << 30).map_err(|error| Trouble::local(error.to_string()))?;
        let document = serde_json::from_slice(&bytes);
        match code {
            200..=299 if bytes.is_empty() => Ok((code, Value::Null)),
            200..=299 => document
                .map(|document| (code, document))
                .map_err(|error| Trouble::local(format!("read the answer: {error}"))),
            _ => Err(Trouble::refused(code, document.unwrap_or_default(), &bytes)),
        }
    }

    /// Asks, and gives the answer as it comes.
    pub(super) fn open(&self, request: &Request<'_>) -> Outcome<client::https::Answer> {
        let answer = self.https.open(request)?;
        match answer.code() {
            200..=299 => Ok(answer),
            code => {
                let bytes = answer.bytes(1 << 20).unwrap_or_default();
                let document = serde_json::from_slice(&bytes).unwrap_or_default();
                Err(Trouble::refused(code, document, &bytes))
            }
        }
    }

    /// A document by its path.
    pub(super) fn read(&self, parts: &[&str], query: &Query) -> Outcome<Value> {
        self.ask(&get(target(parts, query), "application/json"))
    }

    /// An object.
    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Outcome<Value> {
        self.ask(&get(kind.path(namespace, &[name], &Vec::new()), "application/json"))
    }

    /// All objects that a query selects, whole, each with what it is.
    pub(super) fn list(&self, kind: &Kind, namespace: &str, query: &Query) -> Outcome<Vec<Value>> {
        let mut all = Vec::new();
        self.pages(kind, namespace, query, "application/json", &mut |mut page| {
            if let Value::Array(items) = page["items"].take() {
                all.extend(items.into_iter().map(|item| kind.complete(item)));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Lists objects, a page at a time, and gives the revision of the list.
    pub(super) fn pages(
        &self,
        kind: &Kind,
        namespace: &str,
        query: &Query,
        accept: &str,
        take: &mut dyn FnMut(Value) -> Outcome<()>,
    ) -> Outcome<String> {
        let mut rest = String::new();
        loop {
            let mut query = query.clone();
            query.push(("limit", "500".to_owned()));
            if !rest.is_empty() {
                query.push(("continue", rest));
            }
            let page = self.ask(&get(kind.path(namespace, &[], &query), accept))?;
            let word =
                |field: &str| page["metadata"][field].as_str().unwrap_or_default().to_owned();
            let revision = word("resourceVersion");
            rest = word("continue");
            take(page)?;
            if rest.is_empty() {
                return Ok(revision);
            }
        }
    }

    /// Sends an object.
    pub(super) fn send(
        &self,
        method: &'static str,
        path: String,
        content_type: &'static str,
        body: &Value,
    ) -> Outcome<(u16, Value)> {
        let headers = vec![
            ("Accept", "application/json".to_owned()),
            ("Content-Type", content_type.to_owned()),
        ];
        let body = body.to_string().into_bytes();
        self.ask_for(&Request { method, target: path, headers, body })
    }

    /// Changes an object by a merge patch.
    pub(super) fn merge(
        &self,
        kind: &Kind,
        (namespace, name): (&str, &str),
        query: &Query,
        patch: &Value,
    ) -> Outcome<Value> {
        let path = kind.path(namespace, &[name], query);
        self.send("PATCH", path, "application/merge-patch+json", patch).map(|(_, object)| object)
    }

    /// The namespace that a kind's objects are looked for in: none for what is in none.
    pub(super) fn namespace_of(&self, kind: &Kind) -> &str {
        if kind.is_namespaced { &self.namespace } else { "" }
    }
}

/// A request for a document.
pub(super) fn get(target: String, accept: &str) -> Request<'static> {
    let headers = vec![("Accept", accept.to_owned())];
    Request { method: "GET", target, headers, body: Vec::new() }
}

/// A text in an object, empty if it is not there.
pub(super) fn word<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list in an object.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    word(object, "/metadata/name")
}

/// The namespace of an object; empty for what is in none.
pub(super) fn namespace(object: &Value) -> &str {
    word(object, "/metadata/namespace")
}
