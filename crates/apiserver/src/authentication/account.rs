//! Tokens of service accounts: made, and believed as long as what they are bound to is there.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{CREDENTIAL_ID, ISSUER, User};
use crate::cluster::{Cluster, items, random, uid};
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;

/// Shortest and longest life of a token, in seconds (upstream's `ValidateTokenRequest`).
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// How long a token lives if nobody says how long.
const SECONDS: i64 = 3600;
/// Clocks may differ by so many seconds.
const LEEWAY: i64 = 60;
/// Who signs the tokens in secrets, which live as long as those.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const NAME_ANNOTATION: &str = "kubernetes.io/service-account.name";
const UID_ANNOTATION: &str = "kubernetes.io/service-account.uid";

/// Whose a token is, and which of the audiences it is for.
pub(super) fn user_of(
    cluster: &Cluster,
    token: &str,
    wanted: &[String],
) -> Result<(User, Vec<String>), String> {
    let claims = cluster.trust.key.verify(token).ok_or("invalid bearer token")?;
    if claims["iss"] == LEGACY_ISSUER {
        return legacy_user(cluster, token, &claims).map(|user| (user, wanted.to_vec()));
    }
    let now = jiff::Timestamp::now().as_second();
    let time = |name: &str| claims[name].as_i64().unwrap_or_default();
    if claims["iss"] != ISSUER {
        return Err("invalid bearer token".to_owned());
    }
    if now > time("exp") + LEEWAY {
        return Err("service account token has expired".to_owned());
    }
    if now + LEEWAY < time("nbf") {
        return Err("service account token is not valid yet".to_owned());
    }
    let own = items(&claims["aud"]);
    let audiences: Vec<String> =
        wanted.iter().filter(|one| own.iter().any(|own| *own == ***one)).cloned().collect();
    if audiences.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {wanted:?}",
            claims["aud"]
        ));
    }
    let bound = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, account) = (text(&bound["namespace"]), &bound["serviceaccount"]);
    let mut user = account_user(cluster, &namespace, &text(&account["name"]), &account["uid"])?;
    for (kind, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
        let reference = &bound[kind];
        if !reference.is_object() {
            continue;
        }
        // The node of a pod's token may be gone before the pod is.
        let is_needed = kind != "node" || !bound["pod"].is_object();
        if is_needed && !is_there(cluster, plural, &namespace, reference) {
            return Err("service account token has been invalidated".to_owned());
        }
        if kind != "secret" {
            for field in ["name", "uid"] {
                let key = format!("authentication.kubernetes.io/{kind}-{field}");
                user.extra.insert(key, vec![text(&reference[field])]);
            }
        }
    }
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", text(&claims["jti"]))]);
    Ok((user, audiences))
}

/// A service account that is there, and is the one that was.
fn account_user(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    own: &Value,
) -> Result<User, String> {
    let account = cluster.object("", "serviceaccounts", namespace, name);
    let account = account.filter(|account| account["metadata"]["uid"] == *own);
    let account = account.ok_or("service account token has been invalidated")?;
    let id = account["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    Ok(User { uid: id, ..User::account(namespace, name) })
}

/// Whether an object that a token is bound to is there, and not long gone.
fn is_there(cluster: &Cluster, plural: &str, namespace: &str, reference: &Value) -> bool {
    let namespace = if plural == "nodes" { "" } else { namespace };
    let name = reference["name"].as_str().unwrap_or_default();
    let found = cluster.object("", plural, namespace, name);
    found.is_some_and(|found| found["metadata"]["uid"] == reference["uid"])
}

fn legacy_user(cluster: &Cluster, token: &str, claims: &Value) -> Result<User, String> {
    let text = |field: &str| {
        claims[format!("kubernetes.io/serviceaccount/{field}")].as_str().unwrap_or_default()
    };
    let namespace = text("namespace");
    let secret = cluster.object("", "secrets", namespace, text("secret.name"));
    let is_own = secret.is_some_and(|secret| {
        let held = secret["data"]["token"].as_str().unwrap_or_default();
        let held = BASE64_STANDARD.decode(held).unwrap_or_default();
        crate::identity::is_equal(&held, token.as_bytes())
    });
    if !is_own {
        return Err("service account token has been invalidated".to_owned());
    }
    let own = json!(text("service-account.uid"));
    account_user(cluster, namespace, text("service-account.name"), &own)
}

/// Fills a secret that is to hold the token of a service account, if there is such an account.
pub(crate) fn fill_secret(cluster: &Cluster, secret: &mut Value) {
    if secret["type"] != SECRET_TYPE || secret["data"]["token"].is_string() {
        return;
    }
    let metadata = &secret["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let account = text(&metadata["annotations"][NAME_ANNOTATION]);
    let Some(found) = cluster.object("", "serviceaccounts", &namespace, &account) else { return };
    let id = found["metadata"]["uid"].clone();
    let claims = json!({
        "iss": LEGACY_ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": name,
        "kubernetes.io/serviceaccount/service-account.name": account,
        "kubernetes.io/serviceaccount/service-account.uid": id,
        "sub": User::account(&namespace, &account).name,
    });
    let Ok(token) = cluster.trust.key.sign(&claims) else { return };
    secret["metadata"]["annotations"][UID_ANNOTATION] = id;
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    let fields =
        [("token", &*token), ("namespace", &*namespace), ("ca.crt", &*cluster.trust.authority)];
    for (field, value) in fields {
        secret["data"][field] = BASE64_STANDARD.encode(value).into();
    }
}

/// Answers a request for a token (`serviceaccounts/NAME/token`).
pub(crate) fn request_token(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    let found = cluster.find(target)?.object;
    let body = request.object()?;
    let spec = body.get("spec").cloned().unwrap_or_else(|| json!({}));
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(SECONDS);
    check_seconds(&target.name, seconds)?;
    let mut audiences = items(&spec["audiences"]).to_vec();
    if audiences.is_empty() {
        audiences.push(ISSUER.into());
    }
    let mut bound = json!({
        "namespace": target.namespace,
        "serviceaccount": {"name": target.name, "uid": found["metadata"]["uid"]},
    });
    let reference = &spec["boundObjectRef"];
    match reference.is_object() {
        true => bind(cluster, request, target, reference, &mut bound)?,
        false => check_node(request, &Value::Null, "")?,
    }
    if request.is_dry_run()? {
        return Ok(answer(&body, seconds, &audiences, "", 0));
    }
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "aud": audiences,
        "exp": now + seconds,
        "iat": now,
        "iss": ISSUER,
        "jti": uid(&random::<16>()),
        "kubernetes.io": bound,
        "nbf": now,
        "sub": User::account(&target.namespace, &target.name).name,
    });
    let token = cluster.trust.key.sign(&claims).map_err(Failure::internal)?;
    Ok(answer(&body, seconds, &audiences, &token, now + seconds))
}

