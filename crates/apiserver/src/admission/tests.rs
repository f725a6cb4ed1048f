use std::thread;

use serde_json::{Value, json};

use crate::asking::{ask, cluster, get, make, pod};
use crate::{Cluster, User};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PATCH: &str = "PATCH";

/// What the administrator is refused.
#[track_caller]
fn refused(cluster: &Cluster, method: &str, path: &str, body: &Value) -> String {
    let (code, failure) = ask(cluster, &User::administrator(), method, path, body);
    assert_eq!((code, &failure["reason"]), (403, &json!("Forbidden")), "{failure}");
    failure["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn done(cluster: &Cluster, method: &str, path: &str, body: &Value) -> Value {
    let (code, answer) = ask(cluster, &User::administrator(), method, path, body);
    assert_eq!(code, 200, "{answer}");
    answer
}

#[test]
fn a_namespace_is_furnished_and_some_last() {
    let cluster = cluster();
    make(&cluster, "/api/v1/namespaces", &json!({"metadata": {"name": "n"}}));
    let account = "/api/v1/namespaces/n/serviceaccounts/default";
    let first = get(&cluster, account);
    get(&cluster, "/api/v1/namespaces/n/configmaps/kube-root-ca.crt");
    done(&cluster, "DELETE", account, &Value::Null);
    assert_ne!(get(&cluster, account)["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(
        refused(&cluster, "DELETE", "/api/v1/namespaces/default", &Value::Null),
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
    let (code, _) = ask(
        &cluster,
        &User::administrator(),
        "POST",
        "/api/v1/namespaces/gone/configmaps",
        &json!({"metadata": {"name": "m"}}),
    );
    assert_eq!(code, 404);
}

#[test]
fn a_pod_gets_its_account_its_priority_and_its_tolerations() {
    let cluster = cluster();
    let patch = json!({"imagePullSecrets": [{"name": "pull"}]});
    done(&cluster, PATCH, "/api/v1/namespaces/default/serviceaccounts/default", &patch);
    let made = make(&cluster, PODS, &pod("p"));
    let spec = &made["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let name = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    let token = &spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, json!({"expirationSeconds": 3607, "path": "token"}));
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    let mut without = pod("q");
    without["spec"]["automountServiceAccountToken"] = false.into();
    assert_eq!(make(&cluster, PODS, &without)["spec"]["volumes"], Value::Null);
    let mut of_other = pod("r");
    of_other["spec"]["serviceAccountName"] = "gone".into();
    assert_eq!(
        refused(&cluster, "POST", PODS, &of_other),
        "pods \"r\" is forbidden: error looking up service account default/gone: serviceaccount \
         \"gone\" not found"
    );
}

#[test]
fn priorities_are_what_classes_say() {
    let cluster = cluster();
    let with = |name: &str, class: &str| {
        let mut pod = pod(name);
        pod["spec"]["priorityClassName"] = class.into();
        pod
    };
    let made = make(&cluster, PODS, &with("a", "system-node-critical"));
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    assert_eq!(
        refused(&cluster, "POST", PODS, &with("b", "gone")),
        "pods \"b\" is forbidden: no PriorityClass with name gone was found"
    );
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true});
    make(&cluster, classes, &class("usual"));
    let made = make(&cluster, PODS, &pod("c"));
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["priorityClassName"]),
        (&json!(7), &json!("usual"))
    );
    assert!(
        refused(&cluster, "POST", classes, &class("other")).contains("Only one default can exist")
    );
    let mut own = pod("d");
    own["spec"]["priority"] = 9.into();
    assert!(refused(&cluster, "POST", PODS, &own).contains("the integer value of priority (9)"));
}

#[test]
fn claims_get_the_default_class_and_stay_while_they_are_used() {
    let cluster = cluster();
    let class = json!({
        "metadata": {
            "name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "x",
    });
    make(&cluster, "/apis/storage.k8s.io/v1/storageclasses", &class);
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }});
    let made = make(&cluster, claims, &claim);
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut user = pod("p");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    make(&cluster, PODS, &user);
    let path = format!("{claims}/c");
    done(&cluster, "DELETE", &path, &Value::Null);
    assert!(get(&cluster, &path)["metadata"]["deletionTimestamp"].is_string());
    done(&cluster, "DELETE", &format!("{PODS}/p"), &Value::Null);
    assert_eq!(ask(&cluster, &User::administrator(), "GET", &path, &Value::Null).0, 404);
    make(&cluster, claims, &claim);
    done(&cluster, "DELETE", &path, &Value::Null);
    assert_eq!(ask(&cluster, &User::administrator(), "GET", &path, &Value::Null).0, 404);
}

