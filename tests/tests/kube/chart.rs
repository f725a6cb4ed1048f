//! Helm: a chart of the common pattern, from its installation to its removal.

use testkit::Sandbox;

use super::{Cluster, has_line};

const VALUES: &str = "replicas: 1\nimage: {repository: nginx, tag: \"1\"}\nservice: {port: 80}\n\
                      ingress: {enabled: false}\n";

const HELPERS: &str = r#"{{- define "web.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
"#;

const DEPLOYMENT: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels: {{- include "web.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations:
        checksum: {{ toJson .Values | sha256sum }}
    spec:
      serviceAccountName: {{ .Release.Name }}
      containers:
        - name: web
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          ports: [{name: http, containerPort: 80}]
          readinessProbe: {httpGet: {path: /, port: http}}
"#;

const OTHERS: &str = r#"apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: {{ .Values.service.port }}, targetPort: http}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: {{ .Release.Name }}}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
{{- if .Values.ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: {{ .Release.Name }}}
spec: {rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix,
  backend: {service: {name: {{ .Release.Name }}, port: {number: 80}}}}]}}]}
{{- end }}
{{- if .Capabilities.APIVersions.Has "autoscaling/v2" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-server}
data: {version: {{ .Capabilities.KubeVersion.Version | quote }}}
{{- end }}
"#;

const DEFINITION: &str = r"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
";

const WIDGET: &str = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: {{ .Release.Name }}}\n\
                      spec: {size: {{ .Values.replicas }}}\n";

#[test]
fn a_chart_is_installed_upgraded_rolled_back_and_removed() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster
        .file("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\nappVersion: \"1\"\n");
    for (name, text) in [
        ("values.yaml", VALUES),
        ("crds/widget.yaml", DEFINITION),
        ("templates/_helpers.tpl", HELPERS),
        ("templates/deployment.yaml", DEPLOYMENT),
        ("templates/others.yaml", OTHERS),
        ("templates/widget.yaml", WIDGET),
        ("templates/NOTES.txt", "It is called {{ .Release.Name }}.\n"),
    ] {
        cluster.file(&format!("web/{name}"), text);
    }
    let outcome = cluster.shell("helm install blog ./web");
    assert!(outcome.ok().contains("STATUS: deployed\n"), "{outcome}");
    assert!(outcome.stdout.contains("It is called blog."), "{outcome}");
    has_line(&cluster.shell("helm list"), &["blog", "default", "1", "deployed", "web-0.1.0"]);
    let replicas = "kubectl get deploy blog -o jsonpath='{.spec.replicas} '; \
                    kubectl get widget blog -o jsonpath='{.spec.size}'";
    cluster.shell(replicas).out("1 1");

    let upgrade = "helm upgrade blog ./web --set replicas=3 --set ingress.enabled=true >/dev/null";
    let _ = cluster.shell(upgrade).ok();
    cluster.shell(replicas).out("3 3");
    cluster.shell("kubectl get ingress -o name").out("ingress.networking.k8s.io/blog\n");
    has_line(&cluster.shell("helm status blog"), &["REVISION:", "2"]);

    let _ = cluster.shell("helm rollback blog 1").ok();
    cluster.shell(replicas).out("1 1");
    cluster.shell("kubectl get ingress -o name").out("");
    let history = cluster.shell("helm history blog");
    has_line(&history, &["3", "deployed", "web-0.1.0", "Rollback"]);

    let outcome =
        cluster.shell("helm upgrade --install blog ./web --set image.tag=2 --dry-run=server");
    assert!(outcome.ok().contains("nginx:2"), "{outcome}");
    let _ = cluster.shell("helm uninstall blog").ok();
    has_line(&cluster.shell("helm list --no-headers; echo end"), &["end"]);
    cluster
        .shell("kubectl get deploy,svc,sa,role,secret,widget -o name")
        .out("serviceaccount/default\n");
}
