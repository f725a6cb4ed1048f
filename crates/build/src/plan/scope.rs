//! The scope outside of stages: ARG before the first FROM, and what every build knows of platforms.

use std::collections::BTreeMap;

use oci::Platform;

use crate::check::Findings;
use crate::check::rule::INVALID_DEFAULT_ARG_IN_FROM;
use crate::error::Result;
use crate::language::expand::{Lexer, Variables};
use crate::language::instruction::{Command, Dockerfile};
use crate::plan::Request;

/// The variables of FROM.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    values: BTreeMap<String, String>,
    /// Names that are declared, with a value or without.
    pub(super) declared: Vec<String>,
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

impl Scope {
    pub(super) fn new(file: &Dockerfile, request: &Request) -> Result<Self> {
        Self::with_args(file, request, &request.args)
    }

    fn with_args(
        file: &Dockerfile,
        request: &Request,
        args: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut scope = Self::default();
        for (name, value) in platform_args(file, request) {
            let value = request.args.get(name).cloned().unwrap_or(value);
            scope.values.insert(name.to_owned(), value);
        }
        for instruction in &file.global_args {
            let Command::Arg(definitions) = &instruction.command else { continue };
            for definition in definitions {
                let value = match (args.get(&definition.name), &definition.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, None) => None,
                    (None, Some(default)) => {
                        let lexer = Lexer::new(instruction.escape);
                        let expanded = lexer.expand(default, &scope);
                        Some(expanded.map_err(|error| error.or_at(definition.span))?.text)
                    }
                };
                if let Some(value) = value {
                    scope.values.insert(definition.name.clone(), value);
                }
                scope.declared.push(definition.name.clone());
            }
        }
        Ok(scope)
    }

    /// All names that FROM may use.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str).chain(self.declared.iter().map(String::as_str))
    }
}

/// What every build knows: docs/reference.md, "Automatic platform ARGs in the global scope".
fn platform_args(file: &Dockerfile, request: &Request) -> [(&'static str, String); 11] {
    let last = file.stages.last().map(|stage| stage.name.clone()).unwrap_or_default();
    let target = request.target.clone().unwrap_or(last);
    let target = if target.is_empty() { "default".to_owned() } else { target };
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let (build, wanted) = (&request.build_platform, &request.platform);
    [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", wanted.to_string()),
        ("TARGETOS", wanted.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", wanted.architecture.clone()),
        ("TARGETVARIANT", variant(wanted)),
        ("TARGETSTAGE", target),
    ]
}

/// Whether every FROM names an image when nothing is given on the command line.
pub(super) fn check_defaults(file: &Dockerfile, request: &Request, findings: &mut Findings) {
    let Ok(scope) = Scope::with_args(file, request, &BTreeMap::new()) else { return };
    for stage in &file.stages {
        let lexer = Lexer::new(file.directives.escape);
        let Ok(base) = lexer.expand(&stage.base, &scope) else { continue };
        let is_stage = file.stages.iter().any(|other| other.name == base.text);
        let is_valid = base.text == "scratch"
            || is_stage
            || base.text.to_lowercase().parse::<oci::Reference>().is_ok();
        if base.text.is_empty() || !is_valid {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            let rule = &INVALID_DEFAULT_ARG_IN_FROM;
            findings.add(stage.from.check.as_ref(), rule, stage.from.span, message);
        }
    }
}
