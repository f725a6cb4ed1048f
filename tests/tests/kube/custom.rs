//! Kinds that CustomResourceDefinitions bring, used with kubectl as any other.

use serde_json::{Value, json};
use testkit::Sandbox;

use super::{Cluster, has_line};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns:
        - {name: Spec, type: string, jsonPath: .spec.cronSpec}
        - {name: Replicas, type: integer, jsonPath: .spec.replicas}
        - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status', priority: 1}
        - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
      selectableFields: [{jsonPath: .spec.image}]
      subresources:
        status: {}
        scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
      schema:
        openAPIV3Schema:
          type: object
          description: A thing that is done at certain times.
          required: [spec]
          properties:
            spec:
              type: object
              required: [cronSpec]
              properties:
                cronSpec: {type: string, description: When it is done., pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'}
                image: {type: string, default: "busybox:latest"}
                replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
                port: {x-kubernetes-int-or-string: true}
                free: {type: object, x-kubernetes-preserve-unknown-fields: true}
                envs:
                  type: array
                  x-kubernetes-list-type: map
                  x-kubernetes-list-map-keys: [name]
                  items:
                    type: object
                    required: [name]
                    properties: {name: {type: string}, value: {type: string}}
            status:
              type: object
              properties:
                replicas: {type: integer}
                selector: {type: string}
                conditions:
                  type: array
                  items: {type: object, properties: {type: {type: string}, status: {type: string}}}
    - name: v1beta1
      served: true
      storage: false
      deprecated: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

const OBJECT: &str = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: tab}\n\
                      spec: {cronSpec: '* * * * */5', port: 80, free: {a: {b: 1}}}\n";

fn start(sandbox: &Sandbox) -> Cluster<'_> {
    let cluster = Cluster::start(sandbox);
    cluster.file("crd.yaml", DEFINITION);
    cluster.file("tab.yaml", OBJECT);
    let made =
        "customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created\n";
    cluster.shell("kubectl apply -f crd.yaml").out(made);
    cluster
}

fn object(cluster: &Cluster<'_>, script: &str) -> Value {
    let outcome = cluster.shell(script);
    serde_json::from_str(outcome.ok()).unwrap_or_else(|error| panic!("{error}:\n{outcome}"))
}

#[test]
fn a_definition_is_served_at_once() {
    let sandbox = Sandbox::new();
    let cluster = start(&sandbox);
    let script = "kubectl wait --for=condition=Established crd/crontabs.stable.example.com --timeout=60s
        kubectl wait --for=condition=NamesAccepted crd/crontabs.stable.example.com --timeout=60s
        kubectl apply -f tab.yaml; kubectl apply -f tab.yaml
        kubectl get ct; kubectl get ct -o wide; kubectl get all; kubectl get crontab/tab -o name
        kubectl describe ct tab; kubectl api-resources --api-group=stable.example.com --no-headers
        kubectl explain ct.spec.cronSpec; kubectl get crd; kubectl describe crd crontabs.stable.example.com";
    let outcome = cluster.shell(script);
    let _ = outcome.ok();
    has_line(&outcome, &["crontab.stable.example.com/tab", "created"]);
    has_line(&outcome, &["crontab.stable.example.com/tab", "unchanged"]);
    has_line(&outcome, &["NAME", "SPEC", "REPLICAS", "AGE"]);
    has_line(&outcome, &["NAME", "SPEC", "REPLICAS", "READY", "AGE"]);
    has_line(&outcome, &["tab", "*/5", "1"]);
    has_line(&outcome, &["crontab.stable.example.com/tab", "*", "1"]);
    has_line(&outcome, &["crontabs", "ct", "stable.example.com/v1", "true", "CronTab"]);
    has_line(&outcome, &["FIELD:", "cronSpec", "<string>"]);
    has_line(&outcome, &["When", "it", "is", "done."]);
    let tab = object(&cluster, "kubectl get ct tab -o json");
    assert_eq!(tab["spec"]["image"], "busybox:latest");
    assert_eq!(tab["spec"]["free"], json!({"a": {"b": 1}}));
    assert_eq!(
        (tab["metadata"]["generation"].as_i64(), &tab["apiVersion"]),
        (Some(1), &json!("stable.example.com/v1"))
    );
    let older = cluster
        .shell("kubectl get crontabs.v1beta1.stable.example.com tab -o jsonpath='{.apiVersion}'");
    older.out("stable.example.com/v1beta1");
}

