//! The resources of the API: what kinds are called in paths and on the command line, and what can be
//! done with them.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::custom::Definition;

/// One line for each: group and version, kind, names in paths (plural, singular), short names,
/// categories, `namespaced` or `cluster`, what can be done, subresources. `-` is nothing.
const TABLE: &str = include_str!("resource/built_in.txt");

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Without a version; empty for the group without a name.
    pub group: &'static str,
    /// `v1`, for example.
    pub version: &'static str,
    /// `Deployment`, for example.
    pub kind: &'static str,
    /// As it stands in paths: `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short_names: Vec<&'static str>,
    /// `all`, for example: names for several resources.
    pub categories: Vec<&'static str>,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
    /// What can be done with it.
    pub access: Access,
    /// `status`, `scale`, …
    pub subresources: Vec<&'static str>,
    /// What a CustomResourceDefinition says of its objects; nothing of what is built in.
    pub definition: Option<Arc<Definition>>,
}

/// A resource for as long as somebody looks at it: one that is built in, or one that has a
/// definition, which may change or go meanwhile.
#[derive(Debug, Clone)]
pub enum ResourceRef {
    /// It is always there.
    BuiltIn(&'static Resource),
    /// As its definition was when it was looked up.
    Custom(Arc<Resource>),
}

impl Deref for ResourceRef {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            Self::BuiltIn(resource) => resource,
            Self::Custom(resource) => resource,
        }
    }
}

impl PartialEq for ResourceRef {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ResourceRef {}

impl From<&'static Resource> for ResourceRef {
    fn from(resource: &'static Resource) -> Self {
        Self::BuiltIn(resource)
    }
}

/// What can be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything: its objects are stored.
    Stored,
    /// Objects are posted and answered, like reviews of access.
    Asked,
    /// Objects are got and listed: they are made when somebody asks.
    Shown,
}

impl Access {
    /// The verbs, as discovery lists them.
    #[must_use]
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Access::Stored => {
                &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            }
            Access::Asked => &["create"],
            Access::Shown => &["get", "list"],
        }
    }
}

impl Resource {
    /// All built-in resources, in the order in which discovery lists them.
    ///
    /// # Panics
    /// If the table is wrong, which its tests exclude.
    #[must_use]
    pub fn built_in() -> &'static [Resource] {
        static RESOURCES: OnceLock<Vec<Resource>> = OnceLock::new();
        RESOURCES.get_or_init(|| TABLE.lines().map(Self::read).collect())
    }

    /// `apps/v1`, or `v1` of the group without a name: what objects say as `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// What a list of its objects is called: `DeploymentList`.
    #[must_use]
    pub fn list_kind(&self) -> String {
        match &self.definition {
            Some(definition) => definition.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    fn read(line: &'static str) -> Self {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
        let list = |word: &'static str| match word {
            "-" => Vec::new(),
            words => words.split(',').collect(),
        };
        let (group, version) = word().rsplit_once('/').expect("a group and a version");
        Self {
            group: if group == "core" { "" } else { group },
            version,
            kind: word(),
            plural: word(),
            singular: word(),
            short_names: list(word()),
            categories: list(word()),
            is_namespaced: match word() {
                "namespaced" => true,
                "cluster" => false,
                other => panic!("no such scope: {other}"),
            },
            access: match word() {
                "stored" => Access::Stored,
                "asked" => Access::Asked,
                "shown" => Access::Shown,
                other => panic!("no such access: {other}"),
            },
            subresources: list(word()),
            definition: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;

    #[test]
    fn every_resource_has_a_type_and_names_of_its_own() {
        let mut names = Vec::new();
        for resource in Resource::built_in() {
            let found = Schema::built_in().kind(&resource.api_version(), resource.kind);
            assert!(found.is_some(), "{resource:?}");
            names.push((resource.group, resource.version, resource.plural));
            for name in [resource.plural, resource.singular].iter().chain(&resource.short_names) {
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn resources_are_found_by_what_people_call_them() {
        let find = |name: &str| {
            let called = |r: &&Resource| {
                r.plural == name || r.singular == name || r.short_names.contains(&name)
            };
            Resource::built_in().iter().find(called).map(|r| (r.api_version(), r.kind))
        };
        assert_eq!(find("deploy"), Some(("apps/v1".to_owned(), "Deployment")));
        assert_eq!(find("po"), Some(("v1".to_owned(), "Pod")));
        assert_eq!(find("hpa"), Some(("autoscaling/v2".to_owned(), "HorizontalPodAutoscaler")));
        assert_eq!(find("nonsense"), None);
    }
}
