//! `cais bake`: builds that a file describes, as with `docker buildx bake`.

mod compose;
mod function;
mod grant;
mod hcl;
mod target;

use std::collections::BTreeMap;
use std::path::Path;

use clap::FromArgMatches as _;
use engine::{Error, Kind, Result};
use serde_json::{Value, json};

use super::{build, grammar};
use crate::session::Session;
use target::{Override, Plan, Resolver, Target};

/// Files that are read where none is named, as far as they are there: also those of Compose.
const FILES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];
/// What `bake` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Allow build to access specified resources
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// Build definition file
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    /// List targets or variables
    #[arg(long, value_name = "targets|variables")]
    list: Option<String>,
    /// Shorthand for "--set=*.output=type=docker", which every image is here
    #[arg(long)]
    load: bool,
    /// Write build result metadata to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Print the options without building
    #[arg(long)]
    print: bool,
    /// Set type of progress output (auto, tty, plain, rawjson, quiet)
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    progress: String,
    /// Shorthand for "--set=*.attest=type=provenance"
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Push every image once it is built
    #[arg(long)]
    push: bool,
    /// Shorthand for "--set=*.attest=type=sbom"
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Override target value (e.g., "targetpattern.key=value")
    #[arg(long, value_name = "TARGET.KEY=VALUE")]
    set: Vec<String>,
    /// Set a variable value (e.g., "name=value")
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// The targets and groups to build (default: "default")
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let source = read(&args.file)?;
    let given = given(&source, &args.var)?;
    let context = source.context(&given)?;
    let overrides =
        args.set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>>>()?;
    match args.list.as_deref() {
        None => {}
        Some("variables" | "type=variables") => return list(session, source.variables.keys()),
        Some("targets" | "type=targets") => {
            return list(session, source.groups.keys().chain(source.targets.keys()));
        }
        Some(other) => {
            return Err(Error::invalid(format!("invalid list type {other:?}"))
                .hint("there are targets and variables"));
        }
    }
    let plan = Resolver::new(&source, context, &overrides)?.plan(&args.targets)?;
    if args.print {
        session.print(&(shown(&plan) + "\n"))?;
        return Ok(0);
    }
    bake(session, args, &plan)
}

fn list<'a>(session: &Session, names: impl Iterator<Item = &'a String>) -> Result<i32> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    session.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(0)
}

/// Reads the files that are named, else those that are there.
fn read(files: &[String]) -> Result<hcl::Source> {
    let named: Vec<&str> = match files {
        [] => FILES.iter().copied().filter(|file| Path::new(file).exists()).collect(),
        files => files.iter().map(String::as_str).collect(),
    };
    if named.is_empty() {
        return Err(Error::new(Kind::NotFound, "couldn't find a bake definition")
            .hint(format!("there is none of {}", FILES.join(", "))));
    }
    let mut source = hcl::Source::default();
    let (projects, others): (Vec<&str>, Vec<&str>) =
        named.into_iter().partition(|file| compose::is_compose(file));
    if !projects.is_empty() {
        // They are one project, whatever stands between them.
        let projects: Vec<String> = projects.into_iter().map(str::to_owned).collect();
        source.add_literal(compose::read(&projects)?)?;
    }
    for file in others {
        let read = match file {
            "-" => std::io::read_to_string(std::io::stdin()),
            file => std::fs::read_to_string(file),
        };
        let text =
            read.map_err(|error| Error::caused(Kind::Invalid, format!("read {file}"), error))?;
        source.add(file, &text)?;
    }
    Ok(source)
}

/// The values of variables that the environment and the command line give.
fn given(source: &hcl::Source, vars: &[String]) -> Result<BTreeMap<String, String>> {
    let environment = source
        .variables
        .keys()
        .filter_map(|name| std::env::var(name).ok().map(|value| (name.clone(), value)));
    let mut given: BTreeMap<String, String> = environment.collect();
    for text in vars {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::invalid(format!("invalid variable {text:?}, expected name=value")));
        };
        if !source.variables.contains_key(name) {
            return Err(Error::new(Kind::NotFound, format!("there is no variable {name}")));
        }
        given.insert(name.to_owned(), value.to_owned());
    }
    Ok(given)
}

