use serde_json::{Value, json};

use crate::asking::{ask, cluster, get, make, pod, request};
use crate::{Answer, Cluster, User};

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Lets a user have a cluster's role in `default`.
fn bind(cluster: &Cluster, role: &str, user: &str) {
    let binding = json!({
        "metadata": {"name": format!("{role}-{user}")},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
    });
    make(cluster, &format!("{ROLES}/namespaces/default/rolebindings"), &binding);
}

fn code(cluster: &Cluster, user: &User, method: &str, path: &str) -> u16 {
    ask(cluster, user, method, path, &Value::Null).0
}

#[test]
fn nobody_may_do_what_no_role_allows() {
    let cluster = cluster();
    let jane = User::known("jane", &[]);
    let (code, failure) = ask(&cluster, &jane, "GET", PODS, &Value::Null);
    assert_eq!(code, 403);
    assert_eq!(
        failure["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"default\""
    );
    assert_eq!(
        (&failure["reason"], &failure["details"]),
        (&json!("Forbidden"), &json!({"kind": "pods"}))
    );
    let (_, failure) = ask(&cluster, &jane, "DELETE", "/apis/apps/v1/deployments", &Value::Null);
    assert_eq!(
        failure["message"],
        "deployments.apps is forbidden: User \"jane\" cannot deletecollection resource \
         \"deployments\" in API group \"apps\" at the cluster scope"
    );
    let (code, failure) = ask(&cluster, &User::anonymous(), "GET", "/api", &Value::Null);
    let expected = "forbidden: User \"system:anonymous\" cannot get path \"/api\"";
    assert_eq!((code, &failure["message"]), (403, &json!(expected)));
    let nobody = User::default();
    assert_eq!(ask(&cluster, &nobody, "GET", PODS, &Value::Null).0, 403);
}

#[test]
fn roles_allow_as_soon_as_they_are_bound_and_no_longer() {
    let cluster = cluster();
    let jane = User::known("jane", &[]);
    let get = |method: &str, path: &str| code(&cluster, &jane, method, path);
    assert_eq!(get("GET", PODS), 403);
    bind(&cluster, "view", "jane");
    assert_eq!((get("GET", PODS), get("GET", &format!("{PODS}/x"))), (200, 404));
    assert_eq!(get("GET", "/api/v1/namespaces/default/secrets"), 403);
    assert_eq!((get("GET", "/api/v1/pods"), get("DELETE", &format!("{PODS}/x"))), (403, 403));
    assert_eq!(get("GET", "/api/v1/namespaces/kube-system/pods"), 403);
    bind(&cluster, "edit", "jane");
    assert_eq!(get("DELETE", &format!("{PODS}/x")), 404);
    for name in ["view-jane", "edit-jane"] {
        let path = format!("{ROLES}/namespaces/default/rolebindings/{name}");
        assert_eq!(code(&cluster, &User::administrator(), "DELETE", &path), 200);
    }
    assert_eq!(get("GET", PODS), 403);
}

#[test]
fn everybody_sees_what_there_is_and_strangers_whether_it_is_well() {
    let cluster = cluster();
    let (known, stranger) = (User::known("jane", &[]), User::anonymous());
    for path in ["/api", "/apis", "/apis/apps/v1", "/openapi/v3", "/version"] {
        assert_eq!(code(&cluster, &known, "GET", path), 200, "{path}");
    }
    for (path, expected) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/livez", 200),
        ("/version", 200),
        ("/api", 403),
        ("/", 403),
    ] {
        assert_eq!(code(&cluster, &stranger, "GET", path), expected, "{path}");
    }
}