#[test]
fn objects_are_checked_pruned_and_told_of() {
    let sandbox = Sandbox::new();
    let cluster = start(&sandbox);
    let wrong = |change: (&str, &str)| {
        cluster.file("wrong.yaml", &OBJECT.replace(change.0, change.1));
        cluster.shell("kubectl create -f wrong.yaml")
    };
    wrong(("'* * * * */5'", "'* * * *'")).code(1).says(
        r#"The CronTab "tab" is invalid: spec.cronSpec: Invalid value: "* * * *": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
    );
    wrong(("cronSpec:", "replicas: 15, cronSpec:"))
        .code(1)
        .says("spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10");
    wrong(("cronSpec: '* * * * */5',", "")).code(1).says("spec.cronSpec: Required value");
    wrong(("port: 80", "prot: 80"))
        .code(1)
        .says("strict decoding error: unknown field \"spec.prot\"");
    cluster.file("more.yaml", &OBJECT.replace("port: 80", "prot: 80"));
    let outcome = cluster.shell("kubectl create --validate=warn -f more.yaml; kubectl get ct tab -o jsonpath='{.spec.prot}'");
    outcome.says("Warning: unknown field \"spec.prot\"");
    assert_eq!(outcome.ok(), "crontab.stable.example.com/tab created");
    cluster.file("old.yaml", &OBJECT.replace("example.com/v1", "example.com/v1beta1"));
    cluster.shell("kubectl apply -f old.yaml").says(
        "Warning: stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab",
    );
}

#[test]
fn objects_are_patched_scaled_and_selected() {
    let sandbox = Sandbox::new();
    let cluster = start(&sandbox);
    let script = "kubectl apply -f tab.yaml; kubectl scale ct tab --replicas=3
        kubectl patch ct tab --type merge -p '{\"spec\":{\"image\":\"x\"}}'
        kubectl patch ct tab --type json -p '[{\"op\":\"add\",\"path\":\"/spec/port\",\"value\":\"http\"}]'
        kubectl patch ct tab --subresource status --type merge -p '{\"status\":{\"replicas\":2,\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}'
        kubectl label ct tab a=b; kubectl annotate ct tab c=d
        KUBE_EDITOR=\"sed -i 's/image: x/image: new/'\" kubectl edit ct tab
        kubectl wait --for=condition=Ready ct/tab --timeout=60s";
    let _ = cluster.shell(script).ok();
    cluster.shell("kubectl patch ct tab -p '{}' --type strategic").code(1).says("strategic");
    let tab = object(&cluster, "kubectl get ct tab -o json");
    assert_eq!((&tab["spec"]["replicas"], &tab["spec"]["image"]), (&json!(3), &json!("new")));
    assert_eq!((&tab["spec"]["port"], &tab["status"]["replicas"]), (&json!("http"), &json!(2)));
    assert_eq!(tab["metadata"]["generation"], 5, "status and metadata have no generation: {tab:#}");
    let scale = object(&cluster, "kubectl get ct tab --subresource=scale -o json");
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    cluster
        .shell("kubectl get ct --field-selector spec.image=new -o name")
        .out("crontab.stable.example.com/tab\n");
    cluster.shell("kubectl get ct --field-selector spec.image!=new -o name").out("");
    cluster
        .shell("kubectl get ct --field-selector spec.port=1")
        .code(1)
        .says("field label not supported");
}

