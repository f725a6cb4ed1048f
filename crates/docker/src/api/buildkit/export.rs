//! What becomes of an image that was built: it stays in the store, goes to a registry, or to the
//! client as files or an archive.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use grpc::proto::Message;
use grpc::{Connection, Stream};
use oci::Reference;
use registry::Auth;
use store::Image;

use super::files::send;
use super::solve::{Attributes, Builder, Solve, credentials};
use super::{Outcome, PIECE_BYTES, failed, invalid, is_true, unsupported};

/// Where an image goes.
#[derive(Debug, Default)]
pub(super) struct Exporter {
    /// `moby` and `image` for the store and registries; `docker`, `oci`, `tar` and `local` for the
    /// client.
    pub(super) kind: String,
    pub(super) attributes: Attributes,
}

/// What may be said of an exporter and changes nothing: which digest the client shows, which media
/// types are OCI's in any case, that there is one platform.
const NOTHING: [&str; 3] = ["prefer-image-digest", "oci-mediatypes", "platform-split"];
/// Before the names of notes of the manifest.
const NOTES: [&str; 2] = ["annotation.", "annotation-manifest."];

/// The names of the image and the notes of its manifest, in all exporters.
pub(super) fn names_and_notes(
    exporters: &[Exporter],
) -> Outcome<(Vec<Reference>, BTreeMap<String, String>)> {
    let (mut names, mut notes) = (Vec::new(), BTreeMap::new());
    for exporter in exporters {
        exporter.check()?;
        notes.extend(exporter.notes());
        // What goes to the client alone is not named here.
        if exporter.is_kept() {
            names.extend(exporter.names()?);
        }
    }
    Ok((names, notes))
}

impl Exporter {
    fn is_kept(&self) -> bool {
        matches!(self.kind.as_str(), "moby" | "image")
    }

    fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    fn names(&self) -> Outcome<Vec<Reference>> {
        let names = self.get("name").split(',').filter(|name| !name.is_empty());
        let parse = |name: &str| {
            let reference: Reference =
                name.parse().map_err(|error| invalid(format!("invalid tag {name:?}: {error}")))?;
            match reference.digest() {
                None => Ok(reference),
                Some(_) => Err(invalid(format!(
                    "refusing to create a tag with a digest reference: {name}"
                ))),
            }
        };
        names.map(parse).collect()
    }

    fn notes(&self) -> impl Iterator<Item = (String, String)> {
        self.attributes.iter().filter_map(|(name, value)| {
            let note = NOTES.iter().find_map(|beginning| name.strip_prefix(beginning))?;
            Some((note.to_owned(), value.clone()))
        })
    }

    /// Refuses what is not done.
    fn check(&self) -> Outcome {
        let kind = &self.kind;
        if !matches!(kind.as_str(), "moby" | "image" | "docker" | "oci" | "tar" | "local") {
            return Err(unsupported(format!("an output of type={kind} is not supported")));
        }
        for (name, value) in &self.attributes {
            let is_known = match name.as_str() {
                "name" => true,
                "push" => self.is_kept() || !is_true(value),
                "tar" => is_true(value),
                "mode" => matches!(value.as_str(), "" | "copy"),
                name => {
                    NOTHING.contains(&name) || NOTES.iter().any(|start| name.starts_with(start))
                }
            };
            if !is_known {
                let message =
                    format!("{name}={value} of an output of type={kind} is not supported");
                return Err(unsupported(message));
            }
        }
        match is_true(self.get("push")) && self.get("name").is_empty() {
            true => Err(invalid("tag is needed when pushing to registry")),
            false => Ok(()),
        }
    }
}

