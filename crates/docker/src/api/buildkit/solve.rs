//! What a client asks for, and having it done.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use engine::{BuildJob, BuildNews};
use grpc::proto::{Message, fields};
use grpc::{Code, Connection, Status};
use serde_json::{Value, json};

use super::agent::Agents;
use super::attribute::job;
use super::export::Exporter;
use super::input::Input;
use super::news::News;
use super::policy;
use super::{Outcome, failed, invalid, unsupported};
use crate::api::Api;

/// Attributes by their names.
pub(super) type Attributes = BTreeMap<String, String>;

/// What `Control.Solve` or `LLBBridge.Solve` asks for.
#[derive(Debug, Default)]
pub(super) struct Solve {
    /// The build's name.
    pub(super) name: String,
    /// The name of the client's session.
    pub(super) session: String,
    /// Who makes a build of the attributes.
    pub(super) frontend: String,
    pub(super) attributes: Attributes,
    pub(super) exporters: Vec<Exporter>,
    /// Caches that are brought out, and those that are used: kind and attributes.
    pub(super) cache_to: Vec<(String, Attributes)>,
    pub(super) cache_from: Vec<(String, Attributes)>,
    /// Whether the client is to be asked what a build may be made from.
    pub(super) has_policy: bool,
    /// What is allowed.
    pub(super) entitlements: Vec<String>,
}

impl Solve {
    /// Reads `moby.buildkit.v1.SolveRequest`.
    pub(super) fn read(message: &[u8]) -> Outcome<Self> {
        let (mut solve, mut old) = (Self::default(), Exporter::default());
        for field in fields(message) {
            match field? {
                (1, value) => solve.name = value.text(),
                (2, _) => return Err(no_llb()),
                (3, value) => old.kind = value.text(),
                (4, value) => old.attributes.extend([value.entry()?]),
                (5, value) => solve.session = value.text(),
                (6, value) => solve.frontend = value.text(),
                (7, value) => solve.attributes.extend([value.entry()?]),
                (8, value) => solve.read_caches(value.bytes())?,
                (9, value) => solve.entitlements.push(value.text()),
                (10, _) => return Err(no_llb()),
                (12, _) => return Err(unsupported("source policies in files are not supported")),
                (15, value) => solve.has_policy = !value.bytes().is_empty(),
                (13, value) => {
                    let (kind, attributes) = kind_and_attributes(value.bytes())?;
                    solve.exporters.push(Exporter { kind, attributes });
                }
                (14, value) if value.number() != 0 => {
                    return Err(unsupported("exporters of sessions are not supported"));
                }
                (17, value) if value.number() != 0 => {
                    return Err(unsupported("a proxy for the network of builds is not supported"));
                }
                _ => {}
            }
        }
        if solve.name.is_empty() {
            return Err(invalid("the build has no name"));
        }
        if solve.exporters.is_empty() && !old.kind.is_empty() {
            solve.exporters.push(old);
        }
        Ok(solve)
    }

    /// Reads `CacheOptions`.
    fn read_caches(&mut self, message: &[u8]) -> Outcome {
        for field in fields(message) {
            match field? {
                (4, value) => self.cache_to.push(kind_and_attributes(value.bytes())?),
                (5, value) => self.cache_from.push(kind_and_attributes(value.bytes())?),
                (_, value) if value.bytes().is_empty() => {}
                _ => return Err(unsupported("caches as before BuildKit 0.4 are not supported")),
            }
        }
        Ok(())
    }

    /// Reads `moby.buildkit.v1.frontend.SolveRequest`.
    pub(super) fn read_of_frontend(message: &[u8]) -> Outcome<Self> {
        let mut solve = Self::default();
        for field in fields(message) {
            match field? {
                (1, value) if !value.bytes().is_empty() => return Err(no_llb()),
                (2, value) => solve.frontend = value.text(),
                (3, value) => solve.attributes.extend([value.entry()?]),
                (12, value) => solve.cache_from.push(kind_and_attributes(value.bytes())?),
                (13, _) => return Err(no_llb()),
                (15, _) => return Err(unsupported("source policies are not supported")),
                _ => {}
            }
        }
        Ok(solve)
    }
}

