//! What goes with others: dependents of what is gone, and everything in a namespace.

use objects::resource::{Access, ResourceRef};
use serde_json::Value;

use super::Cluster;
use super::list::items;
use crate::log::{Entry, LogError, Range};

impl Cluster {
    /// Removes all that belongs to an object that is gone, and to nobody else that is there, and what
    /// belongs to that.
    pub(super) fn collect(&self, uid: &str) -> Result<(), LogError> {
        let mut gone = vec![uid.to_owned()];
        while let Some(uid) = gone.pop() {
            for (of, entry) in self.dependents(&uid)? {
                let object = self.read(&of, &entry).object;
                let mut owners = items(&object["metadata"]["ownerReferences"]).to_vec();
                owners.retain(|owner| owner["uid"] != *uid);
                let is_held = !items(&object["metadata"]["finalizers"]).is_empty();
                if !owners.is_empty() || is_held {
                    self.leave(&entry, object, owners)?;
                    continue;
                }
                match self.remove(&entry.key, entry.modified) {
                    Ok(_) => gone.extend(object["metadata"]["uid"].as_str().map(str::to_owned)),
                    // Somebody else changed or removed it: it is looked at by whoever comes next.
                    Err(LogError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Has all that belongs to an object belong to it no more.
    pub(super) fn orphan(&self, uid: &str) -> Result<(), LogError> {
        for (of, entry) in self.dependents(uid)? {
            let object = self.read(&of, &entry).object;
            let mut owners = items(&object["metadata"]["ownerReferences"]).to_vec();
            owners.retain(|owner| owner["uid"] != uid);
            self.leave(&entry, object, owners)?;
        }
        Ok(())
    }

    fn leave(&self, entry: &Entry, mut object: Value, owners: Vec<Value>) -> Result<(), LogError> {
        match owners.is_empty() {
            true => {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.shift_remove("ownerReferences");
                }
            }
            false => object["metadata"]["ownerReferences"] = owners.into(),
        }
        match self.put(&entry.key, Some(entry.modified), &object) {
            Err(LogError::Conflict(_)) => Ok(()),
            done => done.map(drop),
        }
    }

    fn dependents(&self, uid: &str) -> Result<Vec<(ResourceRef, Entry)>, LogError> {
        let mut found = Vec::new();
        for of in self.stored()? {
            let prefix = crate::target::prefix(&of, "");
            let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
            for entry in page.entries {
                // Most have no owner, and need not be read.
                if !contains(&entry.value, uid.as_bytes()) {
                    continue;
                }
                let object = self.read(&of, &entry).object;
                let owners = items(&object["metadata"]["ownerReferences"]);
                if owners.iter().any(|owner| owner["uid"] == uid) {
                    found.push((of.clone(), entry));
                }
            }
        }
        Ok(found)
    }

    /// Removes everything in a namespace.
    pub(super) fn remove_all_in(&self, namespace: &str) -> Result<(), LogError> {
        for of in self.stored()?.into_iter().filter(|of| of.is_namespaced) {
            let prefix = crate::target::prefix(&of, namespace);
            let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
            for entry in page.entries {
                match self.remove(&entry.key, entry.modified) {
                    Ok(_) | Err(LogError::Conflict(None)) => {}
                    Err(LogError::Conflict(Some(now))) => {
                        let _ = self.remove(&now.key, now.modified)?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Resources whose objects are kept, each once.
    fn stored(&self) -> Result<Vec<ResourceRef>, LogError> {
        let mut seen = std::collections::BTreeSet::new();
        let mut all = self.resources()?;
        all.retain(|of| of.access == Access::Stored && seen.insert(crate::target::prefix(of, "")));
        Ok(all)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
