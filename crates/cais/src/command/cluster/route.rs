//! Which words mean a cluster. Some verbs are Docker's and kubectl's at once: what a command line
//! names decides which of both is meant. `cais kube …` always means the cluster.

use std::ffi::OsString;

use objects::resource::Resource;

/// Options in front of a command that are followed by a value.
const GLOBAL: &[&str] = &["--root", "--run-root", "--storage-driver"];
/// The group of verbs that Docker has, too.
const GROUP: &str = "kube";

/// Verbs of both, and those of their options that are followed by a value: short ones, then long ones.
const SHARED: &[(&str, &str, &[&str])] = &[
    ("logs", "nclsL", &["tail", "since", "until", "since-time", "container", "limit-bytes"]),
    ("exec", "euwncs", &["env", "env-file", "user", "workdir", "detach-keys", "container"]),
    ("attach", "ncs", &["detach-keys", "container"]),
    ("top", "nls", &["sort-by"]),
    ("wait", "nlfs", &["for", "timeout"]),
    ("create", "", &[]),
    ("why", "", &[]),
];
/// Options of every verb of a cluster that are followed by a value.
const OF_CLUSTER: &[&str] = &[
    "namespace",
    "kubeconfig",
    "context",
    "cluster",
    "server",
    "token",
    "selector",
    "certificate-authority",
    "client-certificate",
    "client-key",
    "tls-server-name",
    "request-timeout",
    "as",
    "as-group",
    "field-selector",
    "filename",
];
/// What `cais create` makes in a cluster, where Docker's makes containers of images.
const CREATED: &[&str] = &[
    "configmap",
    "cm",
    "secret",
    "namespace",
    "ns",
    "deployment",
    "deploy",
    "serviceaccount",
    "sa",
    "service",
    "svc",
    "job",
    "cronjob",
    "cj",
    "-f",
    "--filename",
];
/// What `cais top` measures in a cluster.
const MEASURED: &[&str] = &["pod", "pods", "po", "node", "nodes", "no"];

/// The words of a command line as the tables of commands have them.
pub(crate) fn route(mut args: Vec<OsString>) -> Vec<OsString> {
    let words: Vec<&str> = args.iter().map(|word| word.to_str().unwrap_or("")).collect();
    let mut at = 1;
    while words.get(at).is_some_and(|word| word.starts_with('-')) {
        at += if GLOBAL.contains(&words[at]) { 2 } else { 1 };
    }
    let rest = words.get(at + 1..).unwrap_or_default();
    match words.get(at) {
        // What no verb of Docker's is called stands at the top.
        Some(&GROUP) if rest.first().is_some_and(|verb| is_own(verb)) => {
            args.remove(at);
        }
        Some(verb) if is_for_cluster(verb, rest) => args.insert(at, GROUP.into()),
        _ => {}
    }
    args
}

/// Whether a verb is a cluster's alone.
fn is_own(verb: &str) -> bool {
    !verb.starts_with('-') && verb != "help" && !SHARED.iter().any(|(name, ..)| *name == verb)
}

fn is_for_cluster(verb: &str, rest: &[&str]) -> bool {
    let Some((_, short, long)) = SHARED.iter().find(|(name, ..)| *name == verb) else {
        return false;
    };
    let first = rest.first().copied().unwrap_or_default();
    match verb {
        "create" => {
            let first = first.split('=').next().unwrap_or_default();
            CREATED.contains(&first)
        }
        "why" => first.contains('/') || MEASURED[..3].contains(&first),
        _ => named(verb, rest, short, long),
    }
}

/// Whether options or the first word behind them are a cluster's.
fn named(verb: &str, rest: &[&str], short: &str, long: &[&str]) -> bool {
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if *word == "--" {
            return false;
        }
        if let Some(option) = word.strip_prefix("--") {
            let (name, has_value) = match option.split_once('=') {
                Some((name, _)) => (name, true),
                None => (option, false),
            };
            if OF_CLUSTER.contains(&name)
                || matches!(
                    (verb, name),
                    ("wait", "for") | (_, "container" | "all-containers" | "prefix")
                )
            {
                return true;
            }
            if long.contains(&name) && !has_value {
                words.next();
            }
            continue;
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            let is_measured = verb == "top" && MEASURED.contains(word);
            return is_measured || is_reference(word);
        };
        let Some(at) = letters.find(|letter| short.contains(letter)) else { continue };
        let value = match &letters[at + 1..] {
            "" => words.next().copied().unwrap_or_default(),
            value => value,
        };
        let letter = &letters[at..=at];
        let is_count = verb == "logs" && (value == "all" || value.parse::<i64>().is_ok());
        if letter == "n" && !is_count
            || matches!((verb, letter), ("logs" | "exec", "c") | ("logs" | "top" | "wait", "l"))
        {
            return true;
        }
    }
    false
}

/// Whether a word is `KIND/NAME`; no container is called so.
fn is_reference(word: &str) -> bool {
    let Some((kind, name)) = word.split_once('/') else { return false };
    let kind = kind.to_lowercase();
    let of = kind.split('.').next().unwrap_or_default();
    let is = |known: &Resource| {
        known.plural == of || known.singular == of || known.short_names.contains(&of)
    };
    !name.is_empty() && Resource::built_in().iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let args = line.split(' ').map(OsString::from).collect();
        let routed: Vec<String> =
            route(args).into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(routed.join(" "), expected);
    }

    #[track_caller]
    fn stays(line: &str) {
        check(line, line);
    }

    #[test]
    fn names_with_a_kind_are_a_cluster_s() {
        check("cais logs deploy/web", "cais kube logs deploy/web");
        check("cais --root /r logs -f po/x", "cais --root /r kube logs -f po/x");
        check("cais exec -it pod/x -- sh", "cais kube exec -it pod/x -- sh");
        check("cais exec -n a x -- sh", "cais kube exec -n a x -- sh");
        check("cais logs -n kube-system x", "cais kube logs -n kube-system x");
        check("cais logs -l app=x", "cais kube logs -l app=x");
        check("cais wait --for=delete pod/x", "cais kube wait --for=delete pod/x");
        check("cais top pod", "cais kube top pod");
        check("cais create secret generic s", "cais kube create secret generic s");
        check("cais why pod/x", "cais kube why pod/x");
        check("cais kube get pods", "cais get pods");
        check("cais kube logs x", "cais kube logs x");
    }

    #[test]
    fn other_names_are_containers() {
        stays("cais logs web");
        stays("cais logs -n 5 web");
        stays("cais logs --tail 5 -f web");
        stays("cais exec -w pods/x web sh");
        stays("cais exec web cat pods/x");
        stays("cais exec -it web ls -n x");
        stays("cais exec -e A=po/x web sh");
        stays("cais top web");
        stays("cais wait web");
        stays("cais create busybox secret x");
        stays("cais why cache app");
        stays("cais get pods");
        stays("cais run logs pod/x");
        stays("cais");
    }
}
