//! `cais get`

use std::cmp::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::super::cluster::columns::Columns;
use super::super::cluster::file::Files;
use super::super::cluster::jsonpath::Path;
use super::super::cluster::kind::Kind;
use super::super::cluster::output::{self, Form};
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::table::{ACCEPT, How, Sheet};
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble, get};
use crate::session::Session;

/// How long one wait for events is.
const WAIT: Duration = Duration::from_secs(3600);

/// What `get` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// json, yaml, name, wide, jsonpath=…, custom-columns=…, go-template=…
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    /// Show what becomes of the objects, after listing them
    #[arg(short, long)]
    watch: bool,
    /// Show what becomes of the objects, without listing them
    #[arg(long)]
    watch_only: bool,
    /// Say what has happened to each, when watching
    #[arg(long)]
    output_watch_events: bool,
    /// Say nothing of objects that are not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Labels to show as columns
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Show all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Show kinds before names
    #[arg(long)]
    show_kind: bool,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    /// The field to sort by, as in .metadata.name
    #[arg(long, value_name = "PATH")]
    sort_by: Option<String>,
    /// Show who owns which fields, in YAML and JSON
    #[arg(long)]
    show_managed_fields: bool,
    /// A path to ask the server for
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    /// How many objects a page of a list has
    #[arg(long, value_name = "NUMBER", hide = true)]
    chunk_size: Option<u64>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds, kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| Get::new(session, args)?.run())
}

struct Get<'a> {
    session: &'a Session,
    args: &'a Args,
    cluster: Cluster,
    form: Form,
    query: Query,
}

impl<'a> Get<'a> {
    fn new(session: &'a Session, args: &'a Args) -> Outcome<Self> {
        let form = Form::parse(args.output.as_deref(), !args.no_headers)?;
        let cluster = args.cluster.connect(session)?;
        Ok(Self { session, args, cluster, form, query: args.selectors.query() })
    }

    fn run(&self) -> Outcome<i32> {
        if let Some(path) = &self.args.raw {
            let answer = self.cluster.https.accepted(&get(path.clone(), "application/json"))?;
            let bytes = answer.bytes(1 << 30).map_err(|error| Trouble::local(error.to_string()))?;
            return Ok(self.session.print_bytes(&bytes).map(|()| 0)?);
        }
        if self.args.words.is_empty() && self.args.files.is_empty() {
            let advice = "You must specify the type of resource to get. Use \"cais api-resources\" for a complete list of supported resources.\n";
            return Err(Trouble::local("Required resource not specified.").hint(advice.trim_end()));
        }
        let mut items = select::all(&self.cluster, &self.args.words, &self.args.files)?;
        self.check(&items)?;
        if self.args.all_namespaces {
            items.iter_mut().for_each(|item| item.namespace.clear());
        }
        if self.args.watch || self.args.watch_only {
            return self.watch(&items);
        }
        match &self.form {
            Form::Table { .. } => self.tables(&items),
            form => self.whole(&items, form),
        }
    }

    fn check(&self, items: &[Item]) -> Outcome<()> {
        let is_named = items.iter().any(|item| item.name.is_some());
        let why = match (is_named, self.args.all_namespaces, self.args.selectors.is_empty()) {
            (true, true, _) => "a resource cannot be retrieved by name across all namespaces",
            (true, _, false) => "name cannot be provided when a selector is specified",
            _ => return Ok(()),
        };
        Err(Trouble::local(why))
    }

    fn how(&self, kind: &Kind, with_kind: bool) -> How {
        How {
            is_wide: matches!(self.form, Form::Table { is_wide: true }),
            no_headers: self.args.no_headers,
            with_namespace: self.args.all_namespaces && kind.is_namespaced,
            kind: with_kind.then(|| kind.short()),
            show_labels: self.args.show_labels,
            labels: self.args.label_columns.clone(),
        }
    }

    fn with_kinds(&self, items: &[Item]) -> bool {
        self.args.show_kind
            || select::are_several(&self.args.words)
            || items.windows(2).any(|pair| pair[0].kind != pair[1].kind)
    }

