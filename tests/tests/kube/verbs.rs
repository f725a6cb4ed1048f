//! The verbs of a cluster that need no kubectl: what they print is what kubectl prints.

use testkit::Sandbox;

use super::Cluster;

/// What a script needs to compare `cais` with kubectl: standard output, standard error and exit code.
/// Ages differ by when one asks, so that they and the blanks behind them do not count; what the cluster
/// does in between is no difference either, so that both are asked again, for two minutes at most.
const SAME: &str = r#"
cais() { "$E" "$@"; }
bare() { sed -E 's/\b[0-9]+[smhd]([0-9]+[smhd])?\b/AGE/g; s/AGE +/AGE /g'; }
alike() {
    ours=0; theirs=0
    cais "$@" >ours 2>&1 || ours=$?
    kubectl "$@" >theirs 2>&1 || theirs=$?
    bare <ours >ours.bare; bare <theirs >theirs.bare
    diff theirs.bare ours.bare >difference && [ "$ours" = "$theirs" ]
}
same() {
    end=$(($(date +%s) + 120))
    until alike "$@"; do
        [ "$(date +%s)" -lt "$end" ] || { cat difference; echo "kubectl $theirs, cais $ours: $*"; exit 1; }
    done
}
"#;

const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web, tier: front}
  annotations: {note: "a: b", long: "LONG"}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers: [{name: first, image: busybox}]
      containers:
      - name: app
        image: busybox:latest
        command: [sh, -c, "echo hi; sleep 1000"]
        ports: [{containerPort: 80, name: http}, {containerPort: 443}]
        env:
        - {name: A, value: "1"}
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: S, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}
        envFrom: [{configMapRef: {name: words}}]
        resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}}
        readinessProbe: {httpGet: {path: /x, port: http}, periodSeconds: 3}
        livenessProbe: {exec: {command: [a, b]}}
        volumeMounts: [{name: d, mountPath: /data}, {name: c, mountPath: /c, readOnly: true, subPath: x}]
      volumes:
      - {name: d, emptyDir: {}}
      - {name: c, configMap: {name: words}}
      tolerations: [{key: a, operator: Exists, effect: NoSchedule}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http, name: http}, {port: 443, name: s}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {a: b, text: "one\ntwo\n", n: "1", t: "true", d: "2026-01-01", e: "", q: "it's: #x", sp: " lead"}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ss}
spec:
  serviceName: ss
  replicas: 0
  selector: {matchLabels: {a: ss}}
  template: {metadata: {labels: {a: ss}}, spec: {containers: [{name: c, image: x}]}}
  volumeClaimTemplates:
  - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ds}
spec:
  selector: {matchLabels: {a: ds}}
  template:
    metadata: {labels: {a: ds}}
    spec: {containers: [{name: c, image: x}], nodeSelector: {disk: fast}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: cj}
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: ing}
spec:
  rules:
  - host: a.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {user: me, pass: word}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: "20"}}
"#;

#[test]
fn what_is_shown_is_what_kubectl_shows() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let long = ["a long annotation"; 12].join(" ");
    cluster.file("objects.yaml", &OBJECTS.replace("LONG", &long));
    let made = cluster.shell(&format!(
        "{SAME}
         cais apply -f objects.yaml
         cais wait --for=jsonpath={{.status.replicas}}=2 deploy/web --timeout=120s
         cais wait --for=jsonpath={{.status.hard.pods}}=20 quota/q --timeout=120s"
    ));
    assert!(made.ok().starts_with("deployment.apps/web created\nservice/web created\n"), "{made}");
    for words in [
        "get deploy web -o yaml",
        "get deploy web -o json",
        "get cm words -o yaml",
        "get cm -o yaml",
        "get cm,svc -o name",
        "get pods",
        "get pods -o wide",
        "get all",
        "get deploy,svc -A",
        "get deploy/web svc/web",
        "get ns --show-labels",
        "get cm -L app --sort-by=.metadata.name",
        "get svc -o wide --no-headers",
        "get pods -l app=web -o jsonpath='{range .items[*]}{.spec.containers[0].name}{\"\\n\"}{end}'",
        "get cm -o custom-columns=N:.metadata.name,D:.data.a,X:.x",
        "get cm words -o go-template='{{.data.text}}'",
        "get cm words -o jsonpath-as-json='{.data}'",
        "get cm words nope",
        "get pod x",
        "get nonsense",
        "get pods -n nowhere",
        "get nodes",
        "get clusterroles",
        "api-resources",
        "api-resources -o wide --namespaced=false",
        "api-versions",
        "describe deploy/web",
        "describe rs --show-events=false",
        "describe pods --show-events=false",
        "describe svc/web",
        "describe cm/words",
        "describe sts/ss",
        "describe ds/ds",
        "describe cj/cj",
        "describe ing/ing",
        "describe secret/sec",
        "describe quota/q",
        "describe ns/default",
        "describe sa/default",
        "describe priorityclass/system-node-critical",
        "describe pod nope",
        "rollout history deploy/web",
        "rollout history deploy/web --revision=1",
        "rollout undo deploy/web",
        "rollout resume deploy/web",
        "apply -f nope.yaml",
        "create cm x --from-literal=a=b --dry-run=client -o yaml",
        "create secret generic x --from-literal=a=b --dry-run=client -o yaml",
        "label cm words a=b --dry-run=server",
        "scale deploy nope --replicas=1",
        "delete cm nope",
        "delete cm words --dry-run=server",
        "wait --for=condition=Available deploy/web --timeout=1s",
        "top pod",
        "config current-context",
        "config get-contexts",
    ] {
        let _ = cluster.shell(&format!("{SAME}\nsame {words}")).ok();
    }
}

