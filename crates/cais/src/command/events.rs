//! `cais events`

use std::fmt::Write as _;

use engine::{Error, EventQuery, Kind, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::output;
use crate::session::Session;
use crate::template::Template;
use docker::Filters;

/// What `events` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
    /// Format output using a custom template: 'json', 'TEMPLATE'
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, docker::EVENT_FILTERS)?;
    let format = Format::parse(args.format.as_deref())?;
    let now = Timestamp::now();
    let time = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| nanoseconds(name, text, now)).transpose()
    };
    let query =
        EventQuery { since_ns: time("since", &args.since)?, until_ns: time("until", &args.until)? };
    for event in session.engine()?.events(query)? {
        let event = event?;
        if docker::event_matches(&event, &filters) {
            session.print(&format.line(&docker::event(&event))?)?;
        }
    }
    Ok(0)
}

pub(super) fn nanoseconds(name: &str, text: &str, now: Timestamp) -> Result<i64> {
    let zone = TimeZone::system().to_offset(now);
    let time = output::parse_timestamp(text, now, zone).map_err(|error| {
        Error::caused(Kind::Invalid, format!("invalid value for \"{name}\": {text}"), error)
            .hint("a time as in 2026-01-02T03:04:05Z, seconds since 1970, or an age as in 42m")
    })?;
    Ok(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX))
}

/// How an event is shown.
pub(super) enum Format {
    Plain,
    Json,
    Template(Template),
}

impl Format {
    pub(super) fn parse(format: Option<&str>) -> Result<Self> {
        match format.map(str::trim) {
            None | Some("") => Ok(Self::Plain),
            Some("json" | "{{json .}}" | "{{ json . }}") => Ok(Self::Json),
            Some(text) => Template::parse(text).map(Self::Template).map_err(|error| unfit(&error)),
        }
    }

    /// Of an event as the API tells it.
    pub(super) fn line(&self, event: &Value) -> Result<String> {
        let mut line = match self {
            Self::Plain => plain(event),
            Self::Json => event.to_string(),
            Self::Template(template) => {
                let mut text = String::new();
                template.execute(&fields(event), &mut text).map_err(|error| unfit(&error))?;
                text
            }
        };
        line = output::printable(&line).into_owned();
        line.push('\n');
        Ok(line)
    }
}

fn unfit(error: &crate::template::Error) -> Error {
    Error::invalid(error.to_string())
        .hint("as in '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'")
}

/// The fields by the names that Docker's templates know.
fn fields(event: &Value) -> Value {
    let or_empty = |key: &str| event.get(key).cloned().unwrap_or_else(|| "".into());
    json!({
        "Status": or_empty("status"),
        "ID": or_empty("id"),
        "From": or_empty("from"),
        "Type": or_empty("Type"),
        "Action": or_empty("Action"),
        "Actor": or_empty("Actor"),
        "Scope": or_empty("scope"),
        "Time": or_empty("time"),
        "TimeNano": or_empty("timeNano"),
    })
}

/// `TIME TYPE ACTION ID (key=value, …)`
fn plain(event: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nanoseconds = event["timeNano"].as_i64().unwrap_or(0);
    let time = Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default();
    let offset = TimeZone::system().to_offset(time);
    let shown = match offset.seconds() {
        0 => format!("{time:.9}"),
        _ => format!("{:.9}", time.display_with_offset(offset)),
    };
    let actor = &event["Actor"];
    let mut line = format!("{shown} {} ", word(&event["Type"]));
    // Writing to a string cannot fail.
    let _ = write!(line, "{} {}", word(&event["Action"]), word(&actor["ID"]));
    let attributes = actor["Attributes"].as_object().into_iter().flatten();
    let attributes: Vec<String> =
        attributes.map(|(key, value)| format!("{key}={}", word(value))).collect();
    if !attributes.is_empty() {
        let _ = write!(line, " ({})", attributes.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine::{Event, Subject};

    use super::*;

    fn event() -> Event {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        Event {
            time_ns: 1_000_000_000_000_000_001,
            subject: Subject::Container,
            action: "exec_create: sh -c x".into(),
            id: "abc".into(),
            attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        }
    }

    #[test]
    fn an_event_in_every_format() {
        let told = docker::event(&event());
        let shown = |format| Format::parse(format).unwrap().line(&told).unwrap();
        assert_eq!(
            shown(Some("{{.Type}} {{.ID}} {{.Status}} {{.Actor.Attributes.name}} {{.TimeNano}}")),
            "container abc exec_create: sh -c x web 1000000000000000001\n"
        );
        let json = "{\"status\":\"exec_create: sh -c x\",\"id\":\"abc\",\"from\":\"busybox:1\",\
                    \"Type\":\"container\",\"Action\":\"exec_create: sh -c x\",\"Actor\":{\"ID\":\"abc\",\
                    \"Attributes\":{\"image\":\"busybox:1\",\"name\":\"web\",\"tier\":\"front\"}},\
                    \"scope\":\"local\",\"time\":1000000000,\"timeNano\":1000000000000000001}\n";
        assert_eq!(shown(Some("json")), json);
        assert_eq!(shown(Some("{{json .}}")), json);
        let plain = shown(None);
        assert!(plain.starts_with("2001-09-"), "{plain}");
        let rest = " container exec_create: sh -c x abc (image=busybox:1, name=web, tier=front)\n";
        assert!(plain.ends_with(rest), "{plain}");
        let bare = Event { attributes: BTreeMap::new(), ..event() };
        let bare = docker::event(&bare);
        assert!(Format::Plain.line(&bare).unwrap().ends_with("sh -c x abc\n"));
    }
}
