//! One request, as handlers see it.

use std::io::{self, Write};

use engine::Engine;
use httpd::{Chunks, Exchange, Reply};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Api;
use super::failure::Failure;
use crate::filter::Filters;

/// Longest document that is sent along.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// What handlers answer: `None` if they have already.
pub(super) type Answer = Result<Option<Reply>, Failure>;

/// A request to an engine.
#[derive(Debug)]
pub(super) struct Call<'c, 'x> {
    pub(super) api: &'c Api,
    pub(super) exchange: &'c mut Exchange<'x>,
    /// The second part of the version that is spoken.
    pub(super) version: u32,
    /// What stands in the path where the route has it open.
    pub(super) names: Vec<String>,
}

impl<'c> Call<'c, '_> {
    pub(super) fn engine(&self) -> &'c Engine {
        &self.api.engine
    }

    /// The container, network, … that the path is about.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The container that the path is about.
    pub(super) fn container(&self) -> Result<engine::Container, Failure> {
        Ok(self.engine().find(self.name())?)
    }

    /// A parameter; empty where it is not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.exchange.head().parameter(name).unwrap_or_default()
    }

    /// Whether a parameter is given, and is not one of Docker's words for no.
    pub(super) fn flag(&self, name: &str) -> bool {
        let text = self.text(name).trim().to_lowercase();
        !matches!(text.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number, where it is given.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Failure::bad(format!("invalid value \"{text}\" for {name}"))),
        }
    }

    /// The filters, of these keys.
    pub(super) fn filters(&self, known: &[&str]) -> Result<Filters, Failure> {
        Ok(Filters::of_json(self.text("filters"), known)?)
    }

    /// The document that was sent along; null where there is none.
    pub(super) fn document(&mut self) -> Result<Value, Failure> {
        let Some(bytes) = self.exchange.body().whole(DOCUMENT_BYTES_MAX)? else {
            return Err(Failure::new(413, "the request's body is too long"));
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        let document = serde_json::from_slice(&bytes);
        document.map_err(|error| Failure::bad(format!("invalid JSON: {error}")))
    }

    /// The document that was sent along, as what it is to be.
    pub(super) fn input<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        let document = without_nulls(self.document()?);
        if document.is_null() {
            return Ok(T::default());
        }
        let input = serde_json::from_value(document);
        input.map_err(|error| Failure::bad(format!("invalid JSON: {error}")))
    }

    /// Answers with documents that come bit by bit.
    pub(super) fn stream(&mut self, media_type: &str) -> io::Result<Chunks<'_>> {
        let reply = self.api.signed(Reply::new(200).header("Content-Type", media_type));
        self.exchange.chunks(&reply)
    }
}

/// Go's clients write null for what is empty.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// A document.
pub(super) fn json(status: u16, value: &Value) -> Answer {
    let body = value.to_string() + "\n";
    Ok(Some(Reply::new(status).document("application/json", body.into_bytes())))
}

/// Nothing to say.
pub(super) fn done() -> Answer {
    Ok(Some(Reply::new(204)))
}

/// One document of several, at once.
pub(super) fn write_json(out: &mut impl Write, value: &Value) -> io::Result<()> {
    out.write_all(format!("{value}\r\n").as_bytes())
}