/// Fields 1 and 2 of exporters and caches.
fn kind_and_attributes(message: &[u8]) -> Outcome<(String, Attributes)> {
    let (mut kind, mut attributes) = (String::new(), Attributes::new());
    for field in fields(message) {
        match field? {
            (1, value) => kind = value.text(),
            (2, value) => attributes.extend([value.entry()?]),
            _ => {}
        }
    }
    Ok((kind, attributes))
}

fn no_llb() -> Status {
    unsupported(
        "LLB is not supported: this engine builds Dockerfiles itself, from directories, archives, \
         git repositories and images",
    )
}

/// Changes what is told of a build.
pub(super) type Tell<'a> = dyn Fn(&mut dyn FnMut(&mut News)) + 'a;

/// Who builds for a client.
pub(super) struct Builder<'a> {
    pub(super) api: &'a Api,
    /// Tells how it goes.
    pub(super) tell: &'a Tell<'a>,
    /// Whether nobody wants to know any more.
    pub(super) is_given_up: &'a dyn Fn() -> bool,
}

impl Builder<'_> {
    /// Builds what attributes say: the image's id, or nothing where nothing is to be built.
    pub(super) fn build(
        &self,
        solve: &Solve,
        frontend: &str,
        attributes: &Attributes,
    ) -> Outcome<Option<String>> {
        match frontend {
            "dockerfile.v0" => {}
            // buildx only wants to know what there is.
            "" => return Ok(None),
            other => {
                let message =
                    format!("the frontend {other} is not supported: there is dockerfile.v0");
                return Err(unsupported(message));
            }
        }
        let mut job = job(solve, attributes)?;
        self.api.relieve().map_err(|error| failed(&error))?;
        let session = self.api.sessions.find(&solve.session)?;
        let input = Input::receive(self, attributes, &session, &mut job)?;
        if solve.has_policy {
            policy::check(&session, &job.dockerfile)?;
        }
        let agents = Agents::open(self.api, &session, &job)?;
        job.ssh = agents.sockets();
        let image = self.build_job(&input, &session, job)?;
        drop(agents);
        Ok(Some(image))
    }

    fn build_job(&self, input: &Input, session: &Connection, job: BuildJob) -> Outcome<String> {
        let mut failure = None;
        let text = job.dockerfile.clone();
        let ask = |registry: &str| credentials(session, registry);
        let built = self.api.spawner.build(job, &ask, &mut |news| {
            if let BuildNews::Failed { lines, .. } = &news {
                failure = *lines;
            }
            if news != BuildNews::Tick {
                (self.tell)(&mut |told| told.hear(&news));
            }
            !(self.is_given_up)()
        });
        match built {
            Ok(Some(image)) => Ok(image),
            Ok(None) => Err(Status::new(Code::Cancelled, "the build was given up")),
            Err(error) => {
                let mut status = failed(&error);
                status.code = Code::Unknown;
                if let Some(lines) = failure {
                    status.details = source(&status, &input.dockerfile_name, &text, lines);
                }
                Err(status)
            }
        }
    }
}

/// Who the client is for a registry.
pub(super) fn credentials(session: &Connection, registry: &str) -> Option<(String, String)> {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let answer = session.ask("/moby.filesync.v1.Auth/Credentials", &Message::new().text(1, host));
    let (mut user, mut secret) = (String::new(), String::new());
    for field in fields(&answer.ok()?) {
        match field.ok()? {
            (1, value) => user = value.text(),
            (2, value) => secret = value.text(),
            _ => {}
        }
    }
    (!secret.is_empty()).then_some((user, secret))
}

/// A failure with the lines that it is about: `google.rpc.Status`, with `errdefs.Source` as BuildKit
/// writes it, in JSON.
fn source(status: &Status, name: &str, text: &str, (first, last): (usize, usize)) -> String {
    let info = source_info(name, text);
    let range = json!({ "start": { "line": first }, "end": { "line": last } });
    let source = json!({ "info": info, "ranges": [range] }).to_string();
    let any =
        Message::new().text(1, "github.com/moby/buildkit/errdefs.Source+json").text(2, &source);
    let code = u64::from(status.code as u32);
    let message = Message::new().number(1, code).text(2, &status.message).message(3, &any);
    STANDARD_NO_PAD.encode(message.as_bytes())
}

/// `pb.SourceInfo`, as Go writes it in JSON.
pub(super) fn source_info(name: &str, text: &str) -> Value {
    let data = base64::engine::general_purpose::STANDARD.encode(text);
    json!({ "filename": name, "data": data, "language": "Dockerfile" })
}
