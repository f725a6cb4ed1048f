//! What a path is about.

use objects::resource::{Resource, ResourceRef};

/// What the API answers about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: ResourceRef,
    /// Empty for all namespaces, and for what is in none.
    pub(crate) namespace: String,
    /// Empty for all objects.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    /// What follows a subresource, for those that pass requests on.
    pub(crate) rest: String,
    /// The old form of a watch, `/api/v1/watch/…`.
    pub(crate) is_watch: bool,
}

impl Target {
    /// Reads `/api/v1/…` and `/apis/GROUP/VERSION/…`, in decoded parts.
    pub(crate) fn parse(parts: &[String]) -> Option<Self> {
        Self::parse_among(parts, |group, version, plural| {
            let is = |r: &&Resource| r.group == group && r.version == version && r.plural == plural;
            Resource::built_in().iter().find(is).map(ResourceRef::from)
        })
    }

    /// The same, where `find` finds a resource by its group, version and plural.
    pub(crate) fn parse_among(
        parts: &[String],
        find: impl Fn(&str, &str, &str) -> Option<ResourceRef>,
    ) -> Option<Self> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match &parts[..] {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (is_watch, rest) = match rest {
            ["watch", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let find = |plural: &str| find(group, version, plural);
        // A namespace is an object by itself, with subresources of its own.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..]
                if find(plural).is_some_and(|resource| resource.is_namespaced) =>
            {
                (*namespace, [&[*plural], rest].concat())
            }
            rest => ("", rest.to_vec()),
        };
        let (plural, rest) = rest.split_first()?;
        let resource = find(plural)?;
        if !namespace.is_empty() && !resource.is_namespaced {
            return None;
        }
        let mut rest = rest.iter().copied();
        let name = rest.next().unwrap_or_default();
        let subresource = rest.next().unwrap_or_default();
        // Objects of namespaces have names in one only.
        if resource.is_namespaced && namespace.is_empty() && !name.is_empty() {
            return None;
        }
        if !subresource.is_empty() && !resource.subresources.contains(&subresource) {
            return None;
        }
        Some(Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            rest: rest.collect::<Vec<_>>().join("/"),
            is_watch,
        })
    }

    /// What the keys of all its objects begin with.
    pub(crate) fn prefix(&self) -> String {
        prefix(&self.resource, &self.namespace)
    }

    /// The key of its object.
    pub(crate) fn key(&self) -> String {
        key(&self.resource, &self.namespace, &self.name)
    }
}

/// What the keys of a resource's objects in a namespace, or all, begin with. All versions of a group
/// have the same objects.
pub(crate) fn prefix(of: &Resource, namespace: &str) -> String {
    let own = of.api_version();
    let kept = match of.definition {
        Some(_) => own.as_str(),
        None => objects::convert::kept(&own, of.kind),
    };
    let group = kept.rsplit_once('/').map_or("core", |(group, _)| group);
    match namespace {
        "" => format!("/{group}/{}/", of.plural),
        namespace => format!("/{group}/{}/{namespace}/", of.plural),
    }
}

/// The key of an object.
pub(crate) fn key(of: &Resource, namespace: &str, name: &str) -> String {
    format!("{}{name}", prefix(of, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<Target> {
        let parts: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        Target::parse(&parts)
    }

    #[test]
    fn paths_name_resources() {
        let pod = target("/api/v1/namespaces/default/pods/web/log").unwrap();
        assert_eq!(
            (pod.resource.kind, &*pod.namespace, &*pod.name, &*pod.subresource),
            ("Pod", "default", "web", "log")
        );
        assert_eq!(pod.key(), "/core/pods/default/web");
        let all = target("/apis/apps/v1/deployments").unwrap();
        assert_eq!(
            (all.resource.kind, &*all.namespace, all.prefix()),
            ("Deployment", "", "/apps/deployments/".to_owned())
        );
        let namespace = target("/api/v1/namespaces/default").unwrap();
        assert_eq!((namespace.resource.kind, &*namespace.name), ("Namespace", "default"));
        let finalize = target("/api/v1/namespaces/default/finalize").unwrap();
        assert_eq!((finalize.resource.kind, &*finalize.subresource), ("Namespace", "finalize"));
        let node = target("/api/v1/nodes/n/status").unwrap();
        assert_eq!((node.resource.kind, &*node.subresource), ("Node", "status"));
        assert!(target("/api/v1/watch/namespaces/default/pods").unwrap().is_watch);
        for wrong in [
            "/api/v1/nonsense",
            "/api/v2/pods",
            "/apis/apps/v1/pods",
            "/api/v1/pods/web",
            "/api/v1/namespaces/default/pods/web/nonsense",
            "/api/v1/namespaces/default/nodes",
            "/api",
        ] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }
}
