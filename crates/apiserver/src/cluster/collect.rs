//! What goes with others: dependents of what is gone, owners that wait for their dependents, and
//! everything in a namespace. All of it follows from a removal, at once: nobody has to look around for
//! what is left.

use objects::resource::{Access, ResourceRef};
use serde_json::Value;

use super::delete::{self, FOREGROUND};
use super::list::items;
use super::{Cluster, Found};
use crate::log::{LogError, Range};
use crate::target::{self, Target};

impl Cluster {
    /// Does what follows from the removal of an object: what belongs to nobody else goes, too, and who
    /// has only waited for it.
    pub(crate) fn follow(&self, object: &Value) -> Result<(), LogError> {
        let mut gone = vec![object.clone()];
        while let Some(object) = gone.pop() {
            let uid = word(&object, "uid");
            for (of, found) in self.dependents(uid)? {
                gone.extend(self.leave(&of, found, uid)?);
            }
            for owner in items(&object["metadata"]["ownerReferences"]) {
                gone.extend(self.let_waiting_go(owner, word(&object, "namespace"))?);
            }
            self.finish_namespace(word(&object, "namespace"))?;
        }
        Ok(())
    }

    /// Begins to remove what belongs to an object and to nobody else; whether nothing of it is left.
    pub(super) fn end_dependents(&self, uid: &str) -> Result<bool, LogError> {
        for (of, found) in self.dependents(uid)? {
            if let Some(gone) = self.begin_end(&of, &found)? {
                self.follow(&gone)?;
            }
        }
        self.is_free(uid)
    }

    /// Whether nothing keeps the owner of a uid that waits for its dependents.
    fn is_free(&self, uid: &str) -> Result<bool, LogError> {
        let blocks = |owner: &Value| owner["uid"] == uid && owner["blockOwnerDeletion"] == true;
        let all = self.dependents(uid)?;
        let blocks =
            |found: &Found| items(&found.object["metadata"]["ownerReferences"]).iter().any(blocks);
        Ok(!all.iter().any(|(_, found)| blocks(found)))
    }

    /// Has all that belongs to an object belong to it no more.
    pub(super) fn orphan(&self, uid: &str) -> Result<(), LogError> {
        for (of, found) in self.dependents(uid)? {
            self.disown(&of, found, uid)?;
        }
        Ok(())
    }

    /// An owner is gone: what has another one stays, what has none goes. What is gone at once is given.
    fn leave(&self, of: &ResourceRef, found: Found, uid: &str) -> Result<Option<Value>, LogError> {
        let owners = items(&found.object["metadata"]["ownerReferences"]);
        if owners.iter().any(|owner| owner["uid"] != uid) {
            self.disown(of, found, uid)?;
            return Ok(None);
        }
        self.begin_end(of, &found)
    }