    /// A failure that is to be told, while others go on; none if it does not matter.
    fn tolerated(&self, trouble: Trouble) -> Option<Trouble> {
        Some(trouble).filter(|trouble| !(self.args.ignore_not_found && trouble.is_not_found()))
    }

    /// The tables of what is meant, one for each page or name.
    fn fetch(&self, item: &Item) -> Outcome<Vec<Value>> {
        let mut query = self.query.clone();
        if self.args.sort_by.is_some() {
            query.push(("includeObject", "Object".to_owned()));
        }
        if item.name.is_some() {
            return self
                .cluster
                .ask(&get(item.path(&Query::new()), ACCEPT))
                .map(|table| vec![table]);
        }
        let mut tables = Vec::new();
        self.cluster.pages(&item.kind, &item.namespace, &query, ACCEPT, &mut |table| {
            tables.push(table);
            Ok(())
        })?;
        Ok(tables)
    }

    fn tables(&self, items: &[Item]) -> Outcome<i32> {
        let with_kinds = self.with_kinds(items);
        let mut troubles = Vec::new();
        let mut written = false;
        let mut at = 0;
        while at < items.len() {
            let group = items[at..].iter().take_while(|item| item.kind == items[at].kind).count();
            let group = &items[at..at + group];
            at += group.len();
            let mut sheet = Sheet::new(Columns::of_tables());
            let how = self.how(&group[0].kind, with_kinds);
            let mut all = Vec::new();
            for item in group {
                match self.fetch(item) {
                    Ok(tables) => all.extend(tables),
                    Err(trouble) => troubles.extend(self.tolerated(trouble)),
                }
            }
            self.sort_tables(&mut all)?;
            all.iter()
                .filter(|table| cluster::list(table, "/rows").next().is_some())
                .for_each(|table| sheet.add(table, &how, &[]));
            let text = sheet.take();
            if !text.is_empty() {
                if written && !self.args.no_headers {
                    self.session.print("\n")?;
                }
                self.session.print(&text)?;
                written = true;
            }
        }
        self.told(items, written, &troubles)
    }

    /// Says what went wrong, or that there is nothing.
    fn told(&self, items: &[Item], written: bool, troubles: &[Trouble]) -> Outcome<i32> {
        troubles.iter().for_each(Trouble::tell);
        if !written && troubles.is_empty() && !self.args.ignore_not_found {
            let are_local =
                !self.args.all_namespaces && items.iter().all(|item| item.kind.is_namespaced);
            let place = match are_local {
                true => format!(" in {} namespace.", self.cluster.namespace),
                false => String::new(),
            };
            cluster::note(&format!("No resources found{place}"));
        }
        Ok(i32::from(!troubles.is_empty()))
    }

    fn sort_tables(&self, tables: &mut Vec<Value>) -> Outcome<()> {
        let Some(path) = self.args.sort_by.as_deref() else { return Ok(()) };
        let path = Path::parse(path)?;
        let Some((first, rest)) = tables.split_first_mut() else { return Ok(()) };
        let mut rows: Vec<Value> = Vec::new();
        for table in std::iter::once(&mut *first).chain(rest) {
            if let Value::Array(own) = table["rows"].take() {
                rows.extend(own);
            }
        }
        rows.sort_by(|a, b| order(&path, &a["object"], &b["object"]));
        first["rows"] = Value::Array(rows);
        tables.truncate(1);
        Ok(())
    }

