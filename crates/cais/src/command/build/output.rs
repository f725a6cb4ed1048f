//! `--output type=…,dest=…`

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use engine::{BuildOptions, Engine, Error, ImageIndex, Kind, Place, Result, Statement};
use store::Image;

use super::Args;
use crate::progress;
use crate::session::Session;

const WRITE_BYTES: usize = 256 << 10;

/// Where a built image goes, besides the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// An archive of the image; one for `docker load` holds one image only.
    Archive {
        /// Where; standard output where there is no place.
        place: Option<PathBuf>,
        /// Whether Docker must be able to load it.
        for_docker: bool,
    },
    /// An archive of its files.
    Tar(Option<PathBuf>),
    /// Its files.
    Local(PathBuf),
    /// The registries that its names say.
    Push,
}

impl Output {
    pub(super) fn parse_all(args: &Args) -> Result<Vec<Self>> {
        let parsed =
            args.output.iter().map(|text| Self::parse(text)).collect::<Result<Vec<_>>>()?;
        let pushed = args.push.then_some(Self::Push);
        Ok(parsed.into_iter().flatten().chain(pushed).collect())
    }

    /// `None` for an image in the store, which there is anyway.
    fn parse(text: &str) -> Result<Option<Self>> {
        if text == "-" {
            return Ok(Some(Self::Tar(None)));
        }
        if !text.contains('=') {
            return Ok(Some(Self::Local(text.into())));
        }
        let mut fields = BTreeMap::new();
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(Error::invalid(format!("invalid value {field} of --output")));
            };
            fields.insert(key.trim().to_lowercase(), value.to_owned());
        }
        let kind = fields.remove("type").unwrap_or_default();
        let place = fields.remove("dest").filter(|place| place != "-").map(PathBuf::from);
        let push = fields.remove("push").is_some_and(|push| push == "true");
        fields.retain(|key, value| !(key == "tar" && value == "true"));
        if let Some((key, _)) = fields.first_key_value() {
            let message = format!("{key} of --output type={kind} is not supported yet");
            return Err(Error::new(Kind::Unsupported, message));
        }
        match (kind.as_str(), place) {
            ("local", Some(place)) => Ok(Some(Self::Local(place))),
            ("local", None) => Err(Error::invalid("dest is required for local output")),
            ("tar", place) => Ok(Some(Self::Tar(place))),
            ("docker", None) => Ok(None),
            ("docker" | "oci", place) => {
                Ok(Some(Self::Archive { place, for_docker: kind == "docker" }))
            }
            ("image", None) => Ok(push.then_some(Self::Push)),
            ("registry", None) => Ok(Some(Self::Push)),
            ("image" | "registry", Some(_)) => {
                Err(Error::invalid(format!("dest is not a field of --output type={kind}")))
            }
            ("", _) => Err(Error::invalid(format!("type is required for output {text}"))),
            (kind, _) => {
                let hint = "there are image, registry, docker, oci, tar and local";
                Err(Error::invalid(format!("unknown type {kind:?} of --output")).hint(hint))
            }
        }
    }

    /// Whether it holds images for several platforms.
    pub(super) fn takes_index(&self) -> Result<()> {
        match self {
            Self::Archive { for_docker: true, .. } => {
                let message = "docker exporter does not currently support exporting manifest lists";
                Err(Error::new(Kind::Unsupported, message).hint("type=oci does"))
            }
            Self::Tar(_) => {
                let message = "--output type=tar holds the files of one platform";
                Err(Error::new(Kind::Unsupported, message)
                    .hint("type=local makes a directory of each"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(
        &self,
        session: &Session,
        image: &Image,
        options: &BuildOptions,
        attested: Option<&Attested>,
    ) -> Result<()> {
        let engine = session.engine()?;
        if let Some((image, statements)) = attested {
            return self.write_attested(engine, (image, statements), options);
        }
        match self {
            Self::Archive { place, .. } => {
                to_archive(place.as_deref(), &|out| engine.save_image(image, &options.tags, out))
            }
            Self::Tar(place) => {
                to_archive(place.as_deref(), &|out| engine.export_image(image, out))
            }
            Self::Local(place) => engine.copy_image(image, place, options.epoch_s),
            Self::Push => options
                .tags
                .iter()
                .try_for_each(|tag| progress::push(engine, tag, None, true).map(drop)),
        }
    }

    pub(super) fn write_index(
        &self,
        session: &Session,
        index: &ImageIndex,
        options: &BuildOptions,
    ) -> Result<()> {
        let engine = session.engine()?;
        match self {
            Self::Archive { place, .. } => {
                to_archive(place.as_deref(), &|out| engine.save_index(index, &options.tags, out))
            }
            Self::Tar(_) => self.takes_index(),
            Self::Local(place) => index.images.iter().try_for_each(|(platform, image)| {
                // As BuildKit names them: linux_arm64.
                let below = place.join(platform.to_string().replace('/', "_"));
                engine.copy_image(image, &below, options.epoch_s)
            }),
            Self::Push => {
                options.tags.iter().try_for_each(|tag| engine.push_image_index(index, tag, &|_| {}))
            }
        }
    }

    /// Refuses what cannot have statements with it.
    pub(super) fn check_attested(outputs: &[Self]) -> Result<()> {
        let refuse = |what: &str| {
            let hint = "--push, and --output type=registry, type=oci,dest=FILE and type=local do";
            let message = format!("{what} cannot have attestations with it");
            Err(Error::new(Kind::Unsupported, message).hint(hint))
        };
        match outputs {
            [] => refuse("an image in the store"),
            outputs => outputs.iter().try_for_each(|output| match output {
                Self::Archive { for_docker: true, .. } => refuse("an output of type=docker"),
                Self::Tar(_) => refuse("an output of type=tar"),
                Self::Archive { place: None, .. } => refuse("an archive on standard output"),
                Self::Archive { .. } | Self::Local(_) | Self::Push => Ok(()),
            }),
        }
    }

    fn write_attested(
        &self,
        engine: &Engine,
        (image, statements): (&Image, &[Statement]),
        options: &BuildOptions,
    ) -> Result<()> {
        let platform = &options.request.platform;
        let export =
            |place: &Place| engine.export_attested(image, platform, statements, place).map(drop);
        match self {
            Self::Archive { place: Some(path), for_docker: false } => {
                let label = options.tags.first().map(ToString::to_string);
                export(&Place::Archive { path: path.clone(), label, for_docker: false })
            }
            Self::Push => {
                options.tags.iter().try_for_each(|tag| export(&Place::Registry(tag.clone())))
            }
            Self::Local(place) => {
                engine.copy_image(image, place, options.epoch_s)?;
                statements.iter().try_for_each(|statement| {
                    let path = place.join(statement.file_name);
                    let text = serde_json::to_string_pretty(&statement.content).unwrap_or_default();
                    // The image may have a link of this name: it gives way, and is not followed.
                    let mut file = store::Fresh::create(&path, 0o644)?;
                    std::io::Write::write_all(&mut file, (text + "\n").as_bytes()).map_err(
                        |error| {
                            let doing = format!("write {}", path.display());
                            Error::caused(Kind::Invalid, doing, error)
                        },
                    )?;
                    Ok(file.keep()?)
                })
            }
            // They are refused before anything is built.
            Self::Archive { .. } | Self::Tar(_) => Ok(()),
        }
    }
}

/// An image, and the statements about it.
pub(super) type Attested = (Image, Vec<Statement>);
/// Writes to a file, or to standard output.
fn to_archive(place: Option<&Path>, write: &dyn Fn(Out<'_>) -> Result<Out<'_>>) -> Result<()> {
    crate::command::to_output(place, "export image", |out| {
        let mut written = write(BufWriter::with_capacity(WRITE_BYTES, out))?;
        std::io::Write::flush(&mut written)
            .map_err(|error| Error::caused(Kind::Internal, "write the archive", error))
    })
    .map(drop)
}

type Out<'a> = BufWriter<&'a mut dyn std::io::Write>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let parse = |text: &str| Output::parse(text).unwrap();
        assert_eq!(parse("out"), Some(Output::Local("out".into())));
        assert_eq!(parse("-"), Some(Output::Tar(None)));
        assert_eq!(parse("type=local,dest=a"), Some(Output::Local("a".into())));
        assert_eq!(parse("type=tar,dest=a.tar"), Some(Output::Tar(Some("a.tar".into()))));
        assert_eq!(
            parse("type=oci,dest=-"),
            Some(Output::Archive { place: None, for_docker: false })
        );
        assert_eq!(parse("type=image"), None);
        assert_eq!(parse("type=image,push=true"), Some(Output::Push));
        for wrong in ["type=local", "type=x", "dest=a", "type=oci,compression=zstd", "a=b,c"] {
            assert!(Output::parse(wrong).is_err(), "{wrong}");
        }
    }
}
