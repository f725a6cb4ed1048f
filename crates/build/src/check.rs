//! What is legal and yet probably not meant: BuildKit's checks, by their names and in their words,
//! and our own.

mod file;
pub(crate) mod own;
pub(crate) mod rule;

use crate::language::check::CheckOptions;
use crate::source::Span;

pub(crate) use file::check_file;
pub use rule::Rule;

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub rule: &'static Rule,
    /// What it found.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    options: CheckOptions,
    found: Vec<Finding>,
}

impl Findings {
    pub(crate) fn new(options: &CheckOptions) -> Self {
        Self { options: options.clone(), found: Vec::new() }
    }

    /// Adds a finding, unless its rule is left out here.
    pub(crate) fn add(
        &mut self,
        own: Option<&CheckOptions>,
        rule: &'static Rule,
        span: Span,
        message: String,
    ) {
        let skipped = match own {
            Some(own) => self.options.with(own).skips(rule.name, rule.is_experimental),
            None => self.options.skips(rule.name, rule.is_experimental),
        };
        let finding = Finding { rule, message, span };
        if !skipped && !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    /// All, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|finding| finding.span.start);
        self.found
    }
}
