//! `cais compose events`

use engine::{EventQuery, Result, Subject};
use jiff::Timestamp;
use serde_json::json;

use super::scope::Scope;
use crate::command::events::nanoseconds;
use crate::session::Session;

/// What `events` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Output events as a stream of json objects
    #[arg(long)]
    json: bool,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let now = Timestamp::now();
    let time = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| nanoseconds(name, text, now)).transpose()
    };
    let query =
        EventQuery { since_ns: time("since", &args.since)?, until_ns: time("until", &args.until)? };
    for event in scope.engine.events(query)? {
        let event = event?;
        let label = |key: &str| event.attributes.get(key).map_or("", String::as_str);
        let service = label(::compose::create::SERVICE);
        let is_ours = event.subject == Subject::Container
            && label(::compose::create::PROJECT) == scope.name
            && (args.services.is_empty() || args.services.iter().any(|name| name == service));
        if !is_ours {
            continue;
        }
        let attributes: serde_json::Map<String, serde_json::Value> = event
            .attributes
            .iter()
            .filter(|(key, _)| !key.starts_with("com.docker.compose."))
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let when = Timestamp::from_nanosecond(event.time_ns.into()).unwrap_or(now);
        let line = match args.json {
            true => json!({
                "time": engine::clock::format(when),
                "type": "container",
                "service": service,
                "id": event.id,
                "action": event.action,
                "attributes": attributes,
            })
            .to_string(),
            false => {
                let when = when.strftime("%Y-%m-%d %H:%M:%S.%6f");
                let pair = |(key, value): (&String, &serde_json::Value)| {
                    format!("{key}={}", value.as_str().unwrap_or_default())
                };
                let pairs: Vec<String> = attributes.iter().map(pair).collect();
                format!("{when} container {} {} ({})", event.action, event.id, pairs.join(", "))
            }
        };
        session.say(crate::output::printable(&line))?;
    }
    Ok(0)
}
