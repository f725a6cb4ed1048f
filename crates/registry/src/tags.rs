//! The tags of a repository (distribution-spec, "Listing Tags").

use oci::Reference;
use serde::Deserialize;

use crate::client::{Client, read_body};
use crate::fault::Fault;
use crate::http::Ask;
use crate::session::Session;
use crate::token::encode;
use crate::{Doing, Error};

const ANSWER_SIZE_MAX: u64 = 4 << 20;
/// Tags that are asked for at once, and how often.
const PAGE: usize = 1000;
const PAGES_MAX: usize = 100;

#[derive(Deserialize)]
struct Page {
    // Some registries say `null` where there is none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags of the repository of `reference`, at most a hundred thousand: of the first of its mirrors
/// that has it, else of the registry itself.
///
/// # Errors
/// [`Error::NotFound`] if none has it; [`Error::Unreachable`].
pub fn tags(client: &Client, reference: &Reference) -> Result<Vec<String>, Error> {
    let sessions = client.sessions(reference.registry())?;
    let mut last = None;
    for session in sessions.iter() {
        match list(client, session, reference) {
            Ok(tags) => return Ok(tags),
            Err(fault) => last = Some((session.host().to_owned(), fault)),
        }
    }
    let (host, fault) = last.expect("every registry is a server");
    Err(match fault {
        Fault::Missing(detail) => Error::NotFound { reference: reference.name(), detail },
        fault => Error::Unreachable { doing: Doing::Ask, host, why: fault.text() },
    })
}

fn list(client: &Client, session: &Session, reference: &Reference) -> Result<Vec<String>, Fault> {
    let mut all: Vec<String> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = all.last().map(|last| ("last", last.clone()));
        let query: Vec<_> = [("n", PAGE.to_string())].into_iter().chain(after).collect();
        let path = format!("tags/list?{}", encode(&query));
        let answer = session.get(client.auth(), reference.repository(), &path, &Ask::default())?;
        let body = read_body(answer.response, ANSWER_SIZE_MAX)?;
        let page: Page = serde_json::from_slice(&body)
            .map_err(|error| Fault::Wrong(format!("its answer: {error}")))?;
        let page = page.tags.unwrap_or_default();
        if page.len() > PAGE {
            let why = format!("it lists {} tags where {PAGE} were asked for", page.len());
            return Err(Fault::Wrong(why));
        }
        let is_last = page.len() < PAGE || page.last() == all.last();
        all.extend(page);
        if is_last {
            break;
        }
    }
    Ok(all)
}
