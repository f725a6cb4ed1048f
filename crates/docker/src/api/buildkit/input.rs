//! What a build is made from: the Dockerfile, the context, further contexts and secrets, all of which
//! the client has, or knows where they are.

use std::io::{self, Read};
use std::path::Path;

use engine::{BuildJob, ContextArchive, Received, Wants};
use grpc::proto::{Message, fields};
use grpc::{Code, Connection, Status, Stream};

use super::files::{Request, receive};
use super::solve::{Attributes, Builder};
use super::{Outcome, failed, invalid, unsupported};
use crate::api::build::{decoded, read};
use crate::api::failure::Failure;

/// Of a secret, in bytes; BuildKit's.
const SECRET_BYTES_MAX: usize = 500 << 10;
/// Where what a client sends by itself is: an archive on its standard input.
const UPLOAD: &str = "http://buildkit-session/";

/// What came, which is removed with this.
pub(super) struct Input {
    /// What the Dockerfile is called in messages.
    pub(super) dockerfile_name: String,
    _contexts: Vec<ContextArchive>,
}

/// A build that receives.
struct Receiving<'a> {
    builder: &'a Builder<'a>,
    attributes: &'a Attributes,
    session: &'a Connection,
    contexts: Vec<ContextArchive>,
}

impl Input {
    /// Has the client send the Dockerfile alone, which is no good for building, unless everything is
    /// elsewhere.
    pub(super) fn receive_dockerfile(
        builder: &Builder<'_>,
        attributes: &Attributes,
        session: &Connection,
        job: &mut BuildJob,
    ) -> Outcome<Self> {
        if attributes.get("context").is_some_and(|place| !place.is_empty()) {
            return Self::receive(builder, attributes, session, job);
        }
        let contexts = Vec::new();
        let mut receiving = Receiving { builder, attributes, session, contexts };
        let name = attributes.get("filename").map_or("Dockerfile", String::as_str).to_owned();
        receiving.dockerfile(job, &name)?;
        Ok(Self { dockerfile_name: name, _contexts: receiving.contexts })
    }

    /// Has the client send everything, and tells the job where it is.
    pub(super) fn receive(
        builder: &Builder<'_>,
        attributes: &Attributes,
        session: &Connection,
        job: &mut BuildJob,
    ) -> Outcome<Self> {
        let contexts = Vec::new();
        let mut receiving = Receiving { builder, attributes, session, contexts };
        let name = attributes.get("filename").map_or("Dockerfile", String::as_str).to_owned();
        let is_apart = receiving.is_local("dockerfile");
        let remote = match attributes.get("context").filter(|place| !place.is_empty()) {
            Some(place) => Some(receiving.remote(place, job)?),
            None => None,
        };
        match (remote, is_apart) {
            (Some(Received::Text(text)), _) => job.dockerfile = text_of(text)?,
            (Some(Received::Archive(archive)), is_apart) => {
                job.context = Some(archive.path().to_owned());
                if !is_apart {
                    take_dockerfile(job, &archive, &name, true)?;
                }
                receiving.contexts.push(archive);
                if is_apart {
                    receiving.dockerfile(job, &name)?;
                }
            }
            (None, _) => {
                receiving.dockerfile(job, &name)?;
                receiving.context(job)?;
            }
        }
        receiving.named(job)?;
        receiving.secrets(job)?;
        Ok(Self { dockerfile_name: name, _contexts: receiving.contexts })
    }
}