fn shown(plan: &Plan) -> String {
    let groups: serde_json::Map<String, Value> = plan
        .groups
        .iter()
        .map(|(name, targets)| (name.clone(), json!({"targets": targets})))
        .collect();
    let targets: serde_json::Map<String, Value> =
        plan.targets.iter().map(|(name, target)| (name.clone(), json!(target))).collect();
    let shown = json!({"group": groups, "target": targets});
    serde_json::to_string_pretty(&shown).unwrap_or_default()
}

fn bake(session: &Session, args: &Args, plan: &Plan) -> Result<i32> {
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let mut metadata = serde_json::Map::new();
    for (name, target) in &plan.targets {
        let command = <build::Args as clap::Args>::augment_args(clap::Command::new("build"));
        let words = words(args, target, &ids)?;
        let matches = grammar::docker(command).try_get_matches_from(&words);
        let read = matches.and_then(|matches| build::Args::from_arg_matches(&matches));
        let mut own = read.map_err(|error| {
            Error::caused(Kind::Invalid, format!("read target {name}"), error.to_string())
        })?;
        own.dockerfile_inline =
            target.get("dockerfile-inline").and_then(Value::as_str).map(str::to_owned);
        let made = build::build_all(session, &own).map_err(|error| {
            let (kind, hint) = (error.kind(), error.hint_text().map(str::to_owned));
            let error = Error::caused(kind, format!("target {name}"), error);
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
        let build::Made::Image(built) = made else { continue };
        ids.insert(name, built.id.to_string());
        metadata.insert(name.clone(), built.metadata(&target_tags(target)));
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_string_pretty(&metadata).unwrap_or_default();
        std::fs::write(path, text + "\n")
            .map_err(|error| Error::caused(Kind::Invalid, format!("write {path}"), error))?;
    }
    Ok(0)
}

fn target_tags(target: &Target) -> Vec<String> {
    let tags = target.get("tags").and_then(Value::as_array).into_iter().flatten();
    tags.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The option of `cais build` that is an attribute of a target.
fn option(key: &str) -> &str {
    match key {
        "args" => "build-arg",
        "contexts" => "build-context",
        "labels" => "label",
        "extra-hosts" => "add-host",
        "tags" => "tag",
        "annotations" => "annotation",
        "platforms" => "platform",
        "ulimits" => "ulimit",
        "entitlements" => "allow",
        key => key,
    }
}

/// Where a target's Dockerfile is: as with buildx, it is looked for in the context.
fn dockerfile(context: &str, file: &str) -> String {
    match Path::new(context).is_dir() && Path::new(file).is_relative() {
        true => Path::new(context).join(file).display().to_string(),
        false => file.to_owned(),
    }
}

/// The command line of `cais build` for a target.
fn words(args: &Args, target: &Target, ids: &BTreeMap<&str, String>) -> Result<Vec<String>> {
    grant::check(&args.allow, target)?;
    let mut words = vec!["build".to_owned(), format!("--progress={}", args.progress)];
    let mut flag = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    let context = target.get("context").and_then(Value::as_str).unwrap_or(".");
    for (key, value) in target {
        let single = match key.as_str() {
            "context" | "dockerfile-inline" => continue,
            "dockerfile" if target.contains_key("dockerfile-inline") => continue,
            "dockerfile" => {
                flag("file", &dockerfile(context, value.as_str().unwrap_or_default()));
                continue;
            }
            key => option(key),
        };
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let value = value.as_str().unwrap_or_default();
                    let value = match value.strip_prefix("target:") {
                        Some(other) if key == "contexts" => {
                            let id = ids.get(other).ok_or_else(|| {
                                Error::invalid(format!("target {other} is not built"))
                            })?;
                            format!("docker-image://{id}")
                        }
                        _ => value.to_owned(),
                    };
                    flag(single, &format!("{name}={value}"));
                }
            }
            Value::Array(items) if key == "platforms" => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                flag(single, &items.join(","));
            }
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).for_each(|item| flag(single, item));
            }
            Value::Bool(value) => flag(single, &value.to_string()),
            value => flag(single, value.as_str().unwrap_or_default()),
        }
    }
    for (name, is_set) in
        [("no-cache", args.no_cache), ("pull", args.pull), ("push", args.push), ("load", args.load)]
    {
        if is_set {
            flag(name, "true");
        }
    }
    for (name, value) in [("provenance", &args.provenance), ("sbom", &args.sbom)] {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    words.push(context.to_owned());
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, set: &[&str], names: &[&str]) -> Result<String> {
        let mut source = hcl::Source::default();
        source.add("docker-bake.hcl", text)?;
        let context = source.context(&BTreeMap::from([("FROM_ENV".into(), "true".into())]))?;
        let overrides = set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let plan = Resolver::new(&source, context, &overrides)?.plan(&names)?;
        let value: Value = serde_json::from_str(&shown(&plan)).unwrap();
        Ok(value.to_string())
    }

    #[test]
    fn targets_inherit_and_variables_are_known() {
        let text = r#"
variable "TAG" { default = "1.${MINOR}" }
variable "MINOR" { default = 2 }
variable "FROM_ENV" { default = false }
variable "NOTHING" { default = null }
function "image" {
  params = [name]
  result = "example.org/${name}:${TAG}"
}
group "default" { targets = ["app", "more"] }
group "more" { targets = ["matrix"] }
target "_common" {
  args = { A = "1", B = NOTHING }
  platforms = ["linux/amd64"]
}
target "app" {
  inherits = ["_common"]
  context = "src"
  args = { C = upper("x"), D = FROM_ENV ? "yes" : "no" }
  tags = [image("app"), "${lower("APP")}:latest", equal(TAG, "x") ? "x" : ""]
  cache-from = [{ type = "registry", ref = "r/c" }]
  no-cache = true
}
target "matrix" {
  name = "m-${v}"
  matrix = { v = ["a", "b"] }
  dockerfile-inline = <<EOT
FROM ${v}
EOT
  target = v
}
"#;
        let shown = plan(text, &["app.args.A=2", "*.tags=t", "m-*.tags+=u"], &[]).unwrap();
        let expected = concat!(
            r#"{"group":{"default":{"targets":["app","m-a","m-b"]}},"target":{"#,
            r#""app":{"context":"src","dockerfile":"Dockerfile","#,
            r#""args":{"A":"2","C":"X","D":"yes"},"tags":["t"],"#,
            r#""cache-from":["type=registry,ref=r/c"],"platforms":["linux/amd64"],"no-cache":true},"#,
            r#""m-a":{"context":".","dockerfile":"Dockerfile","dockerfile-inline":"FROM a\n","#,
            r#""tags":["t","u"],"target":"a"},"#,
            r#""m-b":{"context":".","dockerfile":"Dockerfile","dockerfile-inline":"FROM b\n","#,
            r#""tags":["t","u"],"target":"b"}}}"#,
        );
        assert_eq!(shown, expected);
        let shown = plan(text, &[], &["app"]).unwrap();
        assert!(shown.contains(r#""tags":["example.org/app:1.2","app:latest",""]"#), "{shown}");
        assert!(plan(text, &[], &["nothing"]).is_err());
        assert!(plan(text, &["nothing.tags=x"], &[]).is_err());
        assert!(plan(text, &["app.odd=x"], &[]).is_err());
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for text in [
            "target \"a\" { inherits = [\"a\"] }\ngroup \"default\" { targets = [\"a\"] }",
            "group \"default\" { targets = [\"default\"] }",
            "variable \"A\" { default = \"${B}\" }\nvariable \"B\" { default = \"${A}\" }\ntarget \"default\" {}",
            "target \"default\" { odd = 1 }",
            "target \"default\" { tags = \"x\" }",
            "target \"default\" { contexts = { a = \"target:default\" } }",
            "function \"f\" { params = [a]\n result = f(a) }\ntarget \"default\" { context = f(1) }",
            "target {}",
            "odd \"x\" {}",
            "target \"default\" {",
        ] {
            assert!(plan(text, &[], &[]).is_err(), "{text}");
        }
    }
}
