//! Objects of every kind for which kubectl has a command of its own: typed, and sent as Protocol
//! Buffers.

use testkit::Sandbox;

use super::{Cluster, has_line};

#[test]
fn every_typed_kind_can_be_made() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
               -keyout tls.key -out tls.crt -days 1 -subj /CN=a 2>/dev/null";
    let _ = sandbox.shell(key).ok();
    for (command, name) in [
        (
            "clusterrole cr --verb=get,list --resource=pods",
            "clusterrole.rbac.authorization.k8s.io/cr",
        ),
        (
            "clusterrolebinding crb --clusterrole=cr --user=a",
            "clusterrolebinding.rbac.authorization.k8s.io/crb",
        ),
        ("role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r"),
        (
            "rolebinding rb --role=r --serviceaccount=default:default",
            "rolebinding.rbac.authorization.k8s.io/rb",
        ),
        ("configmap c --from-literal=a=b", "configmap/c"),
        ("cronjob cj --image=busybox --schedule='*/5 * * * *' -- date", "cronjob.batch/cj"),
        ("job j --image=busybox -- date", "job.batch/j"),
        ("job j2 --from=cronjob/cj", "job.batch/j2"),
        ("deployment d --image=nginx --replicas=2 --port=80", "deployment.apps/d"),
        ("ingress in --rule=foo.com/bar=svc1:8080", "ingress.networking.k8s.io/in"),
        ("namespace n", "namespace/n"),
        (
            "poddisruptionbudget p --selector=app=a --min-available=1",
            "poddisruptionbudget.policy/p",
        ),
        ("priorityclass pc --value=10", "priorityclass.scheduling.k8s.io/pc"),
        ("quota q --hard=cpu=1,pods=20", "resourcequota/q"),
        ("secret generic sg --from-literal=a=b", "secret/sg"),
        (
            "secret docker-registry dr --docker-server=a --docker-username=b --docker-password=c",
            "secret/dr",
        ),
        ("secret tls st --cert=tls.crt --key=tls.key", "secret/st"),
        ("service clusterip sc --tcp=80:8080", "service/sc"),
        ("service nodeport sn --tcp=80", "service/sn"),
        ("service loadbalancer sl --tcp=80", "service/sl"),
        ("service externalname se --external-name=a.b", "service/se"),
        ("serviceaccount sa", "serviceaccount/sa"),
    ] {
        let outcome = cluster.shell(&format!("kubectl create {command}"));
        assert_eq!(outcome.ok(), format!("{name} created"), "{command}");
    }
    let listed = cluster.shell(
        "kubectl get clusterrole,clusterrolebinding,role,rolebinding,cj,job,deploy,ing,pdb,pc,quota,secret,svc",
    );
    for words in [
        ["cronjob.batch/cj", "*/5"].as_slice(),
        &["job.batch/j2", "0/1"],
        &["deployment.apps/d", "0/2"],
        &["ingress.networking.k8s.io/in", "foo.com", "80"],
        &["poddisruptionbudget.policy/p", "1", "N/A"],
        &["priorityclass.scheduling.k8s.io/pc", "10", "false"],
        &["secret/st", "kubernetes.io/tls", "2"],
        &["service/se", "ExternalName", "<none>", "a.b"],
        &["service/sl", "LoadBalancer", "<pending>"],
        &["rolebinding.rbac.authorization.k8s.io/rb", "Role/r"],
    ] {
        has_line(&listed, words);
    }
}

#[test]
fn pods_are_run_waited_for_and_described() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let script = "kubectl run web --image=nginx --labels=a=b --port=80 --env=X=Y
        kubectl wait --for=jsonpath='{.status.phase}'=Pending pod/web --timeout=60s
        kubectl get pods -o wide; kubectl describe pod web
        kubectl delete pod web --now; kubectl get pods";
    let outcome = cluster.shell(script);
    has_line(&outcome, &["web", "0/1", "Pending", "0"]);
    has_line(&outcome, &["QoS", "Class:", "BestEffort"]);
    outcome.says("No resources found");
    cluster.file(
        "event.yaml",
        "apiVersion: v1\nkind: Event\nmetadata: {name: e1}\ntype: Warning\nreason: Tested\nmessage: seen\n\
         involvedObject: {kind: Pod, name: web, namespace: default}\n\
         firstTimestamp: 2026-01-01T00:00:00Z\nlastTimestamp: 2026-01-01T00:00:00Z\ncount: 2\n",
    );
    let outcome = cluster.shell("kubectl apply -f event.yaml; kubectl events; kubectl get events");
    has_line(&outcome, &["Warning", "Tested", "Pod/web", "seen"]);
    has_line(&outcome, &["Warning", "Tested", "pod/web", "seen"]);
}
