//! The verbs of a cluster.

use clap::{Args, FromArgMatches};

use crate::command::kube::{
    apply, autoscale, config, create, delete, describe, drain, exec, expose, get, label, logs,
    port_forward, resources, rollout, scale, top, wait, why,
};
use crate::command::{Verb, grammar, usage};

/// As `verb!`, of a module with several verbs that take different arguments.
macro_rules! verb_of {
    ($name:literal, $args:path, $run:path, $about:literal, $examples:literal) => {
        Verb {
            name: $name,
            aliases: &[],
            about: $about,
            examples: $examples,
            augment: |command| <$args as Args>::augment_args(command).about($about),
            read: |command| grammar::docker(<$args as Args>::augment_args(command).about($about)),
            run: |session, matches| {
                let args = <$args as FromArgMatches>::from_arg_matches(matches);
                $run(session, &args.map_err(usage)?)
            },
        }
    };
}

/// Those that no verb of Docker's is called: at the top level.
pub(in super::super) const CLUSTER: &[Verb] = &[
    verb!(
        "annotate",
        label::annotate,
        "Change the annotations of a cluster's objects",
        "cais annotate deploy/web note='seen by me'\n  cais annotate pods --all note-"
    ),
    verb_of!(
        "api-resources",
        resources::Args,
        resources::run,
        "Show the kinds of objects that a cluster has",
        "cais api-resources\n  cais api-resources --namespaced=false -o wide"
    ),
    verb_of!(
        "api-versions",
        resources::VersionsArgs,
        resources::versions,
        "Show the groups and versions that a cluster has",
        "cais api-versions"
    ),
    verb!(
        "apply",
        apply,
        "Make a cluster's objects what files say",
        "cais apply -f web.yaml\n  cais apply -f deploy/ -R\n  cat web.yaml | cais apply -f - --dry-run=server"
    ),
    verb!(
        "autoscale",
        autoscale,
        "Have a cluster scale what has replicas, by how busy its pods are",
        "cais autoscale deploy/web --min=2 --max=10 --cpu=80%"
    ),
    verb!("cordon", drain, "Have no more pods come to a node", "cais cordon node1"),
    verb!(
        "delete",
        delete,
        "Delete a cluster's objects by names, selectors or files",
        "cais delete deploy/web\n  cais delete -f web.yaml\n  cais delete pods -l app=web --now"
    ),
    verb!(
        "describe",
        describe,
        "Show all of a cluster's objects, and what has happened to them",
        "cais describe deploy/web\n  cais describe pods -l app=web\n  cais describe node"
    ),
    verb_of!(
        "drain",
        drain::DrainArgs,
        drain::drain,
        "Have all pods leave a node",
        "cais drain node1 --ignore-daemonsets\n  cais drain node1 --ignore-daemonsets --delete-emptydir-data --timeout=5m"
    ),
    verb!(
        "expose",
        expose,
        "Make a service of what has pods",
        "cais expose deploy/web --port=80 --target-port=8080\n  cais expose pod/web --type=NodePort --name=outside"
    ),
    verb!(
        "get",
        get,
        "Show a cluster's objects",
        "cais get pods -A\n  cais get deploy/web -o yaml\n  cais get pods -w -l app=web"
    ),
    verb!(
        "label",
        label,
        "Change the labels of a cluster's objects",
        "cais label node/node1 disk=fast\n  cais label pods -l app=web tier=front --overwrite\n  cais label pod/x tier-"
    ),
    verb!(
        "port-forward",
        port_forward,
        "Have ports of this machine lead to a pod",
        "cais port-forward deploy/web 8080:80\n  cais port-forward svc/web :80 --address 0.0.0.0"
    ),
    verb!(
        "scale",
        scale,
        "Change how many pods there are",
        "cais scale deploy/web --replicas=3\n  cais scale deploy/web --current-replicas=2 --replicas=3"
    ),
    verb_of!(
        "uncordon",
        drain::Args,
        drain::uncordon,
        "Have pods come to a node again",
        "cais uncordon node1"
    ),
];

/// Those that a verb of Docker's is called, too: behind `kube`, and at the top level where the words
/// behind them are a cluster's.
pub(super) const KUBE: &[Verb] = &[
    verb_of!(
        "attach",
        exec::AttachArgs,
        exec::attach,
        "Attach to a container of a pod",
        "cais attach pod/x -it"
    ),
    verb!(
        "create",
        create,
        "Make objects of a cluster of files or words",
        "cais create -f web.yaml\n  cais create deployment web --image=app --replicas=2\n  cais create secret generic key --from-file=id"
    ),
    verb!(
        "exec",
        exec,
        "Execute a command in a container of a pod",
        "cais exec pod/x -- ps\n  cais exec -it deploy/web -c app -- sh"
    ),
    verb!(
        "logs",
        logs,
        "Show what containers of pods have written",
        "cais logs deploy/web\n  cais logs -f pod/x --tail=20\n  cais logs -l app=web --prefix"
    ),
    verb!(
        "top",
        top,
        "Show how busy pods or nodes are",
        "cais top pod\n  cais top node\n  cais top pod -A --sort-by=cpu"
    ),
    verb!(
        "wait",
        wait,
        "Wait until something is so of a cluster's objects",
        "cais wait --for=condition=Available deploy/web\n  cais wait --for=delete pod/x --timeout=60s"
    ),
    verb!(
        "why",
        why,
        "Explain why a pod is on no node, and the least that would have to change",
        "cais why pod/x\n  cais why deploy/web"
    ),
];

/// `cais rollout …`
pub(super) const ROLLOUT: &[Verb] = &[
    verb_of!(
        "history",
        rollout::HistoryArgs,
        rollout::history,
        "Show the revisions that there are",
        "cais rollout history deploy/web\n  cais rollout history deploy/web --revision=2"
    ),
    verb!(
        "pause",
        rollout::pause,
        "Have changes of a deployment wait",
        "cais rollout pause deploy/web"
    ),
    verb!(
        "restart",
        rollout::restart,
        "Replace all pods by new ones",
        "cais rollout restart deploy/web"
    ),
    verb!(
        "resume",
        rollout::resume,
        "Have changes of a deployment go on",
        "cais rollout resume deploy/web"
    ),
    verb_of!(
        "status",
        rollout::StatusArgs,
        rollout::status,
        "Wait until all pods are new, and say how far that is",
        "cais rollout status deploy/web --timeout=2m"
    ),
    verb_of!(
        "undo",
        rollout::UndoArgs,
        rollout::undo,
        "Go back to a revision before",
        "cais rollout undo deploy/web\n  cais rollout undo deploy/web --to-revision=3"
    ),
];

/// `cais config …`
pub(super) const CONFIG: &[Verb] = &[
    verb_of!(
        "current-context",
        config::NameArgs,
        config::current,
        "Show the context that counts",
        "cais config current-context"
    ),
    verb_of!(
        "get-contexts",
        config::ContextsArgs,
        config::contexts,
        "Show the contexts that there are",
        "cais config get-contexts\n  cais config get-contexts -o name"
    ),
    verb_of!(
        "set-context",
        config::SetArgs,
        config::set_context,
        "Change or make a context",
        "cais config set-context --current --namespace=web\n  cais config set-context two --cluster=b --user=me"
    ),
    verb_of!(
        "use-context",
        config::NameArgs,
        config::use_context,
        "Have another context count",
        "cais config use-context two"
    ),
    verb!(
        "view",
        config,
        "Show what the files say of clusters",
        "cais config view\n  cais config view --minify --raw"
    ),
];
