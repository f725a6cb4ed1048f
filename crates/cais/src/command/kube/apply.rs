//! `cais apply`

use serde_json::{Value, json};

use super::super::cluster::file::{Document, Files};
use super::super::cluster::kind::{Kind, Kinds};
use super::super::cluster::{self, APPLIER, Cluster, Outcome, Query, Trouble, select};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// The manager of what kubectl applies without the server's help.
const OLD_APPLIER: &str = "kubectl-client-side-apply";
/// What `apply` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Only those objects of the files
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Say what kubectl says of objects that the server applies, which it does in any case
    #[arg(long)]
    server_side: bool,
    /// Take fields that others own
    #[arg(long)]
    force_conflicts: bool,
    /// Who owns what is applied
    #[arg(long, value_name = "NAME", default_value = APPLIER)]
    field_manager: String,
    /// What becomes of unknown fields: strict, warn or ignore
    #[arg(long, value_name = "HOW", default_value = "strict", num_args = 0..=1,
        require_equals = true, default_missing_value = "strict")]
    validate: String,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        if args.files.is_empty() {
            return Err(Trouble::local("must specify one of -f and -k"));
        }
        let documents = selected(args.files.read()?, args.selector.as_deref())?;
        if documents.is_empty() {
            return Err(Trouble::local("no objects passed to apply"));
        }
        let cluster = args.cluster.connect(session)?;
        let printed = Printed::new(session, args.output.as_deref())?;
        let mut apply = Apply { args, cluster: &cluster, fresh: None };
        let mut code = 0;
        for document in &documents {
            match apply.one(document).and_then(|(object, what)| {
                printed.show(&object, &args.dry_run.says(&what), apply.kinds()?)
            }) {
                Ok(()) => {}
                Err(trouble) => {
                    trouble.tell();
                    code = 1;
                }
            }
        }
        Ok(code)
    })
}

fn selected(documents: Vec<Document>, selector: Option<&str>) -> Outcome<Vec<Document>> {
    let Some(selector) = selector else { return Ok(documents) };
    let selector = objects::Selector::parse(selector)
        .map_err(|error| Trouble::local(format!("unable to parse requirement: {error}")))?;
    Ok(documents.into_iter().filter(|one| selector.matches_object(&one.object)).collect())
}

/// `fieldValidation`, of `--validate`.
pub(super) fn validation(word: &str) -> Outcome<&'static str> {
    match word {
        "true" | "strict" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "false" | "ignore" => Ok("Ignore"),
        _ => Err(Trouble::local(format!(
            "invalid - validate option \"{word}\"; must be one of: strict (or true), warn, ignore (or false)"
        ))),
    }
}

struct Apply<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    /// The kinds as they are after definitions of others were applied.
    fresh: Option<Kinds>,
}

