//! What a frontend is asked beside building: `docker build --check`.

use engine::JobFinding;
use serde_json::{Value, json};

use super::attribute::job;
use super::input::Input;
use super::solve::{Attributes, Builder, Solve, credentials, source_info};
use super::{Outcome, failed, unsupported};

/// Results by their names.
pub(super) type Metadata = Vec<(&'static str, Vec<u8>)>;

impl Builder<'_> {
    /// Answers what is asked with `requestid`.
    pub(super) fn subrequest(&self, solve: &Solve, attributes: &Attributes) -> Outcome<Metadata> {
        let what = attributes.get("requestid").map_or("", String::as_str);
        if what != "frontend.lint" {
            let message = format!("{what} is not supported: there is frontend.lint, for --check");
            return Err(unsupported(message));
        }
        let mut attributes = attributes.clone();
        attributes.remove("requestid");
        let mut job = job(solve, &attributes)?;
        let session = self.api.sessions.find(&solve.session)?;
        let input = Input::receive_dockerfile(self, &attributes, &session, &mut job)?;
        let ask = move |registry: &str| credentials(&session, registry);
        let found = self.api.engine.check_job(&job, ask).map_err(|error| failed(&error))?;
        let warnings: Vec<Value> = found.iter().map(warning).collect();
        let info = source_info(&input.dockerfile_name, &job.dockerfile);
        let results = json!({ "warnings": warnings, "sources": [info] });
        let status = u8::from(!found.is_empty()).to_string();
        Ok(vec![
            ("result.json", results.to_string().into_bytes()),
            ("result.txt", found.iter().map(text).collect::<String>().into_bytes()),
            ("result.statuscode", status.into_bytes()),
            ("version", b"1.0.0".to_vec()),
        ])
    }
}

fn warning(finding: &JobFinding) -> Value {
    let (first, last) = finding.lines;
    let range = json!({ "start": { "line": first }, "end": { "line": last } });
    json!({
        "ruleName": finding.rule,
        "description": finding.description,
        "url": finding.url,
        "detail": finding.message,
        "location": { "ranges": [range] },
    })
}

fn text(finding: &JobFinding) -> String {
    let JobFinding { rule, url, message, .. } = finding;
    let url = if url.is_empty() { String::new() } else { format!(" - {url}") };
    format!("\nWARNING: {rule}{url}\n{message}\n")
}
