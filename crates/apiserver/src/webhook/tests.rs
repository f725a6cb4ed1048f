//! Webhooks of a server of HTTPS in this process, which does what its path says.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httpd::{Clients, Exchange, Limits, Listener, Peer, Reply, Service, Stopper};
use serde_json::{Value, json};

use crate::asking::{ask, cluster, make, pod, request};
use crate::{Answer, Cluster, User};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// Serves webhooks until it is dropped.
struct Hooks {
    port: u16,
    bundle: String,
    stopper: Stopper,
    running: Option<JoinHandle<()>>,
    /// What it was asked, in order.
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _directory: tempfile::TempDir,
}

struct Face(Arc<Mutex<Vec<(String, Value)>>>);

impl Service for Face {
    fn serve(&self, exchange: &mut Exchange<'_>) {
        let path = exchange.head().path.clone();
        let body = exchange.body().whole(1 << 20).unwrap().unwrap();
        let review: Value = serde_json::from_slice(&body).unwrap();
        let asked = &review["request"];
        let response = match path.as_str() {
            "/convert" => converted(asked),
            _ => answer(&path, asked),
        };
        self.0.lock().unwrap().push((path.clone(), review.clone()));
        let (version, kind) = (&review["apiVersion"], &review["kind"]);
        let review = json!({"apiVersion": version, "kind": kind, "response": response});
        let reply = match path.as_str() {
            "/broken" => Reply::new(500).document("text/plain", b"it is broken".to_vec()),
            _ => Reply::new(200).document("application/json", review.to_string().into_bytes()),
        };
        let _ = exchange.send(reply);
    }

    fn refuse(&self, status: u16, _why: &'static str, _peer: Peer) -> Reply {
        Reply::new(status)
    }

    fn refuse_plain(&self) -> &'static str {
        ""
    }
}

fn answer(path: &str, asked: &Value) -> Value {
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    let patch = |operations: Value| BASE64_STANDARD.encode(operations.to_string());
    let data = &asked["object"]["data"];
    match path {
        "/deny" => {
            response["allowed"] = false.into();
            response["status"] =
                json!({"message": "not today", "code": 403, "reason": "Forbidden"});
        }
        "/silent" => response["allowed"] = false.into(),
        "/warn" => {
            response["warnings"] = json!(["mind the gap"]);
            response["auditAnnotations"] = json!({"seen": "yes"});
        }
        "/other" => response["uid"] = "other".into(),
        // Adds what the one below looks for.
        "/first" | "/second" => {
            let own = &path[1..];
            let count = data[own].as_str().map_or(0, |count| count.parse().unwrap());
            let operations = json!([
                {"op": "add", "path": format!("/data/{own}"), "value": (count + 1).to_string()},
                {"op": "add", "path": "/metadata/uid", "value": "stolen"},
            ]);
            response["patch"] = patch(operations).into();
            response["patchType"] = "JSONPatch".into();
        }
        _ => {}
    }
    response
}

/// Version `v1` has a host and a port, `v1beta1` has both in one.
fn converted(asked: &Value) -> Value {
    let convert = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = asked["desiredAPIVersion"].clone();
        let spec = object["spec"].take();
        object["spec"] = match spec["both"].as_str() {
            Some("nonsense") => return Err("nonsense"),
            Some(both) => {
                let (host, port) = both.split_once(':').unwrap();
                json!({"host": host, "port": port})
            }
            None => {
                let text = |field: &str| spec[field].as_str().unwrap();
                json!({"both": format!("{}:{}", text("host"), text("port"))})
            }
        };
        object["metadata"]["labels"]["converted"] = "yes".into();
        object["metadata"]["resourceVersion"] = "stolen".into();
        Ok(object)
    };
    let all: Result<Vec<Value>, _> =
        asked["objects"].as_array().unwrap().iter().map(convert).collect();
    match all {
        Ok(all) => json!({"uid": asked["uid"], "result": {"status": "Success"},
            "convertedObjects": all}),
        Err(why) => json!({"uid": asked["uid"], "result": {"status": "Failure", "message": why}}),
    }
}

impl Hooks {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "hook.default.svc".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let certificate = write("certificate", &own.cert.pem());
        let key = write("key", &own.signing_key.serialize_pem());
        let tls = httpd::tls_config(&certificate, &key, Clients::Anybody).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let limits =
            Limits { connections: 10, silence: Duration::from_secs(60), bytes_per_second: 1 };
        let server = httpd::Server::new(vec![Listener::Tcp(listener, Some(tls))], limits).unwrap();
        let stopper = server.stopper();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let face: Arc<dyn Service> = Arc::new(Face(asked.clone()));
        let running = std::thread::spawn(move || server.run(&face).unwrap());
        let bundle = BASE64_STANDARD.encode(own.cert.pem());
        Self { port, bundle, stopper, running: Some(running), asked, _directory: directory }
    }

    fn hook(&self, path: &str) -> Value {
        json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {
                "url": format!("https://localhost:{}{path}", self.port), "caBundle": self.bundle,
            },
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
                "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
        })
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.stopper.stop();
        let _ = self.running.take().map(JoinHandle::join);
    }
}

