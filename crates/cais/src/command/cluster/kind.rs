//! The kinds of objects that a server has, and what people call them.

use client::https::target;
use serde_json::Value;

use super::{Cluster, Outcome, Query, Trouble, get};

/// What asks for all kinds in one document, in the versions that servers have had.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// A kind of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Empty for the group without a name.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) is_namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Kind {
    /// `apps/v1`
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployment.apps`, or `pod`: in front of a name.
    pub(crate) fn short(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.to_lowercase(),
            group => format!("{}.{group}", self.kind.to_lowercase()),
        }
    }

    /// `deployments.apps`, or `pods`.
    pub(crate) fn resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The path of all objects, or of one and its subresource.
    pub(crate) fn path(&self, namespace: &str, rest: &[&str], query: &Query) -> String {
        let mut parts = match self.group.as_str() {
            "" => vec!["api", &self.version],
            group => vec!["apis", group, &self.version],
        };
        if self.is_namespaced && !namespace.is_empty() {
            parts.extend(["namespaces", namespace]);
        }
        parts.push(&self.plural);
        parts.extend(rest);
        target(&parts, query)
    }

    /// An object of a list, with what it is, which lists leave out.
    pub(crate) fn complete(&self, item: Value) -> Value {
        let mut whole = serde_json::Map::new();
        whole.insert("apiVersion".to_owned(), self.api_version().into());
        whole.insert("kind".to_owned(), self.kind.as_str().into());
        if let Value::Object(fields) = item {
            whole.extend(fields);
        }
        Value::Object(whole)
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    fn is_called(&self, name: &str) -> bool {
        self.plural == name || self.singular == name || self.kind.to_lowercase() == name
    }

    fn read(group: &str, version: &str, of: &Value) -> Option<Self> {
        let words = |field: &str| -> Vec<String> {
            let all = of[field].as_array().into_iter().flatten();
            all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let word = |field: &str| of[field].as_str().map(str::to_owned);
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: of["responseKind"]["kind"].as_str()?.to_owned(),
            plural: word("resource")?,
            singular: word("singularResource").unwrap_or_default(),
            short_names: words("shortNames"),
            categories: words("categories"),
            is_namespaced: of["scope"] == "Namespaced",
            verbs: words("verbs"),
        })
    }
}

/// All kinds, in the server's order.
#[derive(Debug, Default)]
pub(crate) struct Kinds(pub(crate) Vec<Kind>);

impl Kinds {
    pub(crate) fn ask(cluster: &Cluster) -> Outcome<Self> {
        let mut all = Vec::new();
        for path in ["/api", "/apis"] {
            let document = cluster.ask(&get(path.to_owned(), AGGREGATED))?;
            if document["kind"] != "APIGroupDiscoveryList" {
                let why = "the server is too old: it does not tell its kinds in one document";
                return Err(Trouble::local(why).hint("Kubernetes does so since version 1.26"));
            }
            all.extend(read(&document));
        }
        Ok(Self(all))
    }

    /// A kind by what people call it: `deploy`, `deployments`, `deployment.apps`,
    /// `deployments.v1.apps`. What is called exactly so comes before what is abbreviated so.
    pub(crate) fn find(&self, name: &str) -> Option<&Kind> {
        let name = name.to_lowercase();
        let whole = || self.0.iter().find(|kind| kind.is_called(&name));
        let short = || self.0.iter().find(|kind| kind.short_names.contains(&name));
        let with_group = || {
            let (word, rest) = name.split_once('.')?;
            let in_group = |kind: &&Kind| {
                rest == kind.group
                    || rest.split_once('.') == Some((kind.version.as_str(), kind.group.as_str()))
                    || kind.group.is_empty() && rest == format!("{}.", kind.version)
            };
            let called =
                |kind: &&Kind| kind.is_called(word) || kind.short_names.iter().any(|s| s == word);
            self.0.iter().filter(in_group).find(called)
        };
        let prefixed = || {
            let (word, rest) = name.split_once('.')?;
            self.0.iter().find(|kind| kind.is_called(word) && kind.group.starts_with(rest))
        };
        whole().or_else(with_group).or_else(prefixed).or_else(short)
    }

    /// The kind of an object.
    pub(crate) fn of(&self, object: &Value) -> Option<&Kind> {
        let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        self.0.iter().find(|own| own.kind == kind && own.api_version() == version)
    }

    /// Those of a category that can be listed, each in one version.
    pub(crate) fn in_category(&self, name: &str) -> Vec<&Kind> {
        let mut found: Vec<&Kind> = Vec::new();
        for kind in self.0.iter().filter(|kind| kind.categories.iter().any(|own| own == name)) {
            let is_known =
                found.iter().any(|own| own.group == kind.group && own.plural == kind.plural);
            if kind.can("list") && !is_known {
                found.push(kind);
            }
        }
        found
    }
}

fn read(document: &Value) -> Vec<Kind> {
    let mut all = Vec::new();
    for group in super::list(document, "/items") {
        let name = super::name(group);
        for version in super::list(group, "/versions") {
            let own = version["version"].as_str().unwrap_or_default();
            let resources = super::list(version, "/resources");
            all.extend(resources.filter_map(|resource| Kind::read(name, own, resource)));
        }
    }
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Pods, services and deployments.
    pub(crate) fn some() -> Kinds {
        let resource = |kind: &str, plural: &str, short: &str| {
            json!({
                "resource": plural, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "shortNames": [short],
                "categories": ["all"], "verbs": ["get", "list"],
            })
        };
        let core = [resource("Pod", "pods", "po"), resource("Service", "services", "svc")];
        let apps = [resource("Deployment", "deployments", "deploy")];
        Kinds(read(&json!({"items": [
            {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": core}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": apps}]},
        ]})))
    }

    #[test]
    fn kinds_are_found_by_all_their_names() {
        let kinds = some();
        let find = |name: &str| kinds.find(name).map(Kind::resource);
        for name in
            ["deploy", "Deployments", "deployment.apps", "deployments.v1.apps", "deploy.apps"]
        {
            assert_eq!(find(name).as_deref(), Some("deployments.apps"), "{name}");
        }
        assert_eq!(find("svc").as_deref(), Some("services"));
        assert_eq!(find("svc.apps"), None);
        assert_eq!(find("nonsense"), None);
        assert_eq!(kinds.in_category("all").len(), 3);
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        assert_eq!(kinds.of(&object).unwrap().short(), "deployment.apps");
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let kinds = some();
        let path =
            |name: &str, rest: &[&str]| kinds.find(name).unwrap().path("n", rest, &Vec::new());
        assert_eq!(path("po", &["x", "log"]), "/api/v1/namespaces/n/pods/x/log");
        assert_eq!(path("deploy", &[]), "/apis/apps/v1/namespaces/n/deployments");
    }
}
