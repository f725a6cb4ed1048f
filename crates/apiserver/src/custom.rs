//! Kinds that CustomResourceDefinitions bring: looked up in the log, so that a definition is served as
//! soon as it is written, by whichever server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use objects::resource::{Resource, ResourceRef};
use objects::validate::Invalid;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::delete::Options;
use crate::failure::Failure;
use crate::log::{LogError, Range, Revision};
use crate::target::{self, Target};

/// What the keys of all definitions begin with.
const DEFINITIONS: &str = "/apiextensions.k8s.io/customresourcedefinitions/";
/// What keeps a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The resources of each definition, as it was at a revision. All definitions are asked for at every
/// look, and those that have not changed need not be read again.
#[derive(Debug, Default)]
pub(crate) struct Customs(Mutex<BTreeMap<Arc<str>, Known>>);

/// A definition's revision, and the resources that it makes.
type Known = (Revision, Vec<Arc<Resource>>);

/// Whether objects of this resource define kinds.
pub(crate) fn is_definition(of: &Resource) -> bool {
    of.group == "apiextensions.k8s.io" && of.kind == "CustomResourceDefinition"
}

/// What of an object breaks the rules of its definition, and what of a definition's rules are none.
pub(crate) fn check_rules(of: &Resource, object: &Value, old: Option<&Value>) -> Vec<Invalid> {
    match &of.definition {
        Some(definition) => cel::rules::check_object(definition.schema(), object, old),
        None if is_definition(of) => {
            let mut found = cel::rules::check_definition(object);
            found.extend(crate::webhook::check_conversion(object));
            found
        }
        None => crate::policy::check(of, object),
    }
}

impl Cluster {
    /// All resources that definitions have brought.
    pub(crate) fn customs(&self) -> Result<Vec<Arc<Resource>>, LogError> {
        let page = self.log.range(Range { prefix: DEFINITIONS, ..Range::default() })?;
        let mut known = self.customs.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        for entry in page.entries {
            let before = known.remove(&entry.key).filter(|(at, _)| *at == entry.modified);
            let (_, resources) = before.unwrap_or_else(|| {
                let definition: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                let resources = objects::custom::resources(&definition);
                (entry.modified, resources.into_iter().map(Arc::new).collect())
            });
            now.insert(entry.key, (entry.modified, resources));
        }
        let all = now.values().flat_map(|(_, resources)| resources).cloned().collect();
        *known = now;
        Ok(all)
    }

    /// All resources there are: what is built in, then the others.
    pub(crate) fn resources(&self) -> Result<Vec<ResourceRef>, LogError> {
        let built_in = Resource::built_in().iter().map(ResourceRef::from);
        Ok(built_in.chain(self.customs()?.into_iter().map(ResourceRef::Custom)).collect())
    }

    /// What a path is about, built in or not.
    pub(crate) fn target(&self, parts: &[String]) -> Result<Option<Target>, LogError> {
        if let Some(target) = Target::parse(parts) {
            return Ok(Some(target));
        }
        let customs = self.customs()?;
        Ok(Target::parse_among(parts, |group, version, plural| {
            let is =
                |r: &&Arc<Resource>| r.group == group && r.version == version && r.plural == plural;
            customs.iter().find(is).cloned().map(ResourceRef::Custom)
        }))
    }

    /// Says of a definition that is being written what becomes of it.
    pub(crate) fn settle(&self, definition: &mut Value, time: &str) -> Result<(), LogError> {
        let page = self.log.range(Range { prefix: DEFINITIONS, ..Range::default() })?;
        let read = |value: &[u8]| serde_json::from_slice(value).unwrap_or_default();
        let others: Vec<Value> = page.entries.iter().map(|entry| read(&entry.value)).collect();
        objects::custom::settle(definition, &others, time);
        Ok(())
    }

    /// Gives names that have become free to definitions that wait for them.
    pub(crate) fn settle_waiting(&self) -> Result<(), LogError> {
        let page = self.log.range(Range { prefix: DEFINITIONS, ..Range::default() })?;
        for entry in page.entries {
            let before: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let mut definition = before.clone();
            self.settle(&mut definition, &crate::cluster::now())?;
            if definition == before {
                continue;
            }
            match self.put(&entry.key, Some(entry.modified), &definition) {
                // Whoever was faster has settled it.
                Ok(_) | Err(LogError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the objects of a definition that goes: whether all are gone.
    pub(crate) fn remove_objects_of(&self, definition: &Value) -> Result<bool, LogError> {
        // One resource is enough: all versions have the same objects.
        let resources = objects::custom::resources(definition);
        let Some(of) = resources.into_iter().next().map(Arc::new) else { return Ok(true) };
        let prefix = target::prefix(&of, "");
        for entry in self.log.range(Range { prefix: &prefix, ..Range::default() })?.entries {
            let found = self.found(&of, &entry);
            let text = |field: &str| {
                found.object["metadata"][field].as_str().unwrap_or_default().to_owned()
            };
            let target = Target {
                resource: ResourceRef::Custom(of.clone()),
                namespace: text("namespace"),
                name: text("name"),
                subresource: String::new(),
                rest: String::new(),
                is_watch: false,
            };
            match self.delete_once(&target, &Options::default(), &found) {
                // Whoever was faster has removed it, or will see that its definition goes.
                Ok(_) | Err(LogError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let left = self.log.range(Range { prefix: &prefix, limit: 1, ..Range::default() })?;
        Ok(left.entries.is_empty())
    }

    /// Has a definition stay until those of its objects are gone that somebody holds.
    pub(crate) fn hold_definition(definition: &mut Value, time: &str) {
        if definition["metadata"]["deletionTimestamp"].is_null() {
            definition["metadata"]["deletionTimestamp"] = time.into();
        }
        let mut finalizers = definition["metadata"]["finalizers"].take();
        match finalizers.as_array_mut() {
            Some(all) if all.iter().any(|one| one == CLEANUP) => {}
            Some(all) => all.push(CLEANUP.into()),
            None => finalizers = json!([CLEANUP]),
        }
        definition["metadata"]["finalizers"] = finalizers;
        objects::custom::terminating(definition, time);
    }

    /// Lets go of a definition whose last object went.
    pub(crate) fn release_definition(&self, of: &Resource) -> Result<(), LogError> {
        let Some(own) = &of.definition else { return Ok(()) };
        let (entry, _) = self.log.get(&format!("{DEFINITIONS}{}", own.name));
        let Some(entry) = entry else { return Ok(()) };
        let mut definition: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let prefix = target::prefix(of, "");
        let left = self.log.range(Range { prefix: &prefix, limit: 1, ..Range::default() })?;
        let is_going = !definition["metadata"]["deletionTimestamp"].is_null();
        if !is_going || !left.entries.is_empty() {
            return Ok(());
        }
        let finalizers = definition["metadata"]["finalizers"].as_array_mut();
        let is_held = finalizers.is_some_and(|all| {
            all.retain(|one| one != CLEANUP);
            !all.is_empty()
        });
        let done = match is_held {
            true => self.put(&entry.key, Some(entry.modified), &definition).map(drop),
            false => self.remove(&entry.key, entry.modified).and_then(|_| self.settle_waiting()),
        };
        match done {
            // Whoever changes it lets go of it, too.
            Err(LogError::Conflict(_)) => Ok(()),
            done => done,
        }
    }

    /// A resource whose definition goes takes no new objects.
    pub(crate) fn need_definition(of: &Resource) -> Result<(), Failure> {
        match of.definition.as_ref().is_some_and(|definition| definition.is_going) {
            true => Err(Failure::method_not_allowed()),
            false => Ok(()),
        }
    }
}
