//! Kinds and names of a cluster's objects, for the completion of shells.

use super::{Options, Outcome, Query, name};
use crate::session::Session;

/// Verbs behind which kinds stand, then names.
const VERBS: &[&str] =
    &["annotate", "autoscale", "delete", "describe", "expose", "get", "label", "scale", "rollout"];
/// Verbs behind which a node stands.
const OF_NODES: &[&str] = &["cordon", "drain", "uncordon"];
/// Options that are followed by a value.
const WITH_VALUE: &[&str] = &[
    "-n",
    "--namespace",
    "-o",
    "--output",
    "-l",
    "--selector",
    "-f",
    "--filename",
    "--context",
    "--kubeconfig",
    "--replicas",
    "--cluster",
    "--user",
    "-s",
    "--server",
];

/// What may stand behind words.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Namespaces,
    Kinds,
    Names(&'a str),
}

/// Whether a verb is a cluster's, so that its objects are what completes it.
pub(crate) fn is_verb(word: &str) -> bool {
    VERBS.contains(&word) || OF_NODES.contains(&word) || word == "port-forward"
}

/// What may stand behind words, one a line.
pub(crate) fn offer(session: &Session, words: &[&str]) -> Outcome<Vec<String>> {
    let Some((wanted, namespace)) = wanted(words) else { return Ok(Vec::new()) };
    let options = Options { namespace: namespace.map(str::to_owned), ..Options::default() };
    let cluster = options.connect(session)?;
    let kind = match wanted {
        Wanted::Kinds => {
            let kinds = cluster.kinds()?.0.iter().filter(|kind| kind.can("get"));
            return Ok(kinds.map(|kind| kind.plural.clone()).collect());
        }
        Wanted::Namespaces => cluster.kind("namespaces")?,
        Wanted::Names(kind) => cluster.kind(kind)?,
    };
    let found = cluster.list(&kind, cluster.namespace_of(&kind), &Query::new())?;
    Ok(found.iter().map(|object| name(object).to_owned()).collect())
}

fn wanted<'a>(words: &[&'a str]) -> Option<(Wanted<'a>, Option<&'a str>)> {
    let (verb, rest) = words.split_first()?;
    let mut namespace = None;
    let mut plain = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        let word = rest[at];
        at += 1;
        if WITH_VALUE.contains(&word) {
            let value = rest.get(at).copied();
            at += 1;
            match (word, value) {
                ("-n" | "--namespace", None) => return Some((Wanted::Namespaces, None)),
                ("-n" | "--namespace", value) => namespace = value,
                (_, None) => return None,
                _ => {}
            }
        } else if !word.starts_with('-') {
            plain.push(word);
        }
    }
    // The verb of a rollout stands before its kind.
    let skipped = usize::from(*verb == "rollout");
    let plain = plain.get(skipped..)?;
    let wanted = match (plain.first(), *verb) {
        (_, verb) if OF_NODES.contains(&verb) => Wanted::Names("nodes"),
        (None, "port-forward") => Wanted::Names("pods"),
        (None, _) => Wanted::Kinds,
        (Some(kind), _) if kind.contains('/') => return None,
        (Some(kind), _) => Wanted::Names(kind),
    };
    Some((wanted, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_before_names() {
        let find = |line: &'static str| {
            let words: Vec<&str> = line.split(' ').collect();
            wanted(&words)
        };
        assert_eq!(find("get"), Some((Wanted::Kinds, None)));
        assert_eq!(find("get -n a pods"), Some((Wanted::Names("pods"), Some("a"))));
        assert_eq!(find("get pods -n"), Some((Wanted::Namespaces, None)));
        assert_eq!(find("rollout status"), Some((Wanted::Kinds, None)));
        assert_eq!(find("rollout status deploy"), Some((Wanted::Names("deploy"), None)));
        assert_eq!(find("drain"), Some((Wanted::Names("nodes"), None)));
        assert_eq!(find("describe po/x"), None);
        assert_eq!(find("get pods -o"), None);
    }
}