impl Receiving<'_> {
    /// Whether the client sends the Dockerfile as files, though the context is elsewhere.
    fn is_local(&self, key: &str) -> bool {
        self.attributes.get("dockerfilekey").is_some_and(|name| name == key)
    }

    /// Receives files of a directory that the client has by this name.
    fn files(&mut self, title: &str, request: &Request<'_>) -> Outcome<ContextArchive> {
        let session = match self.attributes.get(&format!("local-sessionid:{}", request.name)) {
            Some(id) => self.builder.api.sessions.find(id)?,
            None => self.session.clone(),
        };
        let context = self.builder.api.engine.new_context().map_err(|error| failed(&error))?;
        let tell = self.builder.tell;
        let mut begun = None;
        tell(&mut |news| begun = Some(news.begin(title)));
        let (id, began) = begun.unwrap_or_default();
        let what = format!("transferring {}:", request.what);
        let received = receive(&session, request, context.path(), &mut |bytes| {
            tell(&mut |news| news.progress(&id, &what, bytes, false));
        });
        tell(&mut |news| {
            if let Ok(bytes) = received {
                news.progress(&id, &what, bytes, true);
            }
            let why = received.as_ref().err().map(|status| status.message.as_str());
            news.end(&id, title, began, why);
        });
        received.map(|_| context)
    }

    /// Receives the Dockerfile, and what it has out of sight.
    fn dockerfile(&mut self, job: &mut BuildJob, name: &str) -> Outcome {
        let key = self.attributes.get("dockerfilekey").map_or("dockerfile", String::as_str);
        let own = format!("{name}.dockerignore");
        let follow = [name, &own];
        let request = Request { name: key, what: "dockerfile", follow: &follow, exclude: &[] };
        let title = format!("[internal] load build definition from {name}");
        let files = self.files(&title, &request)?;
        take_dockerfile(job, &files, name, false)
    }

    /// Receives the context.
    fn context(&mut self, job: &mut BuildJob) -> Outcome {
        let key = self.attributes.get("contextkey").map_or("context", String::as_str);
        if job.ignore.is_empty() {
            let follow = [".dockerignore"];
            let request = Request { name: key, what: "context", follow: &follow, exclude: &[] };
            let files = self.files("[internal] load .dockerignore", &request)?;
            if let Some(text) = found(&files, ".dockerignore")? {
                job.ignore = String::from_utf8_lossy(&text).into_owned();
            }
        }
        let patterns = patterns(&job.ignore);
        let request = Request { name: key, what: "context", follow: &[], exclude: &patterns };
        let files = self.files("[internal] load build context", &request)?;
        job.context = Some(files.path().to_owned());
        self.contexts.push(files);
        Ok(())
    }

    /// Gets the further contexts.
    fn named(&mut self, job: &mut BuildJob) -> Outcome {
        for (name, place) in self.attributes {
            let Some(name) = name.strip_prefix("context:") else { continue };
            if let Some(image) = place.strip_prefix("docker-image://") {
                job.images.insert(name.to_owned(), image.to_owned());
                continue;
            }
            let files = match place.strip_prefix("local:") {
                Some(local) => {
                    let request =
                        Request { name: local, what: "context", follow: &[], exclude: &[] };
                    self.files(&format!("[context {name}] load from client"), &request)?
                }
                None => match self.remote(place, job)? {
                    Received::Archive(files) => files,
                    Received::Text(_) => {
                        return Err(invalid(format!("the context {name} is no archive")));
                    }
                },
            };
            job.directories.insert(name.to_owned(), files.path().to_owned());
            self.contexts.push(files);
        }
        Ok(())
    }

    /// Gets what is at an address.
    fn remote(&self, place: &str, job: &BuildJob) -> Outcome<Received> {
        let engine = &self.builder.api.engine;
        if let Some(name) = place.strip_prefix(UPLOAD) {
            let path = format!("/{name}");
            let metadata = [("urlpath", &*path), ("urlhost", "buildkit-session")];
            let stream = self.session.call("/moby.upload.v1.Upload/Pull", &metadata)?;
            let mut upload = Bytes { stream, held: Vec::new(), at: 0 };
            return engine.receive_context(&mut upload).map_err(|error| failed(&error));
        }
        let mut secrets = job.secrets.clone();
        for id in ["GIT_AUTH_TOKEN", &git_token_of(place)] {
            secrets.extend(self.secret(id)?.map(|value| (id.to_owned(), value)));
        }
        let got = engine.context_at(place, &secrets, &job.ssh).map_err(|error| failed(&error))?;
        got.ok_or_else(|| unsupported(format!("a context from {place} is not supported")))
    }

    fn secrets(&self, job: &mut BuildJob) -> Outcome {
        for id in Wants::of(&job.dockerfile).secrets {
            if let Some(value) = self.secret(&id)? {
                job.secrets.insert(id, value);
            }
        }
        Ok(())
    }

    /// A secret; `None` if the client has none of this name, or none at all.
    fn secret(&self, id: &str) -> Outcome<Option<Vec<u8>>> {
        let asked = Message::new().text(1, id);
        let answer = match self.session.ask("/moby.buildkit.secrets.v1.Secrets/GetSecret", &asked) {
            Err(Status { code: Code::NotFound | Code::Unimplemented, .. }) => return Ok(None),
            answer => answer?,
        };
        let mut value = Vec::new();
        for field in fields(&answer) {
            if let (1, data) = field? {
                value = data.bytes().to_vec();
            }
        }
        match value.len() {
            0..=SECRET_BYTES_MAX => Ok(Some(value)),
            _ => Err(invalid(format!("secret {id} is longer than {SECRET_BYTES_MAX} bytes"))),
        }
    }
}