    fn disown(&self, of: &ResourceRef, found: Found, uid: &str) -> Result<(), LogError> {
        let mut object = found.object;
        let mut owners = items(&object["metadata"]["ownerReferences"]).to_vec();
        owners.retain(|owner| owner["uid"] != uid);
        match owners.is_empty() {
            true => {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.shift_remove("ownerReferences");
                }
            }
            false => object["metadata"]["ownerReferences"] = owners.into(),
        }
        let key = target_of(of, &object).key();
        match self.put(&key, Some(found.revision), &object) {
            // Whoever changed or removed it: it is looked at by whoever comes next.
            Err(LogError::Conflict(_)) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Removes an object, or begins to if it takes time. What is gone at once is given.
    fn begin_end(&self, of: &ResourceRef, found: &Found) -> Result<Option<Value>, LogError> {
        let target = target_of(of, &found.object);
        let mut object = found.object.clone();
        crate::admission::release(self, &target, &mut object)?;
        let grace = delete::grace(&target, &object, None);
        let is_held = !items(&object["metadata"]["finalizers"]).is_empty();
        let done = if grace == 0 && !is_held {
            match self.remove(&target.key(), found.revision) {
                Ok(_) => {
                    self.release_definition(of)?;
                    return Ok(Some(object));
                }
                Err(error) => Err(error),
            }
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            delete::mark(&mut object, grace);
            self.put(&target.key(), Some(found.revision), &object)
        } else {
            return Ok(None);
        };
        match done {
            // Whoever changed it meanwhile: it is tried once more, as it is now.
            Err(LogError::Conflict(Some(entry))) => match self.read(of, &entry) {
                now if now.revision == found.revision => Ok(None),
                now => self.begin_end(of, &now),
            },
            Err(LogError::Conflict(None)) => Ok(None),
            done => done.map(|_| None),
        }
    }

    /// Removes an owner that has waited for its last dependent. It is given if it is gone.
    fn let_waiting_go(&self, owner: &Value, namespace: &str) -> Result<Option<Value>, LogError> {
        let Some((of, found)) = self.owner(owner, namespace)? else { return Ok(None) };
        let mut object = found.object.clone();
        let finalizers = items(&object["metadata"]["finalizers"]);
        let waits = finalizers.iter().any(|own| own == FOREGROUND);
        if !waits
            || object["metadata"]["deletionTimestamp"].is_null()
            || !self.is_free(word(&object, "uid"))?
        {
            return Ok(None);
        }
        let others: Vec<Value> =
            finalizers.iter().filter(|own| *own != FOREGROUND).cloned().collect();
        let is_held = !others.is_empty();
        object["metadata"]["finalizers"] = others.into();
        let key = target_of(&of, &object).key();
        let done = match is_held {
            true => self.put(&key, Some(found.revision), &object),
            false => self.remove(&key, found.revision),
        };
        match done {
            Ok(_) => Ok((!is_held).then_some(object)),
            Err(LogError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The owner that a dependent names, if it is there.
    fn owner(
        &self,
        owner: &Value,
        namespace: &str,
    ) -> Result<Option<(ResourceRef, Found)>, LogError> {
        let group = owner["apiVersion"].as_str().unwrap_or_default();
        let group = group.rsplit_once('/').map_or("", |(group, _)| group);
        let is = |of: &ResourceRef| of.group == group && owner["kind"] == of.kind;
        let Some(of) = self.stored()?.into_iter().find(is) else { return Ok(None) };
        let namespace = if of.is_namespaced { namespace } else { "" };
        let name = owner["name"].as_str().unwrap_or_default();
        let (entry, _) = self.log.get(&target::key(&of, namespace, name));
        let found = entry.map(|entry| self.read(&of, &entry));
        Ok(found
            .filter(|found| found.object["metadata"]["uid"] == owner["uid"])
            .map(|found| (of, found)))
    }

    /// A new object of which no owner is there any more goes as soon as it has come: whoever made it did
    /// not know yet.
    pub(super) fn check_owners(&self, target: &Target, object: &Value) -> Result<(), LogError> {
        let owners = items(&object["metadata"]["ownerReferences"]);
        for owner in owners {
            if self.owner(owner, &target.namespace)?.is_some() {
                return Ok(());
            }
        }
        if owners.is_empty() {
            return Ok(());
        }
        let (entry, _) = self.log.get(&key_of(target, object));
        let Some(entry) = entry else { return Ok(()) };
        let found = self.read(&target.resource, &entry);
        match self.begin_end(&target.resource, &found)? {
            Some(gone) => self.follow(&gone),
            None => Ok(()),
        }
    }

    /// Does what an earlier process did not come to: dependents without owners go, and namespaces that
    /// are to end do.
    ///
    /// # Errors
    /// What keeps the log failed.
    pub fn sweep(&self) -> Result<(), LogError> {
        for of in self.stored()? {
            let prefix = target::prefix(&of, "");
            for entry in self.log.range(Range { prefix: &prefix, ..Range::default() })?.entries {
                let found = self.read(&of, &entry);
                if !items(&found.object["metadata"]["ownerReferences"]).is_empty() {
                    self.check_owners(&target_of(&of, &found.object), &found.object)?;
                }
                if of.kind == "Namespace" && of.group.is_empty() {
                    self.finish_namespace(word(&found.object, "name"))?;
                }
            }
        }
        Ok(())
    }

    fn dependents(&self, uid: &str) -> Result<Vec<(ResourceRef, Found)>, LogError> {
        let keys = self.owners.of(&*self.log, uid)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.stored()?;
        let mut found = Vec::new();
        for key in keys {
            let is = |of: &&ResourceRef| key.starts_with(&target::prefix(of, ""));
            let (Some(of), (Some(entry), _)) = (all.iter().find(is), self.log.get(&key)) else {
                continue;
            };
            let own = self.read(of, &entry);
            let owners = items(&own.object["metadata"]["ownerReferences"]);
            if owners.iter().any(|owner| owner["uid"] == uid) {
                found.push((of.clone(), own));
            }
        }
        Ok(found)
    }

    /// Begins to remove everything in a namespace that is to end.
    pub(super) fn empty(&self, namespace: &str) -> Result<(), LogError> {
        for of in self.stored()?.into_iter().filter(|of| of.is_namespaced) {
            let prefix = target::prefix(&of, namespace);
            for entry in self.log.range(Range { prefix: &prefix, ..Range::default() })?.entries {
                if let Some(gone) = self.begin_end(&of, &self.read(&of, &entry))? {
                    self.follow(&gone)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a namespace that is to end and has nothing in it any more.
    pub(super) fn finish_namespace(&self, namespace: &str) -> Result<(), LogError> {
        let is = |of: &ResourceRef| of.kind == "Namespace" && of.group.is_empty();
        let all = self.stored()?;
        let Some(of) = all.iter().find(|of| is(of)).filter(|_| !namespace.is_empty()) else {
            return Ok(());
        };
        let key = target::key(of, "", namespace);
        let Some(entry) = self.log.get(&key).0 else { return Ok(()) };
        let object = self.read(of, &entry).object;
        let is_held = !items(&object["metadata"]["finalizers"]).is_empty();
        if object["metadata"]["deletionTimestamp"].is_null() || is_held {
            return Ok(());
        }
        for of in all.iter().filter(|of| of.is_namespaced) {
            let prefix = target::prefix(of, namespace);
            let first = Range { prefix: &prefix, limit: 1, ..Range::default() };
            if !self.log.range(first)?.entries.is_empty() {
                return Ok(());
            }
        }
        match self.remove(&key, entry.modified) {
            Ok(_) | Err(LogError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Resources whose objects are kept, each once.
    fn stored(&self) -> Result<Vec<ResourceRef>, LogError> {
        let mut seen = std::collections::BTreeSet::new();
        let mut all = self.resources()?;
        all.retain(|of| of.access == Access::Stored && seen.insert(target::prefix(of, "")));
        Ok(all)
    }
}

fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The place of an object.
fn target_of(of: &ResourceRef, object: &Value) -> Target {
    Target {
        resource: of.clone(),
        namespace: word(object, "namespace").to_owned(),
        name: word(object, "name").to_owned(),
        subresource: String::new(),
        rest: String::new(),
        is_watch: false,
    }
}

/// The key of a new object, whose name may have been found for it.
fn key_of(target: &Target, object: &Value) -> String {
    target::key(&target.resource, word(object, "namespace"), word(object, "name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::asking::{ask, make};
    use crate::authentication::User;

    fn cluster() -> Cluster {
        Cluster::new(std::sync::Arc::new(crate::log::Memory::default())).unwrap()
    }

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    const PODS: &str = "/api/v1/namespaces/default/pods";

    fn map(name: &str, owners: &[&Value]) -> Value {
        let owner = |owner: &&Value| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
        };
        let owners: Vec<Value> = owners.iter().map(owner).collect();
        json!({"metadata": {"name": name, "ownerReferences": owners}})
    }

    fn pod(name: &str, owners: &[&Value]) -> Value {
        let mut pod = map(name, owners);
        pod["spec"] = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
        pod
    }

    fn admin(cluster: &Cluster, method: &str, path: &str, body: &Value) -> (u16, Value) {
        ask(cluster, &User::administrator(), method, path, body)
    }

    fn is_there(cluster: &Cluster, path: &str) -> bool {
        admin(cluster, "GET", path, &Value::Null).0 == 200
    }

    #[test]
    fn what_belongs_to_nobody_else_goes_and_pods_get_their_time() {
        let cluster = cluster();
        let owner = make(&cluster, MAPS, &map("owner", &[]));
        let other = make(&cluster, MAPS, &map("other", &[]));
        let child = make(&cluster, MAPS, &map("child", &[&owner]));
        make(&cluster, MAPS, &map("grandchild", &[&child]));
        make(&cluster, MAPS, &map("shared", &[&owner, &other]));
        make(&cluster, PODS, &pod("pod", &[&owner]));
        admin(&cluster, "DELETE", &format!("{MAPS}/owner"), &Value::Null);
        for gone in ["owner", "child", "grandchild"] {
            assert!(!is_there(&cluster, &format!("{MAPS}/{gone}")), "{gone}");
        }
        let (_, shared) = admin(&cluster, "GET", &format!("{MAPS}/shared"), &Value::Null);
        assert_eq!(items(&shared["metadata"]["ownerReferences"]).len(), 1);
        let (code, pod) = admin(&cluster, "GET", &format!("{PODS}/pod"), &Value::Null);
        assert_eq!((code, pod["metadata"]["deletionTimestamp"].is_null()), (200, false));
        // One that comes too late goes at once.
        make(&cluster, MAPS, &map("late", &[&owner]));
        assert!(!is_there(&cluster, &format!("{MAPS}/late")));
    }

    #[test]
    fn an_owner_may_wait_for_what_belongs_to_it() {
        let cluster = cluster();
        let owner = make(&cluster, MAPS, &map("owner", &[]));
        make(&cluster, PODS, &pod("pod", &[&owner]));
        let foreground = json!({"propagationPolicy": "Foreground"});
        admin(&cluster, "DELETE", &format!("{MAPS}/owner"), &foreground);
        let (code, waiting) = admin(&cluster, "GET", &format!("{MAPS}/owner"), &Value::Null);
        assert_eq!((code, &waiting["metadata"]["finalizers"]), (200, &json!([FOREGROUND])));
        let now = json!({"gracePeriodSeconds": 0});
        admin(&cluster, "DELETE", &format!("{PODS}/pod"), &now);
        assert!(!is_there(&cluster, &format!("{MAPS}/owner")));
    }

    #[test]
    fn a_namespace_ends_with_the_last_thing_in_it() {
        let cluster = cluster();
        make(&cluster, "/api/v1/namespaces", &json!({"metadata": {"name": "own"}}));
        let pods = "/api/v1/namespaces/own/pods";
        make(&cluster, pods, &pod("pod", &[]));
        make(&cluster, "/api/v1/namespaces/own/configmaps", &map("map", &[]));
        admin(&cluster, "DELETE", "/api/v1/namespaces/own", &Value::Null);
        let (code, own) = admin(&cluster, "GET", "/api/v1/namespaces/own", &Value::Null);
        assert_eq!((code, &own["status"]["phase"]), (200, &json!("Terminating")));
        assert!(!is_there(&cluster, "/api/v1/namespaces/own/configmaps/map"));
        let now = json!({"gracePeriodSeconds": 0});
        admin(&cluster, "DELETE", &format!("{pods}/pod"), &now);
        assert!(!is_there(&cluster, "/api/v1/namespaces/own"));
    }
}