#[test]
fn roles_made_of_others_follow_them() {
    let cluster = cluster();
    let role = |name: &str| get(&cluster, &format!("{ROLES}/clusterroles/{name}"));
    let has = |name: &str, resource: &str| {
        let role = role(name);
        let rules = role["rules"].as_array().unwrap().clone();
        rules.iter().any(|rule| rule["resources"].to_string().contains(resource))
    };
    assert!(has("admin", "rolebindings") && has("admin", "\"pods\"") && !has("view", "secrets"));
    let path = format!("{ROLES}/clusterroles");
    let own = json!({
        "metadata": {
            "name": "widgets", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"},
        },
        "rules": [{"apiGroups": ["x"], "resources": ["widgets"], "verbs": ["get"]}],
    });
    make(&cluster, &path, &own);
    assert!(["view", "edit", "admin"].iter().all(|name| has(name, "widgets")));
    assert_eq!(code(&cluster, &User::administrator(), "DELETE", &format!("{path}/widgets")), 200);
    assert!(!["view", "edit", "admin"].iter().any(|name| has(name, "widgets")));
}

#[test]
fn nobody_gives_what_is_not_held() {
    let cluster = cluster();
    let jane = User::known("jane", &["team"]);
    bind(&cluster, "admin", "jane");
    let path = format!("{ROLES}/namespaces/default/roles");
    let role = |name: &str, resource: &str| {
        json!({
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}],
        })
    };
    assert_eq!(ask(&cluster, &jane, "POST", &path, &role("a", "pods")).0, 201);
    let (code, failure) = ask(&cluster, &jane, "POST", &path, &role("b", "nodes"));
    assert_eq!(code, 403);
    assert_eq!(
        failure["message"],
        "roles.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" (groups=[\"team\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"
    );
    let wider = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    assert_eq!(ask(&cluster, &jane, "PATCH", &format!("{path}/a"), &wider).0, 403);
    let bindings = format!("{ROLES}/namespaces/default/rolebindings");
    let binding = |role: &str| {
        json!({
            "metadata": {"name": role},
            "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"},
        })
    };
    assert_eq!(ask(&cluster, &jane, "POST", &bindings, &binding("cluster-admin")).0, 403);
    assert_eq!(ask(&cluster, &jane, "POST", &bindings, &binding("nonsense")).0, 404);
    assert_eq!(ask(&cluster, &jane, "POST", &bindings, &binding("view")).0, 201);
    let may = json!({
        "metadata": {"name": "may-bind"},
        "rules": [{
            "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
            "resourceNames": ["cluster-admin"], "verbs": ["bind"],
        }],
    });
    make(&cluster, &format!("{ROLES}/clusterroles"), &may);
    bind(&cluster, "may-bind", "jane");
    assert_eq!(ask(&cluster, &jane, "POST", &bindings, &binding("cluster-admin")).0, 201);
}