    /// Objects in a form that shows them whole.
    fn whole(&self, items: &[Item], form: &Form) -> Outcome<i32> {
        let (mut objects, mut troubles) = (Vec::new(), Vec::new());
        for item in items {
            match item.objects(&self.cluster, &self.query) {
                Ok(found) => objects.extend(found),
                Err(trouble) => troubles.extend(self.tolerated(trouble)),
            }
        }
        if let Some(path) = &self.args.sort_by {
            let path = Path::parse(path)?;
            objects.sort_by(|a, b| order(&path, a, b));
        }
        let is_one = items.len() == 1 && items[0].name.is_some();
        troubles.iter().for_each(Trouble::tell);
        if is_one && (!troubles.is_empty() || objects.is_empty()) {
            return Ok(i32::from(!troubles.is_empty()));
        }
        if form.is_whole() && !self.args.show_managed_fields {
            objects.iter_mut().for_each(output::without_managers);
        }
        let document = match (is_one, objects.pop()) {
            (true, Some(object)) => object,
            (_, last) => output::list(objects.into_iter().chain(last).collect()),
        };
        self.session.print(&form.print(&document, self.cluster.kinds()?)?)?;
        Ok(i32::from(!troubles.is_empty()))
    }

    fn watch(&self, items: &[Item]) -> Outcome<i32> {
        let [item] = items else {
            return Err(Trouble::local("you may only specify a single resource type"));
        };
        let how = self.how(&item.kind, self.args.show_kind);
        let mut sheet = Sheet::new(Columns::of_watches());
        let mut query = self.query.clone();
        if let Some(name) = &item.name {
            query.push(("fieldSelector", format!("metadata.name={name}")));
        }
        let accept = match self.form {
            Form::Table { .. } => ACCEPT,
            _ => "application/json",
        };
        let mut pages = Vec::new();
        let take = &mut |page| {
            pages.push(page);
            Ok(())
        };
        let revision = self.cluster.pages(&item.kind, &item.namespace, &query, accept, take)?;
        if !self.args.watch_only {
            for page in pages {
                self.show(&mut sheet, &how, item, "ADDED", page)?;
            }
        }
        query.extend([
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", revision),
        ]);
        let path = item.kind.path(&item.namespace, &[], &query);
        let mut events = self.cluster.https.watch_as(&get(path, accept))?;
        while let Some(told) = events.next(self.cluster.timeout.unwrap_or(WAIT)) {
            if told.is_empty() && self.cluster.timeout.is_some() {
                break;
            }
            for mut event in told {
                let what = event["type"].as_str().unwrap_or_default().to_owned();
                match what.as_str() {
                    "BOOKMARK" => {}
                    "ERROR" => return Err(Trouble::Refused(event["object"].take())),
                    what => self.show(&mut sheet, &how, item, what, event["object"].take())?,
                }
            }
        }
        Ok(0)
    }

    /// Shows a table, an object or a list of objects.
    fn show(
        &self,
        sheet: &mut Sheet,
        how: &How,
        item: &Item,
        what: &str,
        page: Value,
    ) -> Outcome<()> {
        if matches!(self.form, Form::Table { .. }) {
            let front: &[(&str, &str)] = match self.args.output_watch_events {
                true => &[("EVENT", what)],
                false => &[],
            };
            if cluster::list(&page, "/rows").next().is_some() {
                sheet.add(&page, how, front);
            }
            return Ok(self.session.print(&sheet.take())?);
        }
        let objects = match page["items"].as_array() {
            Some(items) => items.iter().map(|one| item.kind.complete(one.clone())).collect(),
            None => vec![page],
        };
        for mut object in objects {
            if self.form.is_whole() && !self.args.show_managed_fields {
                output::without_managers(&mut object);
            }
            let text = self.form.print(&object, self.cluster.kinds()?)?;
            let before = if matches!(self.form, Form::Yaml) { "---\n" } else { "" };
            self.session.print(&format!("{before}{text}"))?;
        }
        Ok(())
    }
}

/// The order of two objects by a field: numbers as numbers, what has none first.
fn order(path: &Path, a: &Value, b: &Value) -> Ordering {
    let value = |object: &Value| path.all(object).into_iter().next().unwrap_or_default();
    let (a, b) = (value(a), value(b));
    match (&a, &b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => {
            match (a.parse::<objects::Quantity>(), b.parse::<objects::Quantity>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => a.cmp(b),
            }
        }
        _ => a.to_string().cmp(&b.to_string()),
    }
}
