//! The files that say where clusters are and who asks them: `kubeconfig`, as kubectl reads them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::call::Failure;
use crate::https::{Authority, Https, Identity};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Fields that name files, which stand beside the kubeconfig if they are relative.
const FILES: [(&str, &str, &str); 4] = [
    ("clusters", "cluster", "certificate-authority"),
    ("users", "user", "client-certificate"),
    ("users", "user", "client-key"),
    ("users", "user", "tokenFile"),
];

/// What several files say together: of each name, what the first says that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The document.
    pub value: Value,
}

/// What is said besides the files, and counts more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Another context than the current one.
    pub context: Option<String>,
    /// Another cluster than the context's.
    pub cluster: Option<String>,
    /// Another user than the context's.
    pub user: Option<String>,
    /// Another address than the cluster's.
    pub server: Option<String>,
    /// Another token than the user's.
    pub token: Option<String>,
    /// Whether any certificate of the server's will do.
    pub is_insecure: bool,
    /// A file with the authority of the server's certificate.
    pub authority: Option<PathBuf>,
    /// A file with the user's certificate.
    pub certificate: Option<PathBuf>,
    /// A file with its key.
    pub key: Option<PathBuf>,
    /// Another name than the server's in its certificate.
    pub server_name: Option<String>,
}

impl Kubeconfig {
    /// One that says nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            value: json!({
                "apiVersion": "v1", "clusters": [], "contexts": [], "current-context": "",
                "kind": "Config", "preferences": {}, "users": [],
            }),
        }
    }

    /// Reads files and puts them together; those that are not there say nothing.
    ///
    /// # Errors
    /// A file cannot be read, or is no kubeconfig.
    pub fn load(paths: &[PathBuf]) -> Result<Self, String> {
        let mut all = Self::empty();
        for path in paths {
            if let Some(mut one) = read(path)? {
                complete(&mut one, path.parent().unwrap_or(Path::new("")));
                all.merge(&one);
            }
        }
        Ok(all)
    }

    fn merge(&mut self, other: &Value) {
        for list in ["clusters", "contexts", "users"] {
            for entry in other[list].as_array().into_iter().flatten() {
                let is_new = self.entry(list, entry["name"].as_str().unwrap_or_default()).is_none();
                if let (true, Value::Array(all)) = (is_new, &mut self.value[list]) {
                    all.push(entry.clone());
                }
            }
        }
        if self.current_context().is_empty() {
            self.value["current-context"] =
                other["current-context"].as_str().unwrap_or_default().into();
        }
    }

    /// The name of the context that is used without another; empty if there is none.
    #[must_use]
    pub fn current_context(&self) -> &str {
        self.value["current-context"].as_str().unwrap_or_default()
    }

    /// An entry of `clusters`, `contexts` or `users` by its name.
    #[must_use]
    pub fn entry(&self, list: &str, name: &str) -> Option<&Value> {
        self.value[list].as_array()?.iter().find(|entry| entry["name"] == name)
    }

    /// The context that counts: its cluster, user and namespace.
    ///
    /// # Errors
    /// There is none of the name.
    pub fn context(&self, overrides: &Overrides) -> Result<&Value, String> {
        let name = overrides.context.as_deref().unwrap_or(self.current_context());
        match self.entry("contexts", name) {
            Some(entry) => Ok(&entry["context"]),
            None if name.is_empty() => Ok(&Value::Null),
            None if overrides.context.is_some() => {
                Err(format!("context \"{name}\" does not exist"))
            }
            None => Err(format!("context was not found for specified context: {name}")),
        }
    }

    /// The server of the context that counts, asked by its user; `None` if no file names one.
    ///
    /// # Errors
    /// What is named is not there, or no good.
    pub fn connect(&self, overrides: &Overrides) -> Result<Option<Https>, Failure> {
        let context = self.context(overrides).map_err(Failure::unreachable)?;
        let pick = |own: &Option<String>, field: &str| {
            own.clone().or_else(|| context[field].as_str().map(str::to_owned)).unwrap_or_default()
        };
        let cluster = self.named("clusters", "cluster", &pick(&overrides.cluster, "cluster"))?;
        let user = self.named("users", "user", &pick(&overrides.user, "user"))?;
        let server = overrides.server.as_deref().or(cluster["server"].as_str());
        let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok(None) };
        if !cluster["proxy-url"].is_null() {
            let why = "the cluster has a proxy-url, and proxies are not supported";
            return Err(Failure::unreachable(why));
        }
        let ca = authority(&cluster, overrides).map_err(Failure::unreachable)?;
        let identity = identity(&user, overrides).map_err(Failure::unreachable)?;
        let mut https = Https::new(server, &ca, identity)?;
        if let Some(name) = overrides.server_name.as_deref().or(cluster["tls-server-name"].as_str())
        {
            https = https.named(name)?;
        }
        Ok(Some(https))
    }

    /// The namespace of the context that counts.
    #[must_use]
    pub fn namespace(&self, overrides: &Overrides) -> Option<String> {
        let context = self.context(overrides).ok()?;
        context["namespace"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    fn named(&self, list: &str, field: &str, name: &str) -> Result<Value, Failure> {
        match self.entry(list, name) {
            Some(entry) => Ok(entry[field].clone()),
            None if name.is_empty() => Ok(Value::Null),
            None => Err(Failure::unreachable(format!("{field} \"{name}\" does not exist"))),
        }
    }
}

fn read(path: &Path) -> Result<Option<Value>, String> {
    let bad = |why: String| format!("error loading config file \"{}\": {why}", path.display());
    let text = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
        Ok(file) if file.len() > FILE_BYTES_MAX => return Err(bad("it is too long".to_owned())),
        Ok(_) => std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?,
    };
    let value = objects::yaml::parse(&text).map_err(|error| bad(error.to_string()))?;
    match value {
        Value::Null => Ok(None),
        Value::Object(_) => Ok(Some(value)),
        _ => Err(bad("it is no object".to_owned())),
    }
}

