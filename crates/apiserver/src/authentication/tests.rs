use serde_json::{Value, json};

use super::{Credentials, ISSUER};
use crate::asking::{ask, cluster, get, make, pod};
use crate::{Cluster, User};

const TOKENS: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

fn authenticate(
    cluster: &Cluster,
    headers: &[(&str, &str)],
    path: &str,
) -> Result<super::Asking, u16> {
    let parts = [path.to_owned()];
    let credentials = Credentials { certificate: None, headers };
    cluster.authenticate(&credentials, &parts).map_err(|failure| failure.code)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn token(cluster: &Cluster, spec: &Value) -> String {
    let made = make(cluster, TOKENS, &json!({"spec": spec}));
    made["status"]["token"].as_str().unwrap().to_owned()
}

#[test]
fn strangers_ask_whether_it_is_well_and_liars_nothing() {
    let cluster = cluster();
    assert_eq!(authenticate(&cluster, &[], "readyz").unwrap().user, User::anonymous());
    assert_eq!(authenticate(&cluster, &[], "api"), Err(401));
    for wrong in ["Bearer nonsense", "Basic YTpi", "Bearer", "nonsense"] {
        let headers = [("authorization", wrong)];
        assert_eq!(authenticate(&cluster, &headers, "readyz"), Err(401), "{wrong}");
    }
}

#[test]
fn a_service_account_is_known_by_its_token_as_long_as_it_is_there() {
    let cluster = cluster();
    let token = token(&cluster, &json!({}));
    let authorization = bearer(&token);
    let headers = [("authorization", authorization.as_str())];
    let user = authenticate(&cluster, &headers, "api").unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:default:default");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    assert!(user.extra[super::CREDENTIAL_ID][0].starts_with("JTI="));
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    assert_eq!(ask(&cluster, &User::administrator(), "DELETE", path, &Value::Null).0, 200);
    // Another one of the name has taken its place.
    get(&cluster, path);
    assert_eq!(authenticate(&cluster, &headers, "api"), Err(401));
}

#[test]
fn a_token_is_for_somebody_and_bound_to_something() {
    let cluster = cluster();
    let review = |token: &str, audiences: &Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        make(&cluster, "/apis/authentication.k8s.io/v1/tokenreviews", &body)["status"].clone()
    };
    let vault = token(&cluster, &json!({"audiences": ["vault"], "expirationSeconds": 600}));
    assert_eq!(review(&vault, &json!(["vault", "x"]))["audiences"], json!(["vault"]));
    let refused = review(&vault, &Value::Null);
    assert!(refused["authenticated"].is_null() && refused["error"].is_string(), "{refused}");
    let pods = "/api/v1/namespaces/default/pods";
    let made = make(&cluster, pods, &pod("p"));
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": "p"});
    let bound = token(&cluster, &json!({"boundObjectRef": reference}));
    let status = review(&bound, &json!([ISSUER]));
    assert_eq!(status["authenticated"], true);
    let extra = &status["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([made["metadata"]["uid"]]));
    let admin = User::administrator();
    assert_eq!(ask(&cluster, &admin, "DELETE", &format!("{pods}/p"), &Value::Null).0, 200);
    assert_eq!(review(&bound, &Value::Null)["authenticated"], Value::Null);
    for (spec, expected) in [
        (json!({"expirationSeconds": 1}), 422),
        (json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}), 404),
        (json!({"boundObjectRef": {"kind": "Service", "apiVersion": "v1", "name": "x"}}), 400),
    ] {
        let (code, failure) = ask(&cluster, &admin, "POST", TOKENS, &json!({"spec": spec}));
        assert_eq!(code, expected, "{failure}");
    }
    let other = "/api/v1/namespaces/default/serviceaccounts/gone/token";
    assert_eq!(ask(&cluster, &admin, "POST", other, &json!({})).0, 404);
}

#[test]
fn a_secret_with_a_token_is_filled_and_the_token_goes_with_it() {
    use base64::Engine as _;
    let cluster = cluster();
    let secrets = "/api/v1/namespaces/default/secrets";
    let body = json!({
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    });
    let made = make(&cluster, secrets, &body);
    assert!(made["metadata"]["annotations"]["kubernetes.io/service-account.uid"].is_string());
    let token = made["data"]["token"].as_str().unwrap();
    let token = base64::prelude::BASE64_STANDARD.decode(token).unwrap();
    let authorization = bearer(std::str::from_utf8(&token).unwrap());
    let headers = [("authorization", authorization.as_str())];
    let user = authenticate(&cluster, &headers, "api").unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:default:default");
    let path = format!("{secrets}/s");
    assert_eq!(ask(&cluster, &User::administrator(), "DELETE", &path, &Value::Null).0, 200);
    assert_eq!(authenticate(&cluster, &headers, "api"), Err(401));
}

#[test]
fn who_may_acts_as_others() {
    let cluster = cluster();
    let own = bearer(&token(&cluster, &json!({})));
    let as_jane = [
        ("authorization", own.as_str()),
        ("impersonate-user", "jane"),
        ("impersonate-group", "team"),
        ("impersonate-extra-scopes%2fx", "a"),
    ];
    assert_eq!(authenticate(&cluster, &as_jane, "api"), Err(403));
    let role = json!({"metadata": {"name": "acts"}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"]},
        {
            "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes/x"],
            "verbs": ["impersonate"],
        },
    ]});
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    make(&cluster, &format!("{roles}/clusterroles"), &role);
    let binding = json!({
        "metadata": {"name": "acts"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        "roleRef": {"kind": "ClusterRole", "name": "acts", "apiGroup": "rbac.authorization.k8s.io"},
    });
    make(&cluster, &format!("{roles}/clusterrolebindings"), &binding);
    let asking = authenticate(&cluster, &as_jane, "api").unwrap();
    assert_eq!(asking.user.groups, ["team", "system:authenticated"]);
    assert_eq!(asking.user.extra["scopes/x"], ["a"]);
    let actor = asking.impersonator.unwrap();
    assert_eq!(actor.name, "system:serviceaccount:default:default");
    let as_joe = [("authorization", own.as_str()), ("impersonate-user", "joe")];
    assert_eq!(authenticate(&cluster, &as_joe, "api"), Err(403));
    let as_nobody = [("authorization", own.as_str()), ("impersonate-group", "team")];
    assert_eq!(authenticate(&cluster, &as_nobody, "api"), Err(500));
}

#[test]
fn others_learn_how_tokens_are_verified() {
    let cluster = cluster();
    let account = User::account("default", "default");
    let path = "/.well-known/openid-configuration";
    let (code, found) = ask(&cluster, &account, "GET", path, &Value::Null);
    assert_eq!((code, &found["issuer"]), (200, &json!(ISSUER)));
    let (code, keys) = ask(&cluster, &account, "GET", "/openid/v1/jwks", &Value::Null);
    assert_eq!((code, &keys["keys"][0]["alg"]), (200, &json!("ES256")));
    assert_eq!(ask(&cluster, &User::known("jane", &[]), "GET", path, &Value::Null).0, 403);
}