fn configure(cluster: &Cluster, path: &str, name: &str, hooks: &[Value]) {
    make(cluster, path, &json!({"metadata": {"name": name}, "webhooks": hooks}));
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

fn post(cluster: &Cluster, path: &str, body: &Value) -> (u16, Value) {
    ask(cluster, &User::administrator(), "POST", path, body)
}

#[test]
fn those_that_change_are_asked_in_order_and_again_if_they_want_to() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let mut first = hooks.hook("/first");
    first["reinvocationPolicy"] = "IfNeeded".into();
    configure(&cluster, MUTATING, "b", &[hooks.hook("/second")]);
    configure(&cluster, MUTATING, "a", &[first]);
    let (code, made) = post(&cluster, MAPS, &map("m"));
    assert_eq!(
        (code, &made["data"]["first"], &made["data"]["second"]),
        (201, &json!("2"), &json!("1"))
    );
    assert_eq!(hooks.paths(), ["/first", "/second", "/first"]);
    // What the server gives, nobody else does.
    assert_ne!(made["metadata"]["uid"], "stolen");
    let asked = hooks.asked.lock().unwrap()[1].1.clone();
    let asked = &asked["request"];
    assert_eq!(asked["object"]["data"]["first"], "1", "{asked}");
    assert_eq!(
        (&asked["operation"], &asked["name"], &asked["userInfo"]["username"], &asked["options"]),
        (
            &json!("CREATE"),
            &json!("m"),
            &json!("kubernetes-admin"),
            &json!({"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"})
        )
    );
    assert_eq!((&asked["oldObject"], &asked["dryRun"]), (&Value::Null, &json!(false)));
    // A thing that goes cannot be changed.
    let (code, failure) =
        ask(&cluster, &User::administrator(), "DELETE", &format!("{MAPS}/m"), &Value::Null);
    assert_eq!(code, 500, "{failure}");
}

#[test]
fn those_that_refuse_are_told_with_their_words() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    for (path, code, message) in [
        ("/deny", 403, "admission webhook \"deny.example.com\" denied the request: not today"),
        (
            "/silent",
            400,
            "admission webhook \"silent.example.com\" denied the request without explanation",
        ),
        (
            "/other",
            500,
            "Internal error occurred: failed calling webhook \"other.example.com\": expected response.uid=",
        ),
        (
            "/broken",
            500,
            "Internal error occurred: failed calling webhook \"broken.example.com\": failed to call webhook: the server answered with status 500: it is broken",
        ),
    ] {
        configure(&cluster, VALIDATING, "v", &[hooks.hook("/allow"), hooks.hook(path)]);
        let (status, failure) = post(&cluster, MAPS, &map("m"));
        assert_eq!(status, code, "{failure}");
        assert!(failure["message"].as_str().unwrap().starts_with(message), "{failure}");
        let own = format!("{VALIDATING}/v");
        let _ = ask(&cluster, &User::administrator(), "DELETE", &own, &Value::Null);
    }
    assert_eq!(post(&cluster, MAPS, &map("m")).0, 201);
}

#[test]
fn who_is_not_reached_or_not_believed_fails_unless_that_does_not_matter() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let mut stranger = hooks.hook("/allow");
    stranger["clientConfig"]["caBundle"] = Hooks::start().bundle.clone().into();
    let mut nobody = hooks.hook("/allow");
    nobody["clientConfig"] = json!({"service": {"name": "none", "namespace": "default"}});
    for (mut hook, words) in [
        (stranger, "certificate"),
        (
            nobody,
            "failed to call webhook: Post \"https://none.default.svc:443/?timeout=30s\": service \"none\" not found",
        ),
    ] {
        configure(&cluster, VALIDATING, "v", &[hook.clone()]);
        let (code, failure) = post(&cluster, MAPS, &map("m"));
        assert_eq!(code, 500, "{failure}");
        assert!(failure["message"].as_str().unwrap().contains(words), "{failure}");
        hook["failurePolicy"] = "Ignore".into();
        let (own, body) = (format!("{VALIDATING}/v"), json!({"webhooks": [hook]}));
        let _ = ask(&cluster, &User::administrator(), "PATCH", &own, &body);
        assert_eq!(post(&cluster, &format!("{MAPS}?dryRun=All"), &map("m")).0, 201);
        let _ = ask(&cluster, &User::administrator(), "DELETE", &own, &Value::Null);
    }
}

