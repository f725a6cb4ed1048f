//! Looking for repositories: by Docker Hub's API, version 1, and in other registries' catalogues.

use serde::Deserialize;

use crate::Error;
use crate::client::{Client, read_body};
use crate::fault::Fault;
use crate::http::Ask;
use crate::session::{Scope, Session, To};
use crate::token::encode;

/// Where Docker Hub's API of version 1 is.
const HUB_INDEX: &str = "index.docker.io";
const ANSWER_SIZE_MAX: u64 = 4 << 20;
/// Repositories that a catalogue is asked for at once, and how often.
const PAGE: usize = 1000;
const PAGES_MAX: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FoundRepository {
    /// As it is pulled.
    pub name: String,
    /// What its owner says about it.
    #[serde(default)]
    pub description: String,
    /// How many like it.
    #[serde(default)]
    pub star_count: u64,
    /// Whether Docker looks after it.
    #[serde(default)]
    pub is_official: bool,
    /// Whether it was built by Docker Hub.
    #[serde(default)]
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    results: Vec<FoundRepository>,
}

#[derive(Deserialize)]
struct Catalogue {
    #[serde(default)]
    repositories: Vec<String>,
}

/// Looks for repositories whose names match `term`, at most `limit`: in Docker Hub, or where
/// `term` begins with a registry, there.
///
/// # Errors
/// [`Error::Unsupported`] where a registry offers no way to look; [`Error::Unreachable`].
pub fn search(client: &Client, term: &str, limit: usize) -> Result<Vec<FoundRepository>, Error> {
    let (registry, term) = match term.split_once('/') {
        Some((host, rest)) if host == "docker.io" || host == HUB_INDEX => (HUB_INDEX, rest),
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => (HUB_INDEX, term),
    };
    // Official images are found without the name of their owner, as Docker does.
    let term = match registry {
        HUB_INDEX => term.strip_prefix("library/").unwrap_or(term),
        _ => term,
    };
    let sessions = client.sessions(registry)?;
    let session = sessions.last().expect("every registry is a server");
    let query = encode(&[("q", term.to_owned()), ("n", limit.to_string())]);
    let path = format!("v1/search?{query}");
    let answer = session.ask(client.auth(), Scope::Nothing, To::Root(&path), &Ask::default());
    match answer.and_then(|answer| read_body(answer.response, ANSWER_SIZE_MAX)) {
        Ok(body) => {
            let found: Found = serde_json::from_slice(&body)
                .map_err(|error| failed(session, &Fault::Wrong(format!("its answer: {error}"))))?;
            let results = found.results.into_iter().take(limit);
            let full = |mut one: FoundRepository| {
                if registry != HUB_INDEX && !one.name.starts_with(&format!("{registry}/")) {
                    one.name = format!("{registry}/{}", one.name);
                }
                one
            };
            Ok(results.map(full).collect())
        }
        Err(Fault::Missing(_) | Fault::Refused { .. } | Fault::Wrong(_) | Fault::Denied(_))
            if registry != HUB_INDEX =>
        {
            catalogue(client, session, (registry, term), limit)
        }
        Err(fault) => Err(failed(session, &fault)),
    }
}

fn failed(session: &Session, fault: &Fault) -> Error {
    let (host, why) = (session.host().to_owned(), fault.text());
    Error::Unreachable { doing: crate::Doing::Ask, host, why }
}

/// Looks through all names that a registry lists (distribution, "Listing Repositories").
fn catalogue(
    client: &Client,
    session: &Session,
    (registry, term): (&str, &str),
    limit: usize,
) -> Result<Vec<FoundRepository>, Error> {
    let mut found = Vec::new();
    let mut last: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let after = last.iter().map(|last| ("last", last.clone()));
        let query: Vec<_> = [("n", PAGE.to_string())].into_iter().chain(after).collect();
        let path = format!("_catalog?{}", encode(&query));
        let answer = session.ask(client.auth(), Scope::Catalog, To::Api(&path), &Ask::default());
        let body = answer.and_then(|answer| read_body(answer.response, ANSWER_SIZE_MAX));
        let body = body.map_err(|fault| match fault {
            Fault::Missing(why) | Fault::Denied(why) | Fault::Refused { why, .. } => {
                let why = format!("can neither be searched nor lists its repositories: {why}");
                Error::Unsupported { host: registry.to_owned(), why }
            }
            other => failed(session, &other),
        })?;
        let page: Catalogue = serde_json::from_slice(&body)
            .map_err(|error| failed(session, &Fault::Wrong(format!("its answer: {error}"))))?;
        let next = page.repositories.last().cloned();
        for name in page.repositories.iter().filter(|name| name.contains(term)) {
            if found.len() == limit {
                return Ok(found);
            }
            found.push(FoundRepository {
                name: format!("{registry}/{name}"),
                description: String::new(),
                star_count: 0,
                is_official: false,
                is_automated: false,
            });
        }
        if page.repositories.len() < PAGE || next == last {
            break;
        }
        last = next;
    }
    Ok(found)
}