#[test]
fn limits_are_given_and_kept() {
    let cluster = cluster();
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{
        "type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "250m"},
        "max": {"cpu": "1"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "3"},
    }]}});
    make(&cluster, "/api/v1/namespaces/default/limitranges", &range);
    let made = make(&cluster, PODS, &pod("p"));
    let given = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "250m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], given);
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let with = |request: &str, limit: &str| {
        let mut pod = pod("q");
        let resources = json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    let start = "pods \"q\" is forbidden: ";
    assert_eq!(
        refused(&cluster, "POST", PODS, &with("1", "2")),
        format!("{start}maximum cpu usage per Container is 1, but limit is 2")
    );
    assert_eq!(
        refused(&cluster, "POST", PODS, &with("50m", "100m")),
        format!("{start}minimum cpu usage per Container is 100m, but request is 50m")
    );
    assert_eq!(
        refused(&cluster, "POST", PODS, &with("100m", "400m")),
        format!(
            "{start}cpu max limit to request ratio per Container is 3, but provided ratio is 4.000000"
        )
    );
}

#[test]
fn a_quota_is_counted_and_kept() {
    let cluster = cluster();
    make(&cluster, PODS, &pod("before"));
    let quota =
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "count/secrets": "9"}}});
    make(&cluster, QUOTAS, &quota);
    let used = || get(&cluster, &format!("{QUOTAS}/q"))["status"]["used"].clone();
    assert_eq!(used(), json!({"count/secrets": "0", "pods": "1"}));
    make(&cluster, PODS, &pod("a"));
    assert!(
        refused(&cluster, "POST", &format!("{PODS}?dryRun=All"), &pod("b")).contains("exceeded")
    );
    assert_eq!(
        refused(&cluster, "POST", PODS, &pod("b")),
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
    );
    let (code, _) = ask(&cluster, &User::administrator(), "POST", PODS, &pod("a"));
    assert!(code == 403 || code == 409, "{code}");
    assert_eq!(used()["pods"], "2");
    let ended = json!({"status": {"phase": "Succeeded"}});
    done(&cluster, PATCH, &format!("{PODS}/a/status"), &ended);
    assert_eq!(used()["pods"], "1");
    make(&cluster, PODS, &pod("b"));
    done(&cluster, "DELETE", &format!("{PODS}/b"), &Value::Null);
    done(&cluster, "DELETE", &format!("{PODS}/a"), &Value::Null);
    assert_eq!(used()["pods"], "1");
    let cpu = json!({"spec": {"hard": {"requests.cpu": "1", "pods": null}}});
    done(&cluster, PATCH, &format!("{QUOTAS}/q"), &cpu);
    assert_eq!(
        refused(&cluster, "POST", PODS, &pod("c")),
        "pods \"c\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
}

#[test]
fn many_at_once_get_no_more_than_there_is() {
    const EACH: usize = 10;
    const MOST: usize = 13;
    let cluster = cluster();
    let quota =
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": MOST.to_string()}}});
    let path = "/api/v1/namespaces/default/configmaps";
    done(&cluster, "DELETE", path, &Value::Null);
    make(&cluster, QUOTAS, &quota);
    let made: usize = thread::scope(|scope| {
        let worker = |number: usize| {
            let cluster = &cluster;
            scope.spawn(move || {
                let map = |n: usize| json!({"metadata": {"name": format!("m-{number}-{n}")}});
                let admin = User::administrator();
                let codes = (0..EACH).map(|n| ask(cluster, &admin, "POST", path, &map(n)).0);
                codes.filter(|code| *code == 201).count()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    // One is the certificate of the authority, which every namespace has.
    assert_eq!(made, MOST - 1);
    let used = &get(&cluster, &format!("{QUOTAS}/q"))["status"]["used"];
    assert_eq!(used["configmaps"], MOST.to_string());
}

#[test]
fn a_quota_is_of_what_is_in_its_scope() {
    let cluster = cluster();
    let quota = json!({"metadata": {"name": "q"}, "spec": {
        "hard": {"pods": "0"}, "scopes": ["BestEffort"],
    }});
    make(&cluster, QUOTAS, &quota);
    assert!(refused(&cluster, "POST", PODS, &pod("a")).contains("exceeded quota: q"));
    let mut other = pod("b");
    other["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    make(&cluster, PODS, &other);
}

#[test]
fn pods_are_as_secure_as_their_namespace_wants() {
    let cluster = cluster();
    let labels = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.30",
    }}});
    done(&cluster, PATCH, "/api/v1/namespaces/default", &labels);
    let mut privileged = pod("p");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    assert_eq!(
        refused(&cluster, "POST", PODS, &privileged),
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \
         \"c\" must not set securityContext.privileged=true)"
    );
    let made = make(&cluster, PODS, &pod("q"));
    let warning = made["warnings"][0].as_str().unwrap();
    let start = "would violate PodSecurity \"restricted:v1.30\": allowPrivilegeEscalation != false";
    assert!(warning.starts_with(start), "{warning}");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template,
    }});
    let made = make(&cluster, "/apis/apps/v1/namespaces/default/deployments", &deployment);
    assert!(made["warnings"].to_string().contains("privileged"), "{made}");
}