#[test]
fn a_webhook_is_asked_about_what_its_rules_say() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let narrow = |field: &str, value: Value| {
        let mut hook = hooks.hook("/deny");
        hook["name"] = format!("{}.deny.example.com", field.to_lowercase()).into();
        hook[field] = value;
        hook
    };
    let label = |value: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": value}});
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"],
        "operations": ["UPDATE", "DELETE"]});
    let condition = json!([{"name": "m", "expression": "object.metadata.name == 'secret'"}]);
    configure(
        &cluster,
        VALIDATING,
        "v",
        &[
            narrow("namespaceSelector", label("other")),
            narrow("objectSelector", json!({"matchLabels": {"deny": "me"}})),
            narrow("rules", json!([rule])),
            narrow("matchConditions", condition),
        ],
    );
    assert_eq!(post(&cluster, MAPS, &map("m")).0, 201);
    assert_eq!(post(&cluster, "/api/v1/namespaces/default/pods", &pod("p")).0, 201);
    assert!(hooks.paths().is_empty());
    assert_eq!(post(&cluster, MAPS, &map("secret")).0, 403);
    let labelled = json!({"metadata": {"name": "n", "labels": {"deny": "me"}}});
    assert_eq!(post(&cluster, MAPS, &labelled).0, 403);
    for method in ["PATCH", "DELETE"] {
        let body = if method == "PATCH" { json!({"data": {"a": "c"}}) } else { Value::Null };
        let path = format!("{MAPS}/m");
        assert_eq!(ask(&cluster, &User::administrator(), method, &path, &body).0, 403);
    }
}

#[test]
fn other_versions_of_a_kind_are_the_same_kind() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let mut hook = hooks.hook("/deny");
    hook["rules"] = json!([{"apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["horizontalpodautoscalers"]}]);
    configure(&cluster, VALIDATING, "v", &[hook.clone()]);
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let scaler = json!({"metadata": {"name": "s"}, "spec": {"maxReplicas": 2,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    assert_eq!(post(&cluster, path, &scaler).0, 403);
    let asked = hooks.asked.lock().unwrap()[0].1["request"].clone();
    assert_eq!(
        (&asked["kind"]["version"], &asked["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v1");
    hook["matchPolicy"] = "Exact".into();
    let exact = json!({"webhooks": [hook]});
    let own = format!("{VALIDATING}/v");
    let _ = ask(&cluster, &User::administrator(), "PATCH", &own, &exact);
    assert_eq!(post(&cluster, path, &scaler).0, 201);
}

#[test]
fn warnings_dry_runs_and_services_are_what_they_are_upstream() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    make(
        &cluster,
        "/api/v1/namespaces/default/services",
        &json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443, "targetPort": 1}]}}),
    );
    make(
        &cluster,
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        &json!({
            "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": hooks.port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        }),
    );
    let mut hook = hooks.hook("/warn");
    let service = json!({"name": "hook", "namespace": "default", "path": "/warn"});
    hook["clientConfig"] = json!({"service": service, "caBundle": hooks.bundle});
    configure(&cluster, VALIDATING, "v", &[hook.clone()]);
    let asked = request(&User::administrator(), "POST", MAPS, &map("m"));
    let Answer::Document { code, warnings, body } = cluster.answer(&asked) else { panic!() };
    assert_eq!((code, warnings), (201, vec!["mind the gap".to_owned()]), "{body}");
    let annotations = asked.notes.annotations();
    assert_eq!(annotations["warn.example.com/seen"], "yes");
    // What has effects of its own is not asked what would be.
    hook["sideEffects"] = "Some".into();
    let some = json!({"metadata": {"name": "w"}, "webhooks": [hook]});
    let (code, failure) = post(&cluster, VALIDATING, &some);
    assert_eq!(code, 422);
    assert!(failure["message"].as_str().unwrap().contains(
        "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\""
    ));
}

#[test]
fn policies_warn_and_tell_auditors() {
    let cluster = cluster();
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["configmaps"]});
    make(
        &cluster,
        &format!("{group}/validatingadmissionpolicies"),
        &json!({"metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "has(object.data.good)", "message": "no good"}],
            "auditAnnotations": [{"key": "name", "valueExpression": "object.metadata.name"}],
        }}),
    );
    let bindings = format!("{group}/validatingadmissionpolicybindings");
    let binding = |actions: Value| json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": actions}});
    for wrong in [json!([]), json!(["Shout"]), json!(["Deny", "Warn"]), json!(["Warn", "Warn"])] {
        assert_eq!(post(&cluster, &bindings, &binding(wrong)).0, 422);
    }
    make(&cluster, &bindings, &binding(json!(["Warn", "Audit"])));
    let asked = request(&User::administrator(), "POST", MAPS, &map("m"));
    let Answer::Document { code, warnings, body } = cluster.answer(&asked) else { panic!() };
    assert_eq!(code, 201, "{body}");
    let words = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no good";
    assert_eq!(warnings, [words]);
    let annotations = asked.notes.annotations();
    assert_eq!(annotations["p/name"], "m");
    let failures = &annotations["validation.policy.admission.k8s.io/validation_failure"];
    let failures: Value = serde_json::from_str(failures).unwrap();
    assert_eq!(
        failures,
        json!([{"message": "no good", "policy": "p", "binding": "b", "expressionIndex": 0,
            "validationActions": ["Warn", "Audit"]}])
    );
}

