//! Who is let in, by certificates and tokens, and what auditors are told.

use serde_json::{Value, json};
use testkit::Sandbox;

use super::Cluster;

#[test]
fn certificates_and_tokens_say_who_asks() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    for (field, file) in [("certificate", "client.crt"), ("key", "client.key")] {
        let script =
            format!("sed -n 's/.*client-{field}-data: //p' kubeconfig | base64 -d >{file}");
        let _ = sandbox.shell(&script).ok();
    }
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let script = format!(
        "curl -s --cacert cluster/ca.crt --cert client.crt --key client.key \
         -H 'Content-Type: application/json' -d '{{}}' '{}{review}'",
        cluster.address
    );
    let answer: Value = serde_json::from_str(sandbox.shell(&script).ok()).unwrap();
    let user = &answer["status"]["userInfo"];
    assert_eq!(user["username"], "kubernetes-admin", "{answer}");
    assert_eq!(user["groups"], json!(["system:masters", "system:authenticated"]));
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let (status, made) = cluster.post(path, &json!({}));
    assert_eq!(status, 201, "{made}");
    let account =
        Cluster { token: made["status"]["token"].as_str().unwrap().to_owned(), ..cluster };
    let (status, answer) = account.post(review, &json!({}));
    let name = &answer["status"]["userInfo"]["username"];
    assert_eq!((status, name), (201, &json!("system:serviceaccount:default:default")));
    let (status, failure) = account.get("/api/v1/nodes");
    assert_eq!(status, 403);
    assert_eq!(
        failure["message"],
        "nodes is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \
         \"nodes\" in API group \"\" at the cluster scope"
    );
    let anonymous = |path: &str| {
        let script = format!(
            "curl -s -o answer -w '%{{http_code}}' --cacert cluster/ca.crt '{}{path}'",
            account.address
        );
        sandbox.shell(&script).ok().to_owned()
    };
    assert_eq!((anonymous("/readyz").as_str(), anonymous("/api").as_str()), ("200", "401"));
}

#[test]
fn a_token_outlives_the_server_and_auditors_are_told() {
    let sandbox = Sandbox::new();
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
            {"level": "Request", "verbs": ["create"]},
            {"level": "None"},
        ],
    });
    std::fs::write(sandbox.work().join("policy"), policy.to_string()).unwrap();
    let options = "--disable-agent --audit-log-path audit.log --audit-policy-file policy";
    let start = || Cluster::start_with(&sandbox, options);
    let cluster = start();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let (status, made) = cluster.post(path, &json!({}));
    assert_eq!(status, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hidden"}});
    assert_eq!(cluster.post("/api/v1/namespaces/default/secrets", &secret).0, 201);
    cluster.running.signal(rustix::process::Signal::KILL);
    drop(cluster);
    let account = Cluster { token, ..start() };
    let (status, _) = account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}));
    assert_eq!(status, 201);
    let text = std::fs::read_to_string(sandbox.work().join("audit.log")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["objectRef"]["resource"].as_str().unwrap(),
                &event["level"],
                &event["user"]["username"],
            )
        })
        .collect();
    let (metadata, request) = (json!("Metadata"), json!("Request"));
    let (admin, own) = (json!("kubernetes-admin"), json!("system:serviceaccount:default:default"));
    assert_eq!(
        told,
        [
            ("serviceaccounts", &request, &admin),
            ("secrets", &metadata, &admin),
            ("selfsubjectreviews", &request, &own),
        ]
    );
    assert!(!text.contains("hidden") && text.contains("\"sourceIPs\":[\"127.0.0.1\"]"), "{text}");
}
