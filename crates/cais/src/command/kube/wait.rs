//! `cais wait --for=… pod/x`

use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::cluster::file::Files;
use super::super::cluster::jsonpath::{Path, shown};
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::watch::watched;
use super::super::cluster::{self, Cluster, Outcome, Trouble, list, word};
use crate::session::Session;

/// Without a limit: as kubectl, a week.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What `wait` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// condition=NAME[=VALUE], delete, create or jsonpath='{PATH}'[=VALUE]
    #[arg(long = "for", value_name = "WHAT", required = true)]
    wanted: String,
    /// How long to wait; negative for a week
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: String,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

/// What is waited for.
enum Wanted {
    Delete,
    Create,
    Condition(String, String),
    Path(Path, Option<String>),
}

impl Wanted {
    fn parse(text: &str) -> Outcome<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Self::Delete);
        }
        if lower == "create" {
            return Ok(Self::Create);
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Self::Condition(name.to_owned(), value.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'');
            let (path, value) = match rest.rfind('}') {
                Some(end) => {
                    let value = rest[end + 1..].trim_start_matches('\'');
                    (&rest[..=end], value.strip_prefix('='))
                }
                None => {
                    rest.split_once('=').map_or((rest, None), |(path, value)| (path, Some(value)))
                }
            };
            return Ok(Self::Path(
                Path::parse(path)?,
                value.map(|value| value.trim_matches('\'').to_owned()),
            ));
        }
        Err(Trouble::local(format!("unrecognized condition: \"{text}\"")))
    }

    fn is_so(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Delete, object) => object.is_none(),
            (Self::Create, object) => object.is_some(),
            (_, None) => false,
            (Self::Condition(name, value), Some(object)) => {
                list(object, "/status/conditions").any(|own| {
                    word(own, "/type").eq_ignore_ascii_case(name)
                        && word(own, "/status").eq_ignore_ascii_case(value)
                        && is_observed(object, own)
                })
            }
            (Self::Path(path, value), Some(object)) => {
                let found = path.all(object);
                match value {
                    None => !found.is_empty(),
                    Some(value) => found.iter().any(|own| shown(own) == *value),
                }
            }
        }
    }
}

/// Whether a condition is of the present object, not of one before.
fn is_observed(object: &Value, condition: &Value) -> bool {
    let generation = object["metadata"]["generation"].as_i64();
    let observed = condition["observedGeneration"]
        .as_i64()
        .or(object["status"]["observedGeneration"].as_i64());
    match (observed, generation) {
        (Some(observed), Some(generation)) => observed >= generation,
        _ => true,
    }
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let wanted = Wanted::parse(&args.wanted)?;
        let limit = match args.timeout.starts_with('-') {
            true => WEEK,
            false => cluster::duration(&args.timeout)?,
        };
        let until = Instant::now() + limit;
        let cluster = args.cluster.connect(session)?;
        let items = items(&cluster, args)?;
        let mut code = 0;
        for item in &items {
            match one(&cluster, item, &wanted, until) {
                Ok(()) => session.say(format!("{} condition met", item.reference()))?,
                Err(trouble) => {
                    trouble.tell();
                    code = 1;
                }
            }
        }
        Ok(code)
    })
}

fn items(cluster: &Cluster, args: &Args) -> Outcome<Vec<Item>> {
    let mut items = select::all(cluster, &args.words, &args.files)?;
    if args.all_namespaces {
        items.iter_mut().for_each(|item| item.namespace.clear());
    }
    if items.iter().all(|item| item.name.is_some()) {
        return Ok(items);
    }
    if !args.all && args.selectors.is_empty() {
        return Err(Trouble::local("resource(s) were provided, but no name was specified"));
    }
    let found = select::each(cluster, items, &args.selectors.query())?;
    if found.is_empty() && args.wanted != "delete" {
        return Err(Trouble::local("no matching resources found"));
    }
    Ok(found.into_iter().map(|(item, _)| item).collect())
}

fn one(cluster: &Cluster, item: &Item, wanted: &Wanted, until: Instant) -> Outcome<()> {
    let name = item.name.as_deref().unwrap_or_default();
    // What is not there cannot become anything, but be made or be gone.
    if !matches!(wanted, Wanted::Delete | Wanted::Create) {
        cluster.get(&item.kind, &item.namespace, name)?;
    }
    let mut uid = Value::Null;
    let is_so =
        watched(cluster, &item.kind, (&item.namespace, name), Some(until), &mut |_, object| {
            let own = object.map(|object| object["metadata"]["uid"].clone()).unwrap_or_default();
            if uid.is_null() {
                uid = own.clone();
            }
            // Another of its name is not it.
            let object = object.filter(|_| !matches!(wanted, Wanted::Delete) || own == uid);
            Ok(wanted.is_so(object))
        })?;
    match is_so {
        true => Ok(()),
        false => Err(Trouble::local(format!(
            "timed out waiting for the condition on {}/{name}",
            item.kind.plural
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_waited_for_is_seen() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {
                "phase": "Running", "observedGeneration": 2,
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}],
            },
        });
        for (text, expected) in [
            ("condition=ready", true),
            ("condition=Ready=false", false),
            ("condition=Old", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Pending", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.nothing}", false),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(Wanted::parse(text).unwrap().is_so(Some(&object)), expected, "{text}");
        }
        assert!(Wanted::parse("delete").unwrap().is_so(None));
        assert!(Wanted::parse("nonsense").is_err());
    }
}