#[test]
fn objects_are_kept_in_one_version_and_shown_in_any() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let version = |name: &str, is_kept: bool, fields: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
        json!({"name": name, "served": true, "storage": is_kept, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}}})
    };
    let mut definition = json!({
        "metadata": {"name": "places.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "places", "singular": "place", "kind": "Place"},
            "versions": [version("v1", true, &["host", "port"]), version("v1beta1", false, &["both"])],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": {"url": "http://a"}}},
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, failure) = post(&cluster, definitions, &definition);
    assert_eq!(code, 422, "{failure}");
    let config = hooks.hook("/convert")["clientConfig"].clone();
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = config;
    make(&cluster, definitions, &definition);

    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/places");
    let place = |both: &str| json!({"metadata": {"name": "p"}, "spec": {"both": both}});
    let made = make(&cluster, &path("v1beta1"), &place("a:1"));
    assert_eq!(made["spec"], json!({"both": "a:1"}));
    let (entry, _) = cluster.log.get("/example.com/places/default/p");
    let kept: Value = serde_json::from_slice(&entry.unwrap().value).unwrap();
    assert_eq!(
        (&kept["apiVersion"], &kept["spec"]["port"]),
        (&json!("example.com/v1"), &json!("1"))
    );
    let found = crate::asking::get(&cluster, &format!("{}/p", path("v1")));
    assert_eq!(found["spec"], json!({"host": "a", "port": "1"}));
    for field in ["resourceVersion", "uid"] {
        assert_eq!(found["metadata"][field], made["metadata"][field]);
    }
    let list = crate::asking::get(&cluster, &path("v1beta1"));
    assert_eq!(list["items"][0]["spec"], json!({"both": "a:1"}));
    let watch = format!("{}?watch=true&resourceVersion=0", path("v1beta1"));
    let asked = request(&User::administrator(), "GET", &watch, &Value::Null);
    let Answer::Watch(mut watch) = cluster.answer(&asked) else { panic!() };
    let told = watch.next(Duration::ZERO).unwrap();
    assert_eq!(told[0]["object"]["spec"], json!({"both": "a:1"}));
    let (code, changed) = ask(
        &cluster,
        &User::administrator(),
        "PATCH",
        &format!("{}/p", path("v1beta1")),
        &json!({"spec": {"both": "b:2"}}),
    );
    assert_eq!((code, &changed["spec"]["both"]), (200, &json!("b:2")), "{changed}");
    let told = watch.next(Duration::from_secs(120)).unwrap();
    assert_eq!(
        (&told[0]["type"], &told[0]["object"]["spec"]),
        (&json!("MODIFIED"), &json!({"both": "b:2"}))
    );
    // What cannot be converted is not kept.
    let mut wrong = place("nonsense");
    wrong["metadata"]["name"] = "q".into();
    let (code, failure) = post(&cluster, &path("v1beta1"), &wrong);
    let words = "conversion webhook for example.com/v1beta1, Kind=Place failed: nonsense";
    assert!(code == 500 && failure["message"].as_str().unwrap().contains(words), "{failure}");
}

#[test]
fn connections_are_asked_about() {
    let (cluster, hooks) = (cluster(), Hooks::start());
    let mut hook = hooks.hook("/deny");
    hook["rules"] = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"],
        "resources": ["pods/exec"]}]);
    make(&cluster, "/api/v1/namespaces/default/pods", &pod("p"));
    configure(&cluster, VALIDATING, "v", &[hook]);
    let path = "/api/v1/namespaces/default/pods/p/exec?command=a&command=b&stdout=true";
    let (code, failure) = ask(&cluster, &User::administrator(), "GET", path, &Value::Null);
    assert_eq!(code, 403, "{failure}");
    let asked = hooks.asked.lock().unwrap()[0].1["request"].clone();
    assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CONNECT"), &json!("exec")));
    assert_eq!((&asked["kind"]["kind"], &asked["name"]), (&json!("PodExecOptions"), &json!("p")));
    let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "command": ["a", "b"]});
    assert_eq!(asked["object"], options);
}