/// Makes what is relative to a directory absolute.
fn complete(config: &mut Value, directory: &Path) {
    for (list, inner, field) in FILES {
        for entry in config[list].as_array_mut().into_iter().flatten() {
            let place = entry.get_mut(inner).and_then(|inner| inner.get_mut(field));
            if let Some(Value::String(path)) = place
                && !path.is_empty()
            {
                *path = directory.join(&*path).to_string_lossy().into_owned();
            }
        }
    }
}

fn authority(cluster: &Value, overrides: &Overrides) -> Result<Authority, String> {
    if overrides.is_insecure || cluster["insecure-skip-tls-verify"] == true {
        return Ok(Authority::Anybody);
    }
    let file = overrides.authority.clone();
    let pem = match file {
        Some(path) => Some(file_bytes(&path)?),
        None => data(cluster, "certificate-authority-data", "certificate-authority")?,
    };
    Ok(pem.map_or(Authority::System, Authority::Pem))
}

fn identity(user: &Value, overrides: &Overrides) -> Result<Identity, String> {
    for field in ["exec", "auth-provider"] {
        if !user[field].is_null() && overrides.token.is_none() {
            return Err(format!("the user is known by {field}, which is not supported"));
        }
    }
    let pair = match (&overrides.certificate, &overrides.key) {
        (Some(certificate), Some(key)) => (Some(file_bytes(certificate)?), Some(file_bytes(key)?)),
        _ => (
            data(user, "client-certificate-data", "client-certificate")?,
            data(user, "client-key-data", "client-key")?,
        ),
    };
    let certificate = match pair {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("a certificate needs its key, and a key its certificate".to_owned()),
    };
    let own = user["token"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
    let token = match (overrides.token.clone().or(own), user["tokenFile"].as_str()) {
        (None, Some(path)) => {
            let bytes = file_bytes(Path::new(path))?;
            Some(String::from_utf8_lossy(&bytes).trim().to_owned())
        }
        (token, _) => token,
    };
    let basic = || {
        let (name, word) = (user["username"].as_str()?, user["password"].as_str()?);
        Some(format!("Basic {}", STANDARD.encode(format!("{name}:{word}"))))
    };
    let authorization = token.map(|token| format!("Bearer {token}")).or_else(basic);
    Ok(Identity { certificate, authorization })
}

/// What stands in a field in base64, or in the file that another one names.
fn data(of: &Value, field: &str, file: &str) -> Result<Option<Vec<u8>>, String> {
    if let Some(text) = of[field].as_str().filter(|text| !text.is_empty()) {
        let bytes = STANDARD.decode(text).map_err(|error| format!("{field}: {error}"))?;
        return Ok(Some(bytes));
    }
    let path = of[file].as_str().filter(|path| !path.is_empty());
    path.map(|path| file_bytes(Path::new(path))).transpose()
}

fn file_bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("unable to read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Kubeconfig {
        let mut all = Kubeconfig::empty();
        let mut one = objects::yaml::parse(text).unwrap();
        complete(&mut one, Path::new("/etc/k"));
        all.merge(&one);
        all
    }

    const TEXT: &str = "
clusters: [{name: a, cluster: {server: 'http://a:1', certificate-authority: ca.crt}},
           {name: b, cluster: {server: 'http://b:2', proxy-url: 'http://p'}}]
users: [{name: u, user: {token: t}}, {name: e, user: {exec: {command: x}}}]
contexts: [{name: one, context: {cluster: a, user: u, namespace: n}},
           {name: two, context: {cluster: b, user: u}},
           {name: three, context: {cluster: a, user: e}},
           {name: four, context: {cluster: z, user: e}}]
current-context: one
";

    #[test]
    fn the_first_file_with_a_name_counts() {
        let mut all = config(TEXT);
        all.merge(&json!({
            "clusters": [{"name": "a", "cluster": {}}, {"name": "c", "cluster": {"server": "s"}}],
            "current-context": "c",
        }));
        assert_eq!(all.current_context(), "one");
        let file = &all.entry("clusters", "a").unwrap()["cluster"]["certificate-authority"];
        assert_eq!(file, "/etc/k/ca.crt");
        assert!(all.entry("clusters", "c").is_some());
    }

    #[test]
    fn a_context_leads_to_a_server() {
        let all = config(TEXT);
        let connect = |context: Option<&str>, server: Option<&str>| {
            let own = |word: Option<&str>| word.map(str::to_owned);
            let overrides =
                Overrides { context: own(context), server: own(server), ..Overrides::default() };
            match all.connect(&overrides) {
                Ok(server) => server.map_or("none".to_owned(), |server| server.address()),
                Err(failure) => failure.message,
            }
        };
        std::fs::read("/etc/k/ca.crt").unwrap_err();
        assert!(connect(None, None).contains("unable to read /etc/k/ca.crt"));
        assert!(connect(Some("two"), None).contains("proxy"));
        assert!(connect(Some("three"), None).contains("ca.crt"));
        assert_eq!(connect(Some("four"), None), "cluster \"z\" does not exist");
        assert_eq!(connect(Some("five"), None), "context \"five\" does not exist");
        assert_eq!(all.namespace(&Overrides::default()).as_deref(), Some("n"));
        let nothing = Kubeconfig::empty();
        assert!(nothing.connect(&Overrides::default()).unwrap().is_none());
        let server = Overrides { server: Some("http://x".to_owned()), ..Overrides::default() };
        assert_eq!(nothing.connect(&server).unwrap().unwrap().address(), "x:80");
    }

    #[test]
    fn users_are_known_by_what_their_entry_says() {
        let known = |user: Value| identity(&user, &Overrides::default());
        let authorization = |user: Value| known(user).unwrap().authorization;
        assert_eq!(authorization(json!({"token": "t"})).as_deref(), Some("Bearer t"));
        let basic = authorization(json!({"username": "a", "password": "b"}));
        assert_eq!(basic.as_deref(), Some("Basic YTpi"));
        assert!(known(json!({"exec": {}})).unwrap_err().contains("exec"));
        assert!(known(json!({"client-key-data": "eA=="})).is_err());
        assert!(known(json!({"client-key-data": "?"})).is_err());
    }
}