impl Builder<'_> {
    /// Brings out the image of this id; what is told of it.
    pub(super) fn export(
        &self,
        id: String,
        solve: &Solve,
    ) -> Outcome<BTreeMap<&'static str, String>> {
        let engine = &self.api.engine;
        let image = engine.image(&id).map_err(|error| failed(&error))?;
        let mut names = Vec::new();
        for (number, exporter) in solve.exporters.iter().enumerate() {
            if (self.is_given_up)() {
                break;
            }
            let own = exporter.names()?;
            let session = || self.api.sessions.find(&solve.session);
            let (title, lines) = match exporter.kind.as_str() {
                "moby" | "image" => {
                    if is_true(exporter.get("push")) {
                        self.push(&session()?, &own)?;
                    }
                    let named = own.iter().map(|name| format!("\nnaming to {name} done"));
                    let lines = format!("exporting layers done\nwriting image {id} done");
                    ("exporting to image", lines + &named.collect::<String>())
                }
                "local" => {
                    self.send_files(&session()?, number, &image)?;
                    ("exporting to client directory", "copying files done".to_owned())
                }
                "tar" => {
                    send_archive(&session()?, number, &|out| {
                        engine.export_image(&image, out).map(drop)
                    })?;
                    ("exporting to client tarball", "sending tarball done".to_owned())
                }
                kind => {
                    send_archive(&session()?, number, &|out| {
                        engine.save_image(&image, &own, out).map(drop)
                    })?;
                    let title = match kind {
                        "oci" => "exporting to oci image format",
                        _ => "exporting to docker image format",
                    };
                    (title, "exporting layers done\nsending tarball done".to_owned())
                }
            };
            (self.tell)(&mut |news| news.internal(title, &lines));
            names.extend(own.iter().map(ToString::to_string));
        }
        // The digest that clients know an image by here is that of its configuration.
        let mut response = BTreeMap::from([
            ("containerimage.config.digest", id.clone()),
            ("containerimage.digest", id),
        ]);
        if !names.is_empty() {
            response.insert("image.name", names.join(","));
        }
        Ok(response)
    }

    fn push(&self, session: &Connection, names: &[Reference]) -> Outcome {
        let session = session.clone();
        let auth = Auth::anonymous().asking(move |registry| credentials(&session, registry));
        let engine = self.api.engine.clone().with_auth(auth);
        for name in names {
            engine.push(name, None, &|_| {}).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn send_files(&self, session: &Connection, number: usize, image: &Image) -> Outcome {
        let engine = &self.api.engine;
        let files = engine.new_context().map_err(|error| failed(&error))?;
        let copied = engine.copy_image(image, files.path(), engine::DEFAULT_EPOCH_S);
        copied.map_err(|error| failed(&error))?;
        send(session, number, files.path())
    }
}

/// Sends an archive to a client's exporter of this number.
fn send_archive(
    session: &Connection,
    number: usize,
    write: &dyn Fn(BufWriter<&mut Out<'_>>) -> engine::Result<()>,
) -> Outcome {
    let number = number.to_string();
    let metadata = [("buildkit-attachable-exporter-id", &*number)];
    let stream = session.call("/moby.filesync.v1.FileSend/DiffCopy", &metadata)?;
    let mut out = Out { stream: &stream, refused: None };
    let written = write(BufWriter::with_capacity(PIECE_BYTES, &mut out));
    if let Some(status) = out.refused {
        return Err(status);
    }
    written.map_err(|error| failed(&error))?;
    stream.end()?;
    while stream.receive()?.is_some() {}
    Ok(())
}

/// Sends what is written, a message for each piece.
struct Out<'a> {
    stream: &'a Stream,
    /// What the client said instead of taking it.
    refused: Option<grpc::Status>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        self.stream.send(&Message::new().bytes(1, piece)).map_err(|status| {
            self.refused = Some(status.clone());
            io::Error::other(status)
        })?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(kind: &str, pairs: &[(&str, &str)]) -> Exporter {
        let all = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Exporter { kind: kind.to_owned(), attributes: all.collect() }
    }

    #[test]
    fn images_have_the_names_that_stay_here() {
        let kept = exporter("moby", &[("name", "docker.io/library/a,b:1"), ("annotation.k", "v")]);
        let sent = exporter("docker", &[("name", "c")]);
        let (names, notes) = names_and_notes(&[kept, sent]).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/a:latest", "docker.io/library/b:1"]);
        assert_eq!(notes["k"], "v");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (kind, pairs) in [
            ("registry2", &[][..]),
            ("image", &[("push", "true")]),
            ("image", &[("name", "a"), ("push-by-digest", "true")]),
            ("image", &[("compression", "zstd")]),
            ("image", &[("annotation-index.k", "v")]),
            ("oci", &[("tar", "false")]),
            ("tar", &[("push", "true")]),
            ("local", &[("mode", "delete")]),
            ("moby", &[("name", "A")]),
        ] {
            assert!(names_and_notes(&[exporter(kind, pairs)]).is_err(), "{kind} {pairs:?}");
        }
    }
}
