//! `GET /containers/{id}/top`

use serde_json::json;

use super::call::{Answer, Call, json};

pub(super) fn top(call: &mut Call<'_, '_>) -> Answer {
    let options: Vec<String> = call.text("ps_args").split_whitespace().map(str::to_owned).collect();
    let mut rows = crate::top::top(call.engine(), &call.container()?, &options)?.into_iter();
    let titles = rows.next().unwrap_or_default();
    json(200, &json!({ "Titles": titles, "Processes": rows.collect::<Vec<_>>() }))
}
