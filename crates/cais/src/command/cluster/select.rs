//! Which objects a command line means: `pods`, `pod x y`, `pod,svc`, `deploy/web`, files, selectors.

use serde_json::Value;

use super::file::{Document, Files};
use super::kind::{Kind, Kinds};
use super::{Cluster, Outcome, Query, Trouble};

/// What of a kind is meant: one object, or all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    /// None means all.
    pub(crate) name: Option<String>,
}

/// Which objects of a kind are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selectors {
    /// Selector (label query) to filter on: '=', '==', '!=', 'in', 'notin'
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Selector (field query) to filter on: '=', '==', '!='
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
}

impl Selectors {
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::new();
        let named = [("labelSelector", &self.selector), ("fieldSelector", &self.field_selector)];
        query.extend(named.into_iter().filter_map(|(name, own)| Some((name, own.clone()?))));
        query
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_none() && self.field_selector.is_none()
    }
}

/// What words name, in order.
pub(crate) fn words(cluster: &Cluster, words: &[String]) -> Outcome<Vec<Item>> {
    let kinds = cluster.kinds()?;
    let with_names = words.iter().any(|word| word.contains('/'));
    let mut items = Vec::new();
    let mut push = |kind: &Kind, name: Option<&str>| {
        let namespace = cluster.namespace_of(kind).to_owned();
        items.push(Item { kind: kind.clone(), namespace, name: name.map(str::to_owned) });
    };
    if with_names {
        for word in words.iter().flat_map(|word| word.split(',')) {
            let (kind, name) = pair(word)?;
            push(find(kinds, kind)?, Some(name));
        }
        return Ok(items);
    }
    let Some((first, names)) = words.split_first() else { return Ok(items) };
    for word in first.split(',') {
        for kind in named(kinds, word)? {
            match names {
                [] => push(kind, None),
                names => names.iter().for_each(|name| push(kind, Some(name))),
            }
        }
    }
    Ok(items)
}

/// `deploy/web`
fn pair(word: &str) -> Outcome<(&str, &str)> {
    match word.split_once('/') {
        None => Err(Trouble::local(
            "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
        )),
        Some((kind, name)) if kind.is_empty() || name.is_empty() || name.contains('/') => Err(
            Trouble::local("arguments in resource/name form must have a single resource and name"),
        ),
        Some(found) => Ok(found),
    }
}

fn find<'a>(kinds: &'a Kinds, word: &str) -> Outcome<&'a Kind> {
    kinds.find(word).ok_or_else(|| Trouble::no_such_kind(word))
}

/// A kind, or those of a category.
fn named<'a>(kinds: &'a Kinds, word: &str) -> Outcome<Vec<&'a Kind>> {
    match kinds.find(word) {
        Some(kind) => Ok(vec![kind]),
        None => match kinds.in_category(word) {
            found if found.is_empty() => Err(Trouble::no_such_kind(word)),
            found => Ok(found),
        },
    }
}

/// Whether words name several kinds, so that what they are has to be said.
pub(crate) fn are_several(words: &[String]) -> bool {
    let with_names = words.iter().any(|word| word.contains('/'));
    let mut kinds: Vec<&str> = match with_names {
        true => words
            .iter()
            .flat_map(|word| word.split(','))
            .filter_map(|word| word.split_once('/'))
            .map(|(kind, _)| kind)
            .collect(),
        false => words.first().into_iter().flat_map(|word| word.split(',')).collect(),
    };
    kinds.sort_unstable();
    kinds.dedup();
    kinds.len() > 1 || kinds == ["all"]
}

/// What files name.
pub(crate) fn files(cluster: &Cluster, documents: &[Document]) -> Outcome<Vec<Item>> {
    let kinds = cluster.kinds()?;
    documents.iter().map(|document| of_document(cluster, kinds, document)).collect()
}

/// What a document names.
pub(crate) fn of_document(cluster: &Cluster, kinds: &Kinds, document: &Document) -> Outcome<Item> {
    let object = &document.object;
    let Some(kind) = kinds.of(object) else { return Err(document.no_such_kind()) };
    let namespace = namespace(cluster, kind, object)?;
    Ok(Item { kind: kind.clone(), namespace, name: Some(super::name(object).to_owned()) })
}

/// Where an object belongs.
fn namespace(cluster: &Cluster, kind: &Kind, object: &Value) -> Outcome<String> {
    if !kind.is_namespaced {
        return Ok(String::new());
    }
    let own = super::namespace(object);
    if cluster.is_named && !own.is_empty() && own != cluster.namespace {
        return Err(Trouble::local(format!(
            "the namespace from the provided object \"{own}\" does not match the namespace \"{}\". You must pass '--namespace={own}' to perform this operation.",
            cluster.namespace
        )));
    }
    Ok(if own.is_empty() { cluster.namespace.clone() } else { own.to_owned() })
}

/// What is named by words or by files.
pub(crate) fn all(cluster: &Cluster, words: &[String], files: &Files) -> Outcome<Vec<Item>> {
    match files.is_empty() {
        true => self::words(cluster, words),
        false if !words.is_empty() => Err(Trouble::local(
            "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
        )),
        false => self::files(cluster, &files.read()?),
    }
}

impl Item {
    /// The path of the one object, or of all.
    pub(crate) fn path(&self, query: &Query) -> String {
        let name: Vec<&str> = self.name.iter().map(String::as_str).collect();
        self.kind.path(&self.namespace, &name, query)
    }

    /// `deployment.apps/web`
    pub(crate) fn reference(&self) -> String {
        format!("{}/{}", self.kind.short(), self.name.as_deref().unwrap_or_default())
    }

    /// The objects that are meant, whole.
    pub(crate) fn objects(&self, cluster: &Cluster, query: &Query) -> Outcome<Vec<Value>> {
        match &self.name {
            Some(name) => cluster.get(&self.kind, &self.namespace, name).map(|object| vec![object]),
            None => cluster.list(&self.kind, &self.namespace, query),
        }
    }
}

/// Names each object that is meant: what stands for all is asked for.
pub(crate) fn each(
    cluster: &Cluster,
    items: Vec<Item>,
    query: &Query,
) -> Outcome<Vec<(Item, Value)>> {
    let mut all = Vec::new();
    for item in items {
        for object in item.objects(cluster, query)? {
            let name = Some(super::name(&object).to_owned());
            let namespace = super::namespace(&object).to_owned();
            all.push((Item { name, namespace, kind: item.kind.clone() }, object));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_kinds_are_noticed() {
        let several =
            |line: &str| are_several(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(several("pod,svc"));
        assert!(several("pod/a svc/b"));
        assert!(several("all"));
        assert!(!several("pod a b"));
        assert!(!several("pod/a pod/b"));
    }
}
