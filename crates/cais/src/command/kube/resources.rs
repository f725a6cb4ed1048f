//! `cais api-resources` and `cais api-versions`

use super::super::cluster::columns::Columns;
use super::super::cluster::kind::Kind;
use super::super::cluster::{self, Trouble};
use crate::session::Session;

/// What `api-resources` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// wide, or name
    #[arg(short, long, value_name = "FORM", value_parser = ["wide", "name"])]
    output: Option<String>,
    /// Only what is in namespaces, or what is not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = super::super::grammar::Bool)]
    namespaced: Option<bool>,
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    api_group: Option<String>,
    /// Only what can be all of this
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    verbs: Vec<String>,
    /// Only of these categories
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    categories: Vec<String>,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    /// Sort by name or kind
    #[arg(long, value_name = "COLUMN", value_parser = ["name", "kind"])]
    sort_by: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let mut all: Vec<&Kind> = Vec::new();
        for kind in cluster.kinds()?.0.iter().filter(|kind| args.wants(kind)) {
            let is_known = |own: &&Kind| own.group == kind.group && own.plural == kind.plural;
            if !all.iter().any(is_known) {
                all.push(kind);
            }
        }
        match args.sort_by.as_deref() {
            Some("name") => all.sort_by(|a, b| a.plural.cmp(&b.plural)),
            Some(_) => all.sort_by(|a, b| a.kind.cmp(&b.kind)),
            None => all.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
        }
        let text = match args.output.as_deref() {
            Some("name") => all.iter().map(|kind| kind.resource() + "\n").collect(),
            form => table(&all, form == Some("wide"), args.no_headers),
        };
        Ok(session.print(&text).map(|()| 0)?)
    })
}

impl Args {
    fn wants(&self, kind: &Kind) -> bool {
        let has = |all: &[String], wanted: &[String]| wanted.iter().all(|own| all.contains(own));
        !kind.verbs.is_empty()
            && self.namespaced.is_none_or(|own| own == kind.is_namespaced)
            && self.api_group.as_ref().is_none_or(|own| *own == kind.group)
            && has(&kind.verbs, &self.verbs)
            && has(&kind.categories, &self.categories)
    }
}

fn table(all: &[&Kind], is_wide: bool, no_headers: bool) -> String {
    let mut text = String::new();
    let wide =
        |cells: &[&str]| if is_wide { format!("\t{}", cells.join("\t")) } else { String::new() };
    if !no_headers {
        let heads = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"].join("\t");
        text += &format!("{heads}{}\n", wide(&["VERBS", "CATEGORIES"]));
    }
    for kind in all {
        let (verbs, categories) = (kind.verbs.join(","), kind.categories.join(","));
        text += &format!(
            "{}\t{}\t{}\t{}\t{}{}\n",
            kind.plural,
            kind.short_names.join(","),
            kind.api_version(),
            kind.is_namespaced,
            kind.kind,
            wide(&[&verbs, &categories])
        );
    }
    Columns::of_tables().set(&text)
}

/// What `api-versions` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionsArgs {
    #[command(flatten)]
    cluster: cluster::Options,
}

pub(crate) fn versions(session: &Session, args: &VersionsArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let mut all: Vec<String> = cluster.kinds()?.0.iter().map(Kind::api_version).collect();
        all.sort();
        all.dedup();
        match all.is_empty() {
            true => Err(Trouble::local("the server has no versions")),
            false => Ok(session.say(all.join("\n")).map(|()| 0)?),
        }
    })
}