fn check_seconds(name: &str, seconds: i64) -> Result<(), Failure> {
    let why = match seconds {
        ..SECONDS_MIN => "may not specify a duration less than 10 minutes",
        SECONDS_MIN..=SECONDS_MAX => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let message = format!(
        "TokenRequest.authentication.k8s.io {name:?} is invalid: spec.expirationSeconds: Invalid \
         value: {seconds}: {why}"
    );
    Err(Failure { code: 422, reason: "Invalid", ..Failure::bad_request(message) })
}

/// Binds a token to a pod, a secret or a node: it is believed as long as that is there.
fn bind(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    reference: &Value,
    bound: &mut Value,
) -> Result<(), Failure> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (plural, key, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("pods", "pod", target.namespace.as_str()),
        ("v1", "Secret") => ("secrets", "secret", target.namespace.as_str()),
        ("v1", "Node") => ("nodes", "node", ""),
        (version, kind) => {
            let why =
                format!("cannot bind token for serviceaccount to kind {kind:?} of {version:?}");
            return Err(Failure::bad_request(why));
        }
    };
    let of = Cluster::resource("", plural);
    let name = text("name");
    let object = cluster.object("", plural, namespace, name);
    let object = object.ok_or_else(|| Failure::not_found(of, name))?;
    let own = object["metadata"]["uid"].as_str().unwrap_or_default();
    if !text("uid").is_empty() && text("uid") != own {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object \
             might have been deleted and then recreated",
            text("uid")
        );
        return Err(Failure::precondition(of, name, &why));
    }
    if key == "pod" {
        if object["spec"]["serviceAccountName"] != *target.name {
            let why = "cannot bind token to a pod running with a different service account name";
            return Err(Failure::bad_request(why));
        }
        let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
        if let Some(node) = cluster.object("", "nodes", "", node) {
            bound["node"] =
                json!({"name": node["metadata"]["name"], "uid": node["metadata"]["uid"]});
        }
    }
    check_node(request, &object, key)?;
    bound[key] = json!({"name": name, "uid": own});
    Ok(())
}

/// A node gets tokens of its own pods only (upstream's `NodeRestriction`).
fn check_node(request: &Request, object: &Value, key: &str) -> Result<(), Failure> {
    let Some(node) = request.user.as_node() else { return Ok(()) };
    let of = Cluster::resource("", "serviceaccounts");
    match (key, object["spec"]["nodeName"] == *node) {
        ("pod", true) => Ok(()),
        ("pod", false) => Err(Failure::forbidden(
            of,
            "",
            "node requested token bound to a pod scheduled on a different node",
        )),
        _ => Err(Failure::forbidden(of, "", "node requested token not bound to a pod")),
    }
}

fn answer(
    body: &Map<String, Value>,
    seconds: i64,
    audiences: &[Value],
    token: &str,
    expires: i64,
) -> Answer {
    let mut spec = body.get("spec").cloned().unwrap_or_else(|| json!({}));
    spec["audiences"] = audiences.into();
    spec["expirationSeconds"] = seconds.into();
    let mut metadata = body.get("metadata").cloned().unwrap_or_else(|| json!({}));
    metadata["creationTimestamp"] =
        objects::time::seconds(jiff::Timestamp::now().as_second()).into();
    Answer::document(
        201,
        json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": objects::time::seconds(expires)},
        }),
    )
}