#[test]
fn items_of_lists_have_owners_by_their_keys() {
    let sandbox = Sandbox::new();
    let cluster = start(&sandbox);
    let with = |envs: &str| OBJECT.replace("port: 80,", &format!("envs: [{envs}],"));
    cluster.file("one.yaml", &with("{name: a, value: '1'}"));
    cluster.file("two.yaml", &with("{name: b, value: '2'}"));
    let script = "kubectl apply --server-side --field-manager=one -f one.yaml
                  kubectl apply --server-side --field-manager=two -f two.yaml
                  kubectl get ct tab -o jsonpath='{.spec.envs[*].name}'";
    let outcome = cluster.shell(script);
    assert!(outcome.ok().ends_with("a b"), "{outcome}");
    cluster.file("two.yaml", &with("{name: a, value: '3'}"));
    cluster
        .shell("kubectl apply --server-side --field-manager=two -f two.yaml")
        .code(1)
        .says(".spec.envs[name=\"a\"].value");
}

#[test]
fn a_definition_goes_with_its_objects() {
    let sandbox = Sandbox::new();
    let cluster = start(&sandbox);
    let script = "kubectl apply -f tab.yaml; kubectl delete crd crontabs.stable.example.com
                  kubectl get crd -o name; kubectl apply -f crd.yaml; kubectl get ct -o name";
    let outcome = cluster.shell(script);
    assert!(outcome.ok().ends_with("crontabs.stable.example.com created"), "{outcome}");
    // An object that somebody holds holds its definition.
    let script = "kubectl apply -f tab.yaml
        kubectl patch ct tab --type merge -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'
        kubectl delete crd crontabs.stable.example.com --wait=false; kubectl get crd -o name";
    let outcome = cluster.shell(script);
    assert!(
        outcome
            .ok()
            .ends_with("customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com"),
        "{outcome}"
    );
    cluster.file("second.yaml", &OBJECT.replace("name: tab", "name: second"));
    cluster.shell("kubectl create -f second.yaml").code(1);
    let script = "kubectl patch ct tab --type merge -p '{\"metadata\":{\"finalizers\":null}}'
        kubectl wait --for=delete crd/crontabs.stable.example.com --timeout=60s; kubectl get crd -o name";
    let outcome = cluster.shell(script);
    assert!(!outcome.ok().ends_with("k8s.io/crontabs.stable.example.com"), "{outcome}");
}

#[test]
fn what_the_server_cannot_do_is_refused_when_it_is_defined() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let wrong = |from: &str, to: &str| {
        assert!(DEFINITION.contains(from), "{from}");
        cluster.file("wrong.yaml", &DEFINITION.replacen(from, to, 1));
        cluster.shell("kubectl create -f wrong.yaml")
    };
    let rule = |rule: &str| {
        format!(
            "x-kubernetes-validations: [{{rule: \"{rule}\"}}]\n              required: [cronSpec]"
        )
    };
    wrong("required: [cronSpec]", &rule("self.nosuch(")).code(1).says(
        "x-kubernetes-validations[0].rule: Invalid value: \"self.nosuch(\": compilation failed",
    );
    wrong("required: [cronSpec]", &rule("self.cronSpec.nosuch()"))
        .code(1)
        .says("undeclared reference to 'nosuch'");
    wrong("required: [cronSpec]", &rule("self.cronSpek != ''"))
        .code(1)
        .says("undefined field 'cronSpek'");
    wrong("  scope: Namespaced", "  scope: Namespaced\n  conversion: {strategy: Webhook}")
        .code(1)
        .says("spec.conversion.webhook.clientConfig: Required value");
    wrong("metadata: {name: crontabs.", "metadata: {name: tabs.")
        .code(1)
        .says("must be spec.names.plural");
    wrong("pattern: '^", "patern: '^").code(1).says("unknown field");
    wrong("image: {type: string,", "image: {")
        .code(1)
        .says("type: Required value: must not be empty for specified object fields");
    let _ = wrong("shortNames: [ct]", "shortNames: [ct2]").ok();
    // Another kind with the same names waits for them.
    let other = DEFINITION
        .replace("crontabs", "others")
        .replace("[ct]", "[ct2]")
        .replace("kind: CronTab,", "kind: Other,")
        .replace("singular: crontab", "singular: other");
    cluster.file("other.yaml", &other);
    let names = "kubectl create -f other.yaml >/dev/null; kubectl get crd others.stable.example.com \
                 -o jsonpath='{.status.conditions[?(@.type==\"NamesAccepted\")].reason}'";
    cluster.shell(names).out("ShortNamesConflict");
    cluster.shell("kubectl get others").code(1);
    let freed = "kubectl delete crd crontabs.stable.example.com >/dev/null; kubectl get others -o name; \
                 kubectl get crd others.stable.example.com \
                 -o jsonpath='{.status.conditions[?(@.type==\"NamesAccepted\")].reason}'";
    cluster.shell(freed).out("NoConflicts");
}

