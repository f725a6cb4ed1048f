//! The engine as a whole: `_ping`, `version`, `info`, `auth`.

use httpd::Reply;
use serde_json::{Value, json};

use super::call::{Answer, Call, json};
use super::registry_auth::Credentials;

/// `GET /_ping`, which clients begin with: what they are told stands in the header.
pub(super) fn ping(call: &mut Call<'_, '_>) -> Answer {
    let reply = Reply::new(200).header("Builder-Version", "2").header("Swarm", "inactive");
    let reply = reply.header("Cache-Control", "no-cache, no-store, must-revalidate");
    let reply = reply.header("Pragma", "no-cache");
    let body = if call.exchange.head().method == "HEAD" { "" } else { "OK" };
    Ok(Some(reply.document("text/plain; charset=utf-8", body.into())))
}

/// `GET /version`
pub(super) fn version(call: &mut Call<'_, '_>) -> Answer {
    let mut both = crate::info::version(call.api.version);
    json(200, &both["Server"].take())
}

/// `GET /info`
pub(super) fn info(call: &mut Call<'_, '_>) -> Answer {
    let mut info = crate::info::info(call.engine(), call.api.version)?;
    if let Some(fields) = info.as_object_mut() {
        let rest = json!({
            "NFd": open_files(),
            "NGoroutines": threads(),
            "NEventsListener": 0,
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "RegistryConfig": registries(),
            "GenericResources": null,
            "ContainerdCommit": { "ID": "", "Expected": "" },
            "RuncCommit": { "ID": "", "Expected": "" },
            "InitCommit": { "ID": "", "Expected": "" },
            "Isolation": "",
            "CDISpecDirs": [],
        });
        if let Value::Object(rest) = rest {
            fields.extend(rest);
        }
        if call.version < 25 {
            let words = fields.get("SecurityOptions").and_then(Value::as_array).cloned();
            let short = words.unwrap_or_default().into_iter().map(|word| short(&word));
            fields.insert("SecurityOptions".into(), short.collect());
        }
    }
    json(200, &info)
}

/// As before version 1.25: `seccomp`, where it is `name=seccomp,profile=builtin` since.
fn short(word: &Value) -> Value {
    let word = word.as_str().unwrap_or_default();
    let first = word.split(',').next().unwrap_or_default();
    first.strip_prefix("name=").unwrap_or(first).into()
}

fn registries() -> Value {
    json!({
        "AllowNondistributableArtifactsCIDRs": [],
        "AllowNondistributableArtifactsHostnames": [],
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": {
            "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
        },
        "Mirrors": [],
    })
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// `POST /auth`: whether a registry knows these credentials. They are kept by the client.
pub(super) fn auth(call: &mut Call<'_, '_>) -> Answer {
    let credentials: Credentials = call.input()?;
    credentials.check(call.engine())?;
    json(200, &json!({ "Status": "Login Succeeded", "IdentityToken": "" }))
}