/// The name of the secret for the server of a repository.
fn git_token_of(place: &str) -> String {
    let behind = place.split_once("://").map_or(place, |(_, rest)| rest);
    let host = behind.split('/').next().unwrap_or_default();
    format!("GIT_AUTH_TOKEN.{}", host.rsplit('@').next().unwrap_or_default())
}

fn text_of(bytes: Vec<u8>) -> Outcome<String> {
    decoded(bytes).map_err(|failure| refused(&failure))
}

fn refused(failure: &Failure) -> Status {
    invalid(failure.message())
}

/// A file of what came; `None` where there is none.
fn found(files: &ContextArchive, name: &str) -> Outcome<Option<Vec<u8>>> {
    let place = files.path().join(name.trim_start_matches('/'));
    read(files, &place).map_err(|failure| refused(&failure))
}

/// Takes the Dockerfile out of what came, and what it has out of sight: by a file of its own, or,
/// where `is_context`, by that of the context.
fn take_dockerfile(
    job: &mut BuildJob,
    files: &ContextArchive,
    name: &str,
    is_context: bool,
) -> Outcome {
    let text = found(files, name)?.ok_or_else(|| {
        let last = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let why = format!("failed to read dockerfile: open {last}: no such file or directory");
        Status::new(Code::Unknown, why)
    })?;
    job.dockerfile = text_of(text)?;
    let own = format!("{name}.dockerignore");
    for ignore in [&*own, ".dockerignore"].iter().take(1 + usize::from(is_context)) {
        if let Some(text) = found(files, ignore)? {
            job.ignore = String::from_utf8_lossy(&text).into_owned();
            break;
        }
    }
    Ok(())
}

/// The lines of an ignore file that say something, as clients compare them.
fn patterns(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pattern = |line: &str| {
        let (sign, path) = line.strip_prefix('!').map_or(("", line), |path| ("!", path.trim()));
        let path = path.trim_matches('/');
        (!path.is_empty()).then(|| format!("{sign}{path}"))
    };
    lines.filter_map(pattern).collect()
}

/// What messages with one field of bytes have in them.
struct Bytes {
    stream: Stream,
    held: Vec<u8>,
    at: usize,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.held.len() {
            let Some(message) = self.stream.receive().map_err(io::Error::other)? else {
                return Ok(0);
            };
            (self.held, self.at) = (Vec::new(), 0);
            for field in fields(&message) {
                if let (1, data) = field.map_err(io::Error::other)? {
                    self.held.extend_from_slice(data.bytes());
                }
            }
        }
        let length = buffer.len().min(self.held.len() - self.at);
        buffer[..length].copy_from_slice(&self.held[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_clean() {
        assert_eq!(patterns("# no\n\n /a/ \n! b\n**/c\n!\n"), ["a", "!b", "**/c"]);
    }
}
