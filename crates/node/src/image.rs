//! Bringing images, as pull policies say.

use base64::Engine as _;
use client::kind;
use engine::PullJob;
use oci::Reference;
use serde_json::Value;

use crate::field::{items, text};
use crate::host::Host;
use crate::pod::namespace;
use crate::timer::now_ms;

/// Why an image is not here: the reason of the API, and words.
pub(crate) type Failure = (String, String);

fn failure(reason: &str, message: impl Into<String>) -> Failure {
    (reason.to_owned(), message.into())
}

impl Host {
    /// Makes sure that a container's image is here.
    pub(crate) fn provide_image(&self, pod: &Value, container: &Value) -> Result<(), Failure> {
        let image = text(container, &["image"]);
        let name = text(container, &["name"]);
        self.provide(pod, name, image, text(container, &["imagePullPolicy"]))
    }

    /// Makes sure that an image is here; `container` is who needs it, for events.
    pub(crate) fn provide(
        &self,
        pod: &Value,
        container: &str,
        image: &str,
        policy: &str,
    ) -> Result<(), Failure> {
        let reference: Reference = image.parse().map_err(|error| {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            self.recorder.warn(pod, container, "InspectFailed", message.clone());
            failure("InvalidImageName", message)
        })?;
        let is_here = !self.engine.lacks_image(image, None);
        match policy {
            "Never" if !is_here => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                self.recorder.warn(pod, container, "ErrImageNeverPull", message.clone());
                return Err(failure("ErrImageNeverPull", message));
            }
            "Always" => {}
            _ if is_here => {
                let message = format!("Container image {image:?} already present on machine");
                self.recorder.normal(pod, container, "Pulled", message);
                return Ok(());
            }
            _ => {}
        }
        self.recorder.normal(pod, container, "Pulling", format!("Pulling image {image:?}"));
        let begun = now_ms();
        let login = self.login(pod, &reference);
        let job = PullJob { reference, platform: None, login };
        match self.spawner.pull(job, &mut |_| true) {
            Ok(_) => {
                let took = now_ms() - begun;
                let message = format!("Successfully pulled image {image:?} in {took}ms");
                self.recorder.normal(pod, container, "Pulled", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("failed to pull image {image:?}: {}", chain(&error));
                self.recorder.warn(pod, container, "Failed", message.clone());
                self.recorder.warn(pod, container, "Failed", "Error: ErrImagePull".to_owned());
                Err(failure("ErrImagePull", message))
            }
        }
    }

    /// Who asks a registry: the first of the pod's secrets that knows it, then its service account's.
    fn login(&self, pod: &Value, reference: &Reference) -> Option<(String, String)> {
        let space = namespace(pod);
        let own = items(&pod["spec"], "imagePullSecrets").iter();
        let mut names: Vec<String> = own.map(|one| text(one, &["name"]).to_owned()).collect();
        let account = match text(pod, &["spec", "serviceAccountName"]) {
            "" => "default",
            account => account,
        };
        if names.is_empty()
            && let Ok(account) = self.client.get(kind("ServiceAccount"), space, account)
        {
            let more = items(&account, "imagePullSecrets").iter();
            names.extend(more.map(|one| text(one, &["name"]).to_owned()));
        }
        let secret = |name: &String| self.client.get(kind("Secret"), space, name).ok();
        names
            .iter()
            .filter_map(secret)
            .find_map(|secret| credentials(&secret, reference.registry()))
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// User and password that a secret has for a registry.
fn credentials(secret: &Value, registry: &str) -> Option<(String, String)> {
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let (field, is_new) = match text(secret, &["type"]) {
        "kubernetes.io/dockerconfigjson" => (".dockerconfigjson", true),
        "kubernetes.io/dockercfg" => (".dockercfg", false),
        _ => return None,
    };
    let config: Value = serde_json::from_slice(&decode(text(secret, &["data", field]))?).ok()?;
    let auths = if is_new { &config["auths"] } else { &config };
    let host = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let is_hub =
        |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let fits = |key: &str| {
        let host = host(key);
        host == registry || is_hub(&host) && is_hub(registry)
    };
    let (_, auth) = auths.as_object()?.iter().find(|(key, _)| fits(key))?;
    let user = text(auth, &["username"]);
    if !user.is_empty() {
        return Some((user.to_owned(), text(auth, &["password"]).to_owned()));
    }
    let pair = String::from_utf8(decode(text(auth, &["auth"]))?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_know_registries() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": encode("u:p:q")},
            "r.example": {"username": "a", "password": "b"},
        }});
        let secret = json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": encode(&config.to_string())},
        });
        let check = |registry: &str, expected: Option<(&str, &str)>| {
            let own = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(credentials(&secret, registry), own, "{registry}");
        };
        check("docker.io", Some(("u", "p:q")));
        check("r.example", Some(("a", "b")));
        check("other.example", None);
    }
}
