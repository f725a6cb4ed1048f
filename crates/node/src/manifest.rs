//! Static pods: files of this host that say what runs here, whoever decides elsewhere.
//!
//! The node makes an object for each, which is marked as its mirror (`kubernetes.io/config.mirror`), and
//! runs it like any other pod. Whoever deletes the object gets it again; a file that changes, or goes,
//! takes its pod along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{Deletion, Object, kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::{Value, json};

use crate::field::{entries, text};
use crate::host::{Host, Node, NodeError};
use crate::pod::{name, namespace};

/// How often the files are looked at, whether one is known to have changed or not (upstream's
/// `fileCheckFrequency`).
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// The largest file that is read, in bytes; upstream's.
const FILE_BYTES_MAX: u64 = 10 << 20;
const SOURCE: &str = "kubernetes.io/config.source";
const HASH: &str = "kubernetes.io/config.hash";
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Node {
    /// Runs what the files of a directory say from now on: a pod each, in YAML or JSON.
    ///
    /// # Errors
    /// The directory cannot be watched.
    pub fn run_files(&self, directory: &Path) -> Result<(), NodeError> {
        let failed = |error: rustix::io::Errno| {
            NodeError::System("watch the directory of static pods", error.into())
        };
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE;
        inotify::add_watch(&watch, directory, flags).map_err(failed)?;
        let directory = directory.to_owned();
        self.0.clone().thread("manifests", move |host| {
            loop {
                host.match_files(&directory);
                let longest = Timespec::try_from(LOOK_EVERY).unwrap_or_default();
                let mut set = [PollFd::new(&watch, PollFlags::IN)];
                // An interruption is a look too early.
                let _ = poll(&mut set, Some(&longest));
                let mut told = [0; 4096];
                while rustix::io::read(&watch, &mut told).is_ok_and(|length| length > 0) {}
            }
        })
    }
}

impl Host {
    /// Makes the objects of static pods what the files say.
    fn match_files(self: &Arc<Self>, directory: &Path) {
        let mut wanted = self.wanted(directory);
        let all = self.cache.list("Pod", "").into_iter();
        for pod in all.filter(|pod| annotation(pod, SOURCE) == "file") {
            let place = (namespace(&pod).to_owned(), name(&pod).to_owned());
            let is_same = wanted
                .get(&place)
                .is_some_and(|own| annotation(own, HASH) == annotation(&pod, HASH));
            match is_same {
                true => drop(wanted.remove(&place)),
                false => self.remove_static(&pod),
            }
        }
        for (place, pod) in wanted {
            match self.client.create(kind("Pod"), &place.0, &pod) {
                // One that is to go has the name still: the next look makes it.
                Err(failure) if failure.is_conflict() => {}
                Err(failure) => {
                    let message = format!("static pod {}/{}: {failure}", place.0, place.1);
                    self.recorder.warn(&Object::new(pod), "", "FailedCreate", message);
                }
                Ok(_) => {}
            }
        }
    }

    fn remove_static(&self, pod: &Object) {
        let uid = Some(crate::pod::uid(pod).to_owned());
        let how = Deletion { uid, ..Deletion::default() };
        // What could not be removed is there at the next look.
        let _ = self.client.delete(kind("Pod"), (namespace(pod), name(pod)), &how);
    }

    /// The pods of all files, by namespace and name. What is none is told of.
    fn wanted(&self, directory: &Path) -> BTreeMap<(String, String), Value> {
        let node = self.client.get(kind("Node"), "", &self.config.name).unwrap_or_default();
        let mut wanted = BTreeMap::new();
        for path in files(directory) {
            match read(&path).and_then(|pod| complete(pod, &node)) {
                Ok(pod) => {
                    let place = (namespace(&pod).to_owned(), name(&pod).to_owned());
                    wanted.insert(place, pod);
                }
                Err(why) => {
                    let message = format!("static pod of {}: {why}", path.display());
                    let about = json!({"kind": "Node", "metadata": {
                        "name": self.config.name, "uid": node["metadata"]["uid"]}});
                    self.recorder.warn(&about, "", "FailedToReadManifest", message);
                }
            }
        }
        wanted
    }
}

fn annotation<'a>(pod: &'a Value, key: &str) -> &'a str {
    entries(&pod["metadata"], "annotations").find(|(own, _)| *own == key).map_or("", |(_, v)| v)
}

/// The files of a directory, in order, but those whose names begin with a dot.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    all.sort();
    all
}

fn read(path: &Path) -> Result<Value, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it has {size} bytes, and {FILE_BYTES_MAX} are the most"));
    }
    let file = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let pod = objects::yaml::parse(&file).map_err(|error| error.to_string())?;
    match (text(&pod, &["kind"]), text(&pod, &["apiVersion"])) {
        ("Pod", "v1") => Ok(pod),
        (kind, version) => Err(format!("it is a {kind} of {version}, and no Pod of v1")),
    }
}

/// The object that stands for a file's pod on this node.
fn complete(mut pod: Value, node: &Value) -> Result<Value, String> {
    let host = name(node);
    if host.is_empty() {
        return Err("the node is not registered yet".to_owned());
    }
    let own = name(&pod).to_owned();
    if own.is_empty() {
        return Err("metadata.name is required".to_owned());
    }
    for (field, is_used) in [
        ("serviceAccountName", !text(&pod, &["spec", "serviceAccountName"]).is_empty()),
        ("ephemeralContainers", pod["spec"]["ephemeralContainers"].is_array()),
    ] {
        if is_used {
            return Err(format!("static pods may not have spec.{field}"));
        }
    }
    let hash = oci::Digest::of(format!("{host}{pod}").as_bytes()).hex()[..32].to_owned();
    if namespace(&pod).is_empty() {
        pod["metadata"]["namespace"] = "default".into();
    }
    pod["metadata"]["name"] = format!("{own}-{}", host.to_lowercase()).into();
    for (key, value) in [(SOURCE, "file"), (HASH, &hash), (MIRROR, &hash)] {
        pod["metadata"]["annotations"][key] = value.into();
    }
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": host, "uid": node["metadata"]["uid"],
        "controller": true,
    }]);
    pod["spec"]["nodeName"] = host.into();
    // No taint ends what this host itself wants to run.
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    tolerations.push(json!({"operator": "Exists", "effect": "NoExecute"}));
    pod["spec"]["tolerations"] = tolerations.into();
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_mirror_on_its_node() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("web.yaml");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n",
        )
        .unwrap();
        std::fs::write(root.path().join(".hidden"), "nonsense").unwrap();
        assert_eq!(files(root.path()), std::slice::from_ref(&path));
        let node = json!({"metadata": {"name": "N", "uid": "u"}});
        let pod = complete(read(&path).unwrap(), &node).unwrap();
        assert_eq!((name(&pod), namespace(&pod)), ("web-n", "default"));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(annotation(&pod, MIRROR).len(), 32);
        std::fs::write(&path, "apiVersion: v1\nkind: Service\n").unwrap();
        assert!(read(&path).unwrap_err().contains("no Pod"));
        let mut wrong = json!({"metadata": {"name": "x"}});
        wrong["spec"]["serviceAccountName"] = "s".into();
        assert!(complete(wrong, &node).is_err());
    }
}
