//! `GET /events`

use std::os::fd::AsFd as _;

use engine::EventQuery;

use super::call::{Answer, Call, write_json};
use super::failure::Failure;
use crate::event::{EVENT_FILTERS, event, event_matches};
use crate::time::parse_timestamp;

pub(super) fn events(call: &mut Call<'_, '_>) -> Answer {
    let filters = call.filters(EVENT_FILTERS)?;
    let query =
        EventQuery { since_ns: nanoseconds(call, "since")?, until_ns: nanoseconds(call, "until")? };
    // Before the client hears of it: what it does next is to be among them.
    let events = call.engine().events(query)?;
    let Ok(mut out) = call.stream("application/json") else { return Ok(None) };
    let Ok(reader) = out.as_fd().try_clone_to_owned() else { return Ok(None) };
    for found in events.for_reader(reader) {
        let Ok(found) = found else { return Ok(None) };
        if event_matches(&found, &filters) && write_json(&mut out, &event(&found)).is_err() {
            return Ok(None);
        }
    }
    // A client that has gone does not want to know.
    let _ = out.end();
    Ok(None)
}

fn nanoseconds(call: &Call<'_, '_>, name: &str) -> Result<Option<i64>, Failure> {
    let text = call.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let time = parse_timestamp(text, jiff::Timestamp::now(), jiff::tz::Offset::UTC);
    let time =
        time.map_err(|error| Failure::bad(format!("invalid value for \"{name}\": {error}")))?;
    Ok(Some(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
}
