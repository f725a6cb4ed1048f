//! How a container is held: security contexts of the pod and of the container.

use std::path::Path;

use engine::{Seccomp, Security, Sharing};
use serde_json::Value;

use crate::field::{is, text, texts};

/// What a container runs as, and how it is held.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) security: Security,
    /// `user[:group]`; the image's where empty.
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
}

/// A field of the container's context, else of the pod's.
fn over<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    match &container["securityContext"][field] {
        Value::Null => &pod["spec"]["securityContext"][field],
        own => own,
    }
}

/// The context of a container, whose image runs as `image_user`. `profiles` is where profiles of
/// seccomp lie.
///
/// # Errors
/// What is asked and cannot be, in upstream's words.
pub(crate) fn context(
    pod: &Value,
    container: &Value,
    image_user: &str,
    profiles: &Path,
) -> Result<Context, String> {
    let spec = &pod["spec"];
    if spec["hostUsers"] == false {
        return Err("hostUsers: false: user namespaces of pods are not supported yet".to_owned());
    }
    let own = &container["securityContext"];
    let (user, group) =
        (over(pod, container, "runAsUser").as_i64(), over(pod, container, "runAsGroup").as_i64());
    if over(pod, container, "runAsNonRoot") == &Value::Bool(true) {
        check_non_root(user, image_user)?;
    }
    let user = match (user, group) {
        (None, None) => String::new(),
        (Some(user), None) => user.to_string(),
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (None, Some(group)) => {
            let user = image_user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
            format!("{user}:{group}")
        }
    };
    let context = &spec["securityContext"];
    let mut groups: Vec<String> = context["supplementalGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_i64)
        .chain(context["fsGroup"].as_i64())
        .map(|group| group.to_string())
        .collect();
    groups.dedup();
    let is_on_host = |field: &str| if is(spec, field) { Sharing::Host } else { Sharing::Private };
    let security = Security {
        privileged: is(own, "privileged"),
        cap_add: capabilities(&own["capabilities"], "add"),
        cap_drop: capabilities(&own["capabilities"], "drop"),
        no_new_privileges: own["allowPrivilegeEscalation"] == false,
        seccomp: seccomp(over(pod, container, "seccompProfile"), profiles)?,
        read_only: is(own, "readOnlyRootFilesystem"),
        unmasked: text(own, &["procMount"]) == "Unmasked",
        pid: is_on_host("hostPID"),
        ipc: is_on_host("hostIPC"),
        host_uts: is(spec, "hostNetwork"),
        ..Security::default()
    };
    Ok(Context { security, user, groups })
}

fn capabilities(own: &Value, field: &str) -> Vec<String> {
    texts(own, field)
}

fn check_non_root(user: Option<i64>, image_user: &str) -> Result<(), String> {
    let of_image = image_user.split(':').next().unwrap_or_default();
    match (user, of_image) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, "" | "0") => Err("container has runAsNonRoot and image will run as root".to_owned()),
        (None, name) if name.parse::<u32>().is_err() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user \
             is non-root"
        )),
        (None, _) => Ok(()),
    }
}

/// Which system calls are allowed. Who asks for nothing gets the default profile, as kubelets with
/// `--seccomp-default` do.
fn seccomp(profile: &Value, profiles: &Path) -> Result<Seccomp, String> {
    match text(profile, &["type"]) {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "Localhost" => {
            let name = text(profile, &["localhostProfile"]);
            if name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == "..")
            {
                return Err(format!("seccomp profile {name:?} is not below the node's profiles"));
            }
            let path = profiles.join(name);
            let json = std::fs::read_to_string(&path);
            json.map(Seccomp::Profile)
                .map_err(|error| format!("cannot load seccomp profile {}: {error}", path.display()))
        }
        _ => Ok(Seccomp::Default),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_containers_context_comes_before_its_pods() {
        let pod = json!({"spec": {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]},
            "hostIPC": true,
        }});
        let container = json!({"securityContext": {
            "runAsUser": 1001, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        }});
        let made = context(&pod, &container, "", Path::new("/")).unwrap();
        assert_eq!(
            (made.user.as_str(), made.groups),
            ("1001:3000", vec!["4000".into(), "2000".into()])
        );
        assert!(made.security.no_new_privileges && made.security.read_only);
        assert_eq!(made.security.cap_add, ["NET_ADMIN"]);
        assert_eq!((made.security.ipc, made.security.pid), (Sharing::Host, Sharing::Private));
    }

    #[test]
    fn root_is_refused_where_it_is_not_wanted() {
        let check = |container: Value, image_user: &str, is_good: bool| {
            let made = context(&json!({"spec": {}}), &container, image_user, Path::new("/"));
            assert_eq!(made.is_ok(), is_good, "{container} {image_user}");
        };
        let asked = json!({"securityContext": {"runAsNonRoot": true}});
        check(asked.clone(), "", false);
        check(asked.clone(), "www", false);
        check(asked.clone(), "101:101", true);
        check(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}), "101", false);
        check(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 5}}), "", true);
        let outside = json!({"type": "Localhost", "localhostProfile": "../x"});
        check(json!({"securityContext": {"seccompProfile": outside}}), "", false);
    }
}