#[test]
fn a_node_sees_what_its_pods_need() {
    let cluster = cluster();
    let node = User::known("system:node:n", &["system:nodes"]);
    let secrets = "/api/v1/namespaces/default/secrets";
    make(&cluster, secrets, &json!({"metadata": {"name": "s"}}));
    let secret = format!("{secrets}/s");
    assert_eq!(code(&cluster, &node, "GET", &secret), 403);
    let mut own = pod("p");
    own["spec"]["nodeName"] = "n".into();
    own["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    make(&cluster, PODS, &own);
    assert_eq!(code(&cluster, &node, "GET", &secret), 200);
    assert_eq!(code(&cluster, &node, "GET", secrets), 403);
    assert_eq!(code(&cluster, &node, "DELETE", &secret), 403);
    let map = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
    assert_eq!(code(&cluster, &node, "GET", map), 200, "its token's volume has it");
    let other = User::known("system:node:m", &["system:nodes"]);
    assert_eq!(code(&cluster, &other, "GET", &secret), 403);
    let lease = |name: &str| {
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
    };
    assert_eq!(code(&cluster, &node, "GET", &lease("n")), 404);
    assert_eq!(code(&cluster, &node, "GET", &lease("m")), 403);
    let status = json!({"status": {"phase": "Running"}});
    let path = format!("{PODS}/p/status");
    assert_eq!(ask(&cluster, &node, "PATCH", &path, &status).0, 200);
    let (code, failure) = ask(&cluster, &other, "PATCH", &path, &status);
    assert_eq!(code, 403, "{failure}");
    let (code, failure) = ask(&cluster, &node, "POST", PODS, &pod("q"));
    assert_eq!(code, 403, "{failure}");
}

#[test]
fn reviews_say_who_may_do_what() {
    let cluster = cluster();
    let jane = User::known("jane", &[]);
    bind(&cluster, "view", "jane");
    let review = |user: &User, kind: &str, spec: &Value| {
        let path = format!("/apis/authorization.k8s.io/v1/{kind}");
        ask(&cluster, user, "POST", &path, &json!({"spec": spec}))
    };
    let asked = |verb: &str, resource: &str| json!({"resourceAttributes": {"namespace": "default", "verb": verb, "resource": resource}});
    let (code, answer) = review(&jane, "selfsubjectaccessreviews", &asked("list", "pods"));
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)), "{answer}");
    assert_eq!(
        answer["status"]["reason"],
        "RBAC: allowed by RoleBinding \"view-jane/default\" of ClusterRole \"view\" to User \"jane\""
    );
    let (_, answer) = review(&jane, "selfsubjectaccessreviews", &asked("delete", "pods"));
    assert_eq!(answer["status"], json!({"allowed": false}));
    let mut of_jane = asked("list", "pods");
    of_jane["user"] = "jane".into();
    assert_eq!(review(&jane, "subjectaccessreviews", &of_jane).0, 403);
    let (_, answer) = review(&User::administrator(), "subjectaccessreviews", &of_jane);
    assert_eq!(answer["status"]["allowed"], true);
    let (code, answer) = review(&jane, "selfsubjectrulesreviews", &json!({"namespace": "default"}));
    let text = answer["status"]["resourceRules"].to_string();
    assert!(code == 201 && text.contains("\"configmaps\"") && !text.contains("secrets"), "{text}");
    assert_eq!(answer["status"]["incomplete"], false);
    assert_eq!(review(&jane, "selfsubjectrulesreviews", &json!({})).0, 400);
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = ask(&cluster, &jane, "POST", path, &json!({}));
    assert_eq!(code, 201);
    assert_eq!(answer["status"]["userInfo"]["username"], "jane");
}

#[test]
fn a_new_start_gives_roles_what_they_lack_unless_they_shall_stay() {
    use std::sync::Arc;

    use crate::log::Memory;
    let log = Arc::new(Memory::default());
    let first = Cluster::new(log.clone()).unwrap();
    let admin = User::administrator();
    let path = |name: &str| format!("{ROLES}/clusterroles/{name}");
    let emptied = json!({"rules": []});
    let fixed = json!({
        "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}},
        "rules": [],
    });
    let whole = get(&first, &path("system:discovery"))["rules"].clone();
    assert_eq!(ask(&first, &admin, "PATCH", &path("system:discovery"), &emptied).0, 200);
    assert_eq!(ask(&first, &admin, "PATCH", &path("system:kube-dns"), &fixed).0, 200);
    let again = Cluster::new(log).unwrap();
    assert_eq!(get(&again, &path("system:discovery"))["rules"], whole);
    assert_eq!(get(&again, &path("system:kube-dns"))["rules"], json!([]));
}

#[test]
fn who_may_only_patch_makes_nothing_by_it() {
    let cluster = cluster();
    let jane = User::known("jane", &[]);
    let role = json!({"metadata": {"name": "patches"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]},
    ]});
    make(&cluster, &format!("{ROLES}/clusterroles"), &role);
    bind(&cluster, "patches", "jane");
    let apply = |name: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps/{name}?fieldManager=m");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let mut request = request(&jane, "PATCH", &path, &body);
        request.content_type = "application/apply-patch+yaml".to_owned();
        match cluster.answer(&request) {
            Answer::Document { code, .. } => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(apply("m"), 403);
    make(&cluster, "/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "m"}}));
    assert_eq!(apply("m"), 200);
}