#[test]
fn a_namespace_that_becomes_stricter_tells_of_its_pods() {
    let cluster = cluster();
    make(&cluster, PODS, &pod("a"));
    make(&cluster, PODS, &pod("b"));
    let labels = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let path = "/api/v1/namespaces/default";
    let changed = done(&cluster, PATCH, path, &labels("restricted"));
    assert_eq!(
        changed["warnings"],
        json!([
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \
             \"restricted:latest\"",
            "a (and 1 other pod): allowPrivilegeEscalation != false, unrestricted capabilities, \
             runAsNonRoot != true, seccompProfile",
        ])
    );
    let (code, failure) = ask(&cluster, &User::administrator(), PATCH, path, &labels("strict"));
    assert_eq!(code, 422, "{failure}");
    let expected = "must be one of privileged, baseline, restricted";
    assert!(failure["message"].as_str().unwrap().contains(expected), "{failure}");
}

#[test]
fn a_request_for_a_certificate_says_who_made_it_and_is_approved_by_whom_may() {
    let cluster = cluster();
    let jane = User::known("jane", &["team"]);
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let roles = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "asks"}, "rules": [{
        "apiGroups": ["certificates.k8s.io"], "verbs": ["create", "update", "get"],
        "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
    }]});
    make(&cluster, &format!("{roles}/clusterroles"), &role);
    let binding = json!({
        "metadata": {"name": "asks"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "asks", "apiGroup": "rbac.authorization.k8s.io"},
    });
    make(&cluster, &format!("{roles}/clusterrolebindings"), &binding);
    let asked = json!({"metadata": {"name": "c"}, "spec": {
        "request": "Lg==", "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"], "username": "system:admin", "groups": ["system:masters"],
    }});
    let (code, mut made) = ask(&cluster, &jane, "POST", path, &asked);
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["username"], "jane");
    assert_eq!(made["spec"]["groups"], json!(["team", "system:authenticated"]));
    let now = "2026-01-01T00:00:00Z";
    made["status"] = json!({"conditions": [{
        "type": "Approved", "status": "True", "reason": "x", "message": "", "lastUpdateTime": now,
    }]});
    let path = format!("{path}/c/approval");
    let (code, failure) = ask(&cluster, &jane, "PUT", &path, &made);
    assert_eq!(code, 403, "{failure}");
    assert!(
        failure["message"].as_str().unwrap().contains("user not permitted to approve requests")
    );
    made["spec"]["username"] = "system:admin".into();
    let approved = done(&cluster, "PUT", &path, &made);
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(approved["spec"]["username"], "jane");
}

#[test]
fn who_would_rely_on_what_is_not_there_is_told() {
    let cluster = cluster();
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer",
        "loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [{"port": 80}]}});
    let services = "/api/v1/namespaces/default/services";
    let (code, refusal) = ask(&cluster, &User::administrator(), "POST", services, &service);
    assert_eq!(code, 422, "{refusal}");
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let (code, made) = ask(&cluster, &User::administrator(), "POST", policies, &policy);
    assert_eq!(code, 201);
    assert!(
        made["warnings"][0].as_str().is_some_and(|told| told.contains("not enforced")),
        "{made}"
    );
}