#[test]
fn rules_of_a_definition_are_kept() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let rules = "x-kubernetes-validations:
                - {rule: 'self.replicas <= 5 || self.image.startsWith(\"big\")', message: too many}
                - {rule: 'self.image == oldSelf.image', messageExpression: '\"image stays \" + oldSelf.image'}
              required: [cronSpec]";
    cluster.file("crd.yaml", &DEFINITION.replacen("required: [cronSpec]", rules, 1));
    cluster.file("tab.yaml", OBJECT);
    let _ = cluster.shell("kubectl create -f crd.yaml; kubectl create -f tab.yaml").ok();
    let patch = |spec: &str| {
        cluster.shell(&format!("kubectl patch ct tab --type merge -p '{{\"spec\":{spec}}}'"))
    };
    patch(r#"{"replicas":6}"#)
        .code(1)
        .says("The CronTab \"tab\" is invalid: spec: Invalid value: \"object\": too many");
    patch(r#"{"image":"other"}"#)
        .code(1)
        .says("spec: Invalid value: \"object\": image stays busybox:latest");
    let _ = patch(r#"{"replicas":5}"#).ok();
}

#[test]
fn policies_deny_what_they_are_bound_to() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file(
        "policy.yaml",
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
      - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables: [{name: most, expression: "int(params.data.most)"}]
  validations: [{expression: "object.spec.replicas <= variables.most"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few-here}
spec:
  policyName: few
  validationActions: [Deny]
  paramRef: {name: limits, namespace: default, parameterNotFoundAction: Deny}
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}
"#,
    );
    let script =
        "kubectl create configmap limits --from-literal=most=2; kubectl apply -f policy.yaml
        kubectl create ns other; kubectl create deployment a --image=x --replicas=2
        kubectl -n other create deployment a --image=x --replicas=5";
    let _ = cluster.shell(script).ok();
    let words = "ValidatingAdmissionPolicy 'few' with binding 'few-here' denied request: failed \
                 expression: object.spec.replicas <= variables.most";
    cluster.shell("kubectl create deployment b --image=x --replicas=3").code(1).says(words);
    cluster.shell("kubectl patch deploy a -p '{\"spec\":{\"replicas\":3}}'").code(1).says(words);
    let _ = cluster.shell("kubectl delete deploy a").ok();
    let _ = cluster.shell("kubectl delete configmap limits").ok();
    cluster.shell("kubectl create deployment c --image=x").code(1).says("no params found");
    let warn = "kubectl create configmap limits --from-literal=most=0
        sed 's/\\[Deny\\]/[Warn]/' policy.yaml | kubectl apply -f -
        kubectl create deployment d --image=x";
    cluster.shell(warn).code(0).says(
        "Warning: Validation failed for ValidatingAdmissionPolicy 'few' with binding 'few-here': \
         failed expression: object.spec.replicas <= variables.most",
    );
}
