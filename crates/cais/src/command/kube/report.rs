//! What verbs that change objects say of them, and how they are only tried.

use serde_json::Value;

use super::super::cluster::kind::Kinds;
use super::super::cluster::output::{self, Form};
use super::super::cluster::{Outcome, Query};
use crate::session::Session;

/// Whether something is only tried, and by whom.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DryRun {
    /// Change nothing: none, client (only say so), or server (have the server try)
    #[arg(long, value_name = "HOW", default_value = "none", num_args = 0..=1,
        require_equals = true, default_missing_value = "client",
        value_parser = ["none", "client", "server"])]
    pub(super) dry_run: String,
}

impl DryRun {
    pub(super) fn is_client(&self) -> bool {
        self.dry_run == "client"
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.dry_run.as_str(), "client" | "server")
    }

    pub(super) fn query(&self) -> Query {
        match self.dry_run.as_str() {
            "server" => vec![("dryRun", "All".to_owned())],
            _ => Query::new(),
        }
    }

    /// What is said of what happened.
    pub(super) fn says(&self, what: &str) -> String {
        match self.dry_run.as_str() {
            "client" => format!("{what} (dry run)"),
            "server" => format!("{what} (server dry run)"),
            _ => what.to_owned(),
        }
    }
}

/// How changed objects are shown: a line for each, or in the form of `-o`.
pub(super) struct Printed<'a> {
    session: &'a Session,
    form: Option<Form>,
}

impl<'a> Printed<'a> {
    pub(super) fn new(session: &'a Session, form: Option<&str>) -> Outcome<Self> {
        let form = form.filter(|form| !form.is_empty()).map(|form| Form::parse(Some(form), true));
        Ok(Self { session, form: form.transpose()? })
    }

    /// Shows an object of which something has become.
    pub(super) fn show(&self, object: &Value, what: &str, kinds: &Kinds) -> Outcome<()> {
        let text = match &self.form {
            None => format!("{} {what}\n", output::reference(object, kinds)),
            Some(form) => {
                let mut object = object.clone();
                if form.is_whole() {
                    output::without_managers(&mut object);
                }
                form.print(&object, kinds)?
            }
        };
        Ok(self.session.print(&text)?)
    }
}