#[test]
fn objects_are_changed_as_by_kubectl() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("objects.yaml", OBJECTS);
    cluster.file(
        "less.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: c}}",
    );
    let outcome = cluster.shell(&format!(
        "{SAME}
         kubectl apply -f objects.yaml >/dev/null
         cais apply -f objects.yaml
         cais apply -f objects.yaml | grep -c unchanged
         cais apply -f less.yaml
         cais get cm words -o jsonpath='{{.data}}'; echo
         cais label cm words x=y
         cais label cm words x=z || echo refused
         cais label cm words x-
         cais annotate cm words x=y
         cais scale deploy/web --replicas=3
         cais rollout restart deploy/web
         cais rollout pause deploy/web
         cais rollout resume deploy/web
         cais wait --for=jsonpath='{{.metadata.annotations.deployment\\.kubernetes\\.io/revision}}'=2 deploy/web --timeout=120s
         cais rollout undo deploy/web
         cais expose deploy/web --name=other --port=81
         cais autoscale deploy/web --max=3 --cpu=80%
         cais create namespace n
         cais create cm c --from-literal=a=b -n n
         cais delete cm c -n n
         cais delete svc,ing --all
         cais delete -f less.yaml
         cais get cm words || echo gone"
    ));
    // What kubectl has noted of them goes.
    let expected = "deployment.apps/web configured
service/web configured
configmap/words configured
statefulset.apps/ss configured
daemonset.apps/ds configured
cronjob.batch/cj configured
ingress.networking.k8s.io/ing configured
secret/sec configured
resourcequota/q configured
9
configmap/words configured
{\"a\":\"c\"}
configmap/words labeled
refused
configmap/words unlabeled
configmap/words annotated
deployment.apps/web scaled
deployment.apps/web restarted
deployment.apps/web paused
deployment.apps/web resumed
deployment.apps/web condition met
deployment.apps/web rolled back
service/other exposed
horizontalpodautoscaler.autoscaling/web autoscaled
namespace/n created
configmap/c created
configmap \"c\" deleted from n namespace";
    assert!(outcome.ok().starts_with(expected), "{outcome}");
    assert!(
        outcome.ok().ends_with("configmap \"words\" deleted from default namespace\ngone"),
        "{outcome}"
    );
}

#[test]
fn pods_are_reached_and_explained() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.file(
        "app.yaml",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox
        imagePullPolicy: Never
        command: [sh, -c, "echo hello; exec sleep 100000"]
---
apiVersion: v1
kind: Pod
metadata: {name: large}
spec: {containers: [{name: c, image: busybox, resources: {requests: {cpu: "1000"}}}]}
"#,
    );
    let outcome = cluster.shell(&format!(
        "{SAME}
         cais apply -f app.yaml
         cais rollout status deploy/app --timeout=120s >/dev/null
         cais logs deploy/app
         cais exec deploy/app -- echo out
         echo typed | cais exec -i deploy/app -- cat
         cais exec deploy/app -- sh -c 'exit 7' || echo $?
         cais ps --format '{{{{.Image}}}}'
         cais why pod/large
         cais delete deploy/app pod/large
         cais wait --for=delete pod -l app=app --timeout=120s || true"
    ));
    let words = outcome.ok();
    assert!(
        words.contains(
            "deployment.apps/app created\npod/large created\nhello\nout\ntyped\n7\nbusybox"
        ),
        "{outcome}"
    );
    assert!(
        words.contains("it would fit with cpu request 1k →") || words.contains("it would fit with"),
        "{outcome}"
    );
    let _ = cluster.shell("kubectl wait --for=delete pod -l app=app --timeout=120s").ok();
    cluster.stop();
}
