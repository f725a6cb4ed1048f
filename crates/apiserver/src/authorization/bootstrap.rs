//! The roles and bindings that every cluster has (upstream's `bootstrappolicy`).

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::rule::Rule;

const TABLE: &str = include_str!("bootstrap.txt");
/// The group that roles are in.
const GROUP: &str = "rbac.authorization.k8s.io";
/// What the names of roles for controllers begin with.
const CONTROLLER: &str = "system:controller:";
/// Where the service accounts of controllers are.
const CONTROLLERS_ARE_IN: &str = "kube-system";

/// An object that is to be there: the resource's name in paths, and the object.
pub(crate) struct Wanted {
    pub(crate) plural: &'static str,
    pub(crate) object: Value,
}

/// All of them. Roles that are made of others have no rules yet.
pub(crate) fn wanted() -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(rule) => {
                let rules = all.iter_mut().rfind(|w| w.plural.ends_with("roles"));
                let rules = rules.and_then(|role| role.object["rules"].as_array_mut());
                rules.into_iter().for_each(|rules| rules.push(read_rule(rule).to_json()));
            }
            None => begin(&mut all, line),
        }
    }
    all
}

/// The rules of a node (`system:node`), which the node authorizer gives.
pub(super) fn node_rules() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| {
        let is_node = |wanted: &Wanted| {
            wanted.plural == "clusterroles" && wanted.object["metadata"]["name"] == "system:node"
        };
        let node = wanted().into_iter().find(is_node);
        node.map_or_else(Vec::new, |node| Rule::read_all(&node.object["rules"]))
    })
}

fn begin(all: &mut Vec<Wanted>, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    match &words[..] {
        ["role", name, more @ ..] => all.push(role(name, more)),
        ["controller", name] => {
            let whole = format!("{CONTROLLER}{name}");
            let subject = format!("account:{CONTROLLERS_ARE_IN}/{name}");
            // Its rules follow, and go to the last role.
            all.push(binding(&whole, &whole, &[&subject]));
            all.push(role(&whole, &[]));
        }
        ["bind", name, role, subjects @ ..] => all.push(binding(name, role, subjects)),
        _ => {}
    }
}

fn role(place: &str, more: &[&str]) -> Wanted {
    let mut object = json!({"metadata": metadata(place), "rules": []});
    for word in more {
        if let Some(gathered) = word.strip_prefix("gathers-") {
            let label = aggregation_label(gathered);
            object["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        if let Some(gatherer) = word.strip_prefix("for-") {
            object["metadata"]["labels"][aggregation_label(gatherer)] = "true".into();
        }
    }
    Wanted { plural: if place.contains('/') { "roles" } else { "clusterroles" }, object }
}

fn aggregation_label(of: &str) -> String {
    format!("{GROUP}/aggregate-to-{of}")
}

fn binding(place: &str, role: &str, subjects: &[&str]) -> Wanted {
    let is_local = place.contains('/');
    let kind = if is_local { "Role" } else { "ClusterRole" };
    let object = json!({
        "metadata": metadata(place),
        "subjects": subjects.iter().filter_map(|subject| read_subject(subject)).collect::<Vec<_>>(),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
    });
    Wanted { plural: if is_local { "rolebindings" } else { "clusterrolebindings" }, object }
}

fn metadata(place: &str) -> Value {
    let (namespace, name) = place.split_once('/').unwrap_or(("", place));
    let mut metadata = json!({
        "name": name,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn read_subject(subject: &str) -> Option<Value> {
    let (kind, name) = subject.split_once(':')?;
    Some(match kind {
        "user" => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
        "group" => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
    })
}

fn read_rule(line: &str) -> Rule {
    let words: Vec<&str> = line.split(' ').collect();
    let list = |at: usize| -> Vec<String> {
        let words = words.get(at).into_iter().flat_map(|words| words.split(','));
        words.map(|word| if word == "core" { "" } else { word }.to_owned()).collect()
    };
    let verbs = list(0).iter().flat_map(|word| verbs(word)).collect();
    if words.get(1).is_some_and(|word| word.starts_with("path:")) {
        let paths =
            list(1).iter().map(|path| path.trim_start_matches("path:").to_owned()).collect();
        return Rule { paths, verbs, ..Rule::default() };
    }
    Rule { groups: list(1), resources: list(2), names: list(3), verbs, ..Rule::default() }
}

fn verbs(word: &str) -> Vec<String> {
    const READ: &str = "get,list,watch";
    const WRITE: &str = "create,update,patch,delete,deletecollection";
    let all = [READ, WRITE].join(",");
    let words = match word {
        "all" => &*all,
        "read" => READ,
        "write" => WRITE,
        "note" => "create,update,patch",
        other => other,
    };
    words.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let all = wanted();
        let count = |plural: &str| all.iter().filter(|wanted| wanted.plural == plural).count();
        let plurals = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
        assert!(plurals.iter().all(|plural| count(plural) > 5), "{:?}", plurals.map(count));
        for Wanted { plural, object } in &all {
            let is_made_of_others = !object["aggregationRule"].is_null();
            for rule in Rule::read_all(&object["rules"]) {
                let is_of_resource = !rule.groups.is_empty() && !rule.resources.is_empty();
                assert_eq!(is_of_resource, rule.paths.is_empty(), "{plural} {object}");
                assert!(!rule.verbs.iter().any(String::is_empty), "{plural} {object}");
            }
            if plural.ends_with("roles") {
                let has_rules = object["rules"].as_array().is_some_and(|rules| !rules.is_empty());
                assert!(has_rules != is_made_of_others, "{plural} {object}");
            } else {
                let role = &object["roleRef"]["name"];
                let is = |other: &Wanted| other.object["metadata"]["name"] == *role;
                assert!(all.iter().any(|w| w.plural.ends_with("roles") && is(w)), "{role}");
            }
        }
        assert!(node_rules().len() > 20);
    }
}
