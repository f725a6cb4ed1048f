//! Objects in pages.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Cluster;
use crate::failure::Failure;
use crate::form::{self, Shown};
use crate::log::{Entry, Range, Revision};
use crate::request::Request;
use crate::select::Select;
use crate::target::Target;
use crate::watch::{Start, Watch, Wish};

/// The items of a list, none of what is no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Where the next page begins: the revision that all pages are of, and the last key.
struct Place {
    revision: Revision,
    after: String,
}

impl Place {
    fn read(text: &str) -> Result<Self, Failure> {
        let wrong = || Failure::bad_request("continue key is not valid");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let place: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        match (place["rv"].as_u64(), place["start"].as_str()) {
            (Some(revision), Some(after)) => Ok(Self { revision, after: after.to_owned() }),
            _ => Err(wrong()),
        }
    }

    fn to_text(&self) -> String {
        let place = json!({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.after});
        BASE64_URL_SAFE_NO_PAD.encode(place.to_string())
    }
}

impl Cluster {
    /// A page of objects.
    pub(crate) fn list(
        &self,
        request: &Request,
        target: &Target,
        shown: Shown,
    ) -> Result<Value, Failure> {
        let select = Select::of(request, &target.resource)?;
        let limit: usize = match request.parameter("limit") {
            "" => 0,
            text => text.parse().map_err(|_| Failure::bad_request("invalid limit"))?,
        };
        let place = match request.parameter("continue") {
            "" => None,
            text => Some(Place::read(text)?),
        };
        let prefix = target.prefix();
        let at = match &place {
            Some(place) => Some(place.revision),
            None => exact_revision(request)?,
        };
        // Whoever reads on must stay below the prefix, whatever the place says.
        let after = place.as_ref().map(|place| place.after.as_str());
        let after = after.filter(|after| after.starts_with(&prefix));
        let has_filter = !select.is_empty() || !target.name.is_empty();
        let wanted = if has_filter { 0 } else { limit };
        let page = self.log.range(Range { prefix: &prefix, after, limit: wanted, at });
        let page = page.map_err(|error| match (error, &place) {
            (crate::log::LogError::Compacted(_), Some(_)) => Failure::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            ),
            (error, _) => error.into(),
        })?;
        let (mut found, mut last, mut remaining) = (Vec::new(), None, page.remaining);
        let read = |entry: &Entry| form::read(&target.resource, entry, entry.modified);
        let mut objects: Vec<Value> = page.entries.iter().map(read).collect();
        self.convert(&target.resource, &mut objects)?;
        for (number, (entry, object)) in page.entries.iter().zip(objects).enumerate() {
            let is_named = target.name.is_empty() || object["metadata"]["name"] == *target.name;
            if is_named && select.matches(&object) {
                found.push(object);
                last = Some(&entry.key);
            }
            if limit != 0 && found.len() == limit {
                remaining = remaining.max(page.entries.len() - number - 1);
                break;
            }
        }
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let (true, Some(last)) = (remaining > 0 && limit != 0, last) {
            let next = Place { revision: page.revision, after: last.to_string() };
            metadata["continue"] = next.to_text().into();
            if !has_filter {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        Ok(shown.list(&target.resource, found, &metadata))
    }

    /// What becomes of objects from now on, or from a revision.
    pub(crate) fn watch(
        &self,
        request: &Request,
        target: &Target,
        shown: Shown,
    ) -> Result<Watch, Failure> {
        let select = Select::of(request, &target.resource)?;
        let timeout = match request.parameter("timeoutSeconds") {
            "" | "0" => None,
            text => {
                let seconds =
                    text.parse().map_err(|_| Failure::bad_request("invalid timeoutSeconds"))?;
                Some(Duration::from_secs(seconds))
            }
        };
        let has_mark = request.is_set("sendInitialEvents");
        let start = match request.parameter("resourceVersion") {
            _ if has_mark => Start::WithAll { has_mark },
            "" | "0" => Start::WithAll { has_mark: false },
            text => Start::After(revision(text)?),
        };
        let has_bookmarks = request.is_set("allowWatchBookmarks");
        let wish = Wish { start, has_bookmarks, timeout };
        Watch::new(self, target, select, shown, wish)
    }
}

fn revision(text: &str) -> Result<Revision, Failure> {
    let wrong =
        || Failure::bad_request(format!("Invalid value: {text:?}: invalid resource version"));
    text.parse().map_err(|_| wrong())
}

/// The revision that a list must be of; `None` for any that is not older than what the client knows.
fn exact_revision(request: &Request) -> Result<Option<Revision>, Failure> {
    let known = request.parameter("resourceVersion");
    match (request.parameter("resourceVersionMatch"), known) {
        ("Exact", "" | "0") => Err(Failure::bad_request(
            "resourceVersionMatch \"Exact\" is forbidden for a resourceVersion that is unset or 0",
        )),
        ("Exact", known) => revision(known).map(Some),
        ("" | "NotOlderThan", "" | "0") => Ok(None),
        // There is one state, and it is the latest.
        ("" | "NotOlderThan", known) => revision(known).map(|_| None),
        (other, _) => Err(Failure::bad_request(format!(
            "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \
             \"NotOlderThan\""
        ))),
    }
}