impl Apply<'_> {
    fn kinds(&self) -> Outcome<&Kinds> {
        match &self.fresh {
            Some(kinds) => Ok(kinds),
            None => self.cluster.kinds(),
        }
    }

    /// Applies an object: what it is now, and what became of it.
    fn one(&mut self, document: &Document) -> Outcome<(Value, String)> {
        if self.kinds()?.of(&document.object).is_none() {
            self.fresh = Some(Kinds::ask(self.cluster)?);
        }
        let item = select::of_document(self.cluster, self.kinds()?, document)?;
        let name = item.name.clone().unwrap_or_default();
        if name.is_empty() {
            return Err(Trouble::local("metadata.name is required to apply an object"));
        }
        let before = match self.cluster.get(&item.kind, &item.namespace, &name) {
            Ok(object) => Some(object),
            Err(trouble) if trouble.is_not_found() => None,
            Err(trouble) => return Err(trouble),
        };
        if self.args.dry_run.is_client() {
            let what = if before.is_some() { "configured" } else { "created" };
            return Ok((document.object.clone(), what.to_owned()));
        }
        let place = (item.namespace.as_str(), name.as_str());
        if let Some(before) = &before {
            self.take_over(&item.kind, place, before)?;
        }
        let mut object = document.object.clone();
        if item.kind.is_namespaced {
            object["metadata"]["namespace"] = item.namespace.as_str().into();
        }
        let path = item.path(&self.query()?);
        let sent = self.cluster.send("PATCH", path, "application/apply-patch+yaml", &object);
        let (code, after) = sent.map_err(|trouble| self.explained(trouble))?;
        let what = match (&before, code) {
            _ if self.args.server_side => "serverside-applied",
            (None, _) | (_, 201) => "created",
            (Some(before), _) if said(before) == said(&after) => "unchanged",
            _ => "configured",
        };
        Ok((after, what.to_owned()))
    }

    fn query(&self) -> Outcome<Query> {
        let mut query = vec![
            ("fieldManager", self.args.field_manager.clone()),
            ("fieldValidation", validation(&self.args.validate)?.to_owned()),
            ("force", self.args.force_conflicts.to_string()),
        ];
        query.extend(self.args.dry_run.query());
        Ok(query)
    }

    /// What an older kubectl has applied is from now on what this manager has applied, so that fields
    /// go that are left out now.
    fn take_over(&self, kind: &Kind, place: (&str, &str), before: &Value) -> Outcome<()> {
        if self.args.dry_run.is_on() || self.args.field_manager != APPLIER {
            return Ok(());
        }
        let Some(managers) = taken_over(before, &self.args.field_manager) else { return Ok(()) };
        let revision = &before["metadata"]["resourceVersion"];
        let patch = json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": managers},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": revision},
        ]);
        let path = kind.path(place.0, &[place.1], &Query::new());
        self.cluster.send("PATCH", path, "application/json-patch+json", &patch).map(drop)
    }

    /// What can be done about a conflict.
    fn explained(&self, trouble: Trouble) -> Trouble {
        if !trouble.is_conflict() {
            return trouble;
        }
        Trouble::local(format!(
            "{}\nPlease review the fields above--they currently have other managers. Here\nare the ways you can resolve this warning:\n\
             * If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n\
             * If you do not intend to manage all of the fields, please edit your\n  manifest to remove references to the fields that should keep their\n  current managers.\n\
             * You may co-own fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if the other manager(s)\n  stop managing the field (remove it from their configuration).\n\
             See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
            trouble.message()
        ))
    }
}

/// What of an object somebody has said, and not the cluster, which may have gone on meanwhile.
fn said(object: &Value) -> Value {
    let mut said = object.clone();
    if let Some(fields) = said.as_object_mut() {
        fields.remove("status");
    }
    if let Some(fields) = said.get_mut("metadata").and_then(Value::as_object_mut) {
        fields.retain(|name, _| !matches!(name.as_str(), "resourceVersion" | "managedFields"));
    }
    said
}

/// Who owns what, once what an older kubectl has applied is another's; none if it has applied nothing.
/// So is its note of what was applied last, which is not true any longer and goes.
fn taken_over(before: &Value, manager: &str) -> Option<Value> {
    let all: Vec<&Value> = cluster::list(before, "/metadata/managedFields").collect();
    let is_old = |own: &&Value| {
        own["manager"] == OLD_APPLIER
            && own["operation"] == "Update"
            && own["subresource"].is_null()
    };
    let is_new = |own: &&Value| {
        own["manager"] == manager && own["operation"] == "Apply" && own["subresource"].is_null()
    };
    let old = (*all.iter().find(|own| is_old(own))?).clone();
    let mut merged = all.iter().find(|own| is_new(own)).map_or_else(
        || {
            let mut fresh = old.clone();
            fresh["manager"] = manager.into();
            fresh["operation"] = "Apply".into();
            fresh
        },
        |own| (**own).clone(),
    );
    join(&mut merged["fieldsV1"], &old["fieldsV1"]);
    let others = all.into_iter().filter(|own| !is_old(own) && !is_new(own)).cloned();
    Some(std::iter::once(merged).chain(others).collect())
}

/// Adds the fields of one set to another.
fn join(into: &mut Value, from: &Value) {
    let Some(from) = from.as_object() else { return };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in from {
        join(&mut into[key.as_str()], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_kubectl_applied_is_taken_over() {
        let own = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let annotations = json!({"f:annotations": {
            ".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}, "f:x": {},
        }});
        let before = json!({"metadata": {"managedFields": [
            own(OLD_APPLIER, "Update", json!({"f:metadata": annotations, "f:data": {"f:a": {}}})),
            own("kubectl", "Apply", json!({"f:data": {"f:b": {}}})),
            own("other", "Update", json!({})),
        ]}});
        let after = taken_over(&before, "kubectl").unwrap();
        assert_eq!(after.as_array().unwrap().len(), 2);
        let fields = json!({"f:data": {"f:b": {}, "f:a": {}}, "f:metadata": annotations});
        assert_eq!(after[0]["fieldsV1"], fields);
        assert_eq!(taken_over(&json!({"metadata": {}}), "kubectl"), None);
    }
}
