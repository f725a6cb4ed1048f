//! `cais.lock`: what a build got from the network, beside its Dockerfile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Lock, LockedImage, Result};
use oci::Digest;
use serde::Deserialize;

use super::Args;
use super::context::Input;

const NAME: &str = "cais.lock";
const VERSION: u32 = 1;
/// Of a lock file, in bytes.
const BYTES_MAX: u64 = 4 << 20;
const HEAD: &str = "\
# Written by `cais build --update-lock`: what the build got from the network.
# `cais build --locked` uses this and nothing else.
";

/// A lock file, to be obeyed or to be written.
pub(super) struct LockFile {
    path: PathBuf,
    is_written: bool,
}

/// As it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    #[serde(default)]
    image: Vec<LockedImage>,
    #[serde(default)]
    file: Vec<LockedFile>,
    #[serde(default)]
    git: Vec<LockedRepository>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFile {
    url: String,
    checksum: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedRepository {
    url: String,
    commit: String,
}

impl LockFile {
    /// The one that was asked for: `cais.lock` beside the Dockerfile, `<name>.cais.lock` where that has
    /// another name.
    pub(super) fn of(args: &Args, input: &Input) -> Result<Option<Self>> {
        if !args.locked && !args.update_lock {
            return Ok(None);
        }
        let local = input.dockerfile_path.as_ref().filter(|_| input.is_local());
        let Some(dockerfile) = local else {
            let why = "only a Dockerfile in a directory has a lock file beside it";
            return Err(Error::invalid(why).hint("get the context first, and build its directory"));
        };
        Ok(Some(Self { path: beside(dockerfile), is_written: args.update_lock }))
    }

    /// What it has, if it is to be obeyed.
    pub(super) fn read(&self) -> Result<Option<Lock>> {
        if self.is_written {
            return Ok(None);
        }
        let shown = self.path.display();
        let file = fs::File::open(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(Kind::NotFound, format!("there is no {shown}"))
                .hint("`cais build --update-lock` makes it"),
            _ => Error::caused(Kind::Invalid, format!("open {shown}"), error),
        })?;
        let wrong = |error: String| Error::caused(Kind::Invalid, format!("read {shown}"), error);
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        parse(&text).map(Some).map_err(wrong)
    }

    /// Writes down what a build got, if that was asked for.
    pub(super) fn write(&self, got: &Lock) -> Result<()> {
        let text = shown(got);
        if !self.is_written || fs::read_to_string(&self.path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let doing =
            |error| Error::caused(Kind::Invalid, format!("write {}", self.path.display()), error);
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let hidden = directory.join(format!(".{NAME}.{}", std::process::id()));
        let written = fs::File::create_new(&hidden)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&hidden, &self.path));
        written.map_err(|error| {
            // It may never have been made.
            let _ = fs::remove_file(&hidden);
            doing(error)
        })
    }
}

fn beside(dockerfile: &Path) -> PathBuf {
    let name = dockerfile.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.as_str() {
        "Dockerfile" | "dockerfile" => dockerfile.with_file_name(NAME),
        name => dockerfile.with_file_name(format!("{name}.{NAME}")),
    }
}

fn parse(text: &str) -> std::result::Result<Lock, String> {
    let content: Content = toml::from_str(text).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("version {} is not known; there is {VERSION}", content.version));
    }
    let files = content.file.into_iter().map(|file| (file.url, file.checksum));
    let commits = content.git.into_iter().map(|git| (git.url, git.commit));
    Ok(Lock {
        images: content.image,
        files: files.collect::<BTreeMap<_, _>>(),
        commits: commits.collect(),
    })
}

fn shown(lock: &Lock) -> String {
    // Strings of JSON are strings of TOML, but for what is in no name or address.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!("{HEAD}version = {VERSION}\n");
    for image in &lock.images {
        text += &format!(
            "\n[[image]]\nname = {}\nplatform = {}\n",
            quoted(&image.name),
            quoted(&image.platform)
        );
        if let Some(digest) = image.digest {
            text += &format!("digest = \"{digest}\"\n");
        }
        text += &format!("id = \"{}\"\n", image.id);
    }
    for (url, checksum) in &lock.files {
        text += &format!("\n[[file]]\nurl = {}\nchecksum = \"{checksum}\"\n", quoted(url));
    }
    for (url, commit) in &lock.commits {
        let (url, commit) = (quoted(url), quoted(commit));
        text += &format!("\n[[git]]\nurl = {url}\ncommit = {commit}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let image = |name: &str, digest| LockedImage {
            name: name.into(),
            platform: "linux/amd64".into(),
            digest,
            id: Digest::of(name.as_bytes()),
        };
        let lock = Lock {
            images: vec![image("docker.io/library/a:1", Some(digest("m"))), image("b", None)],
            files: [("https://x/\"y\"?z=ä#".to_owned(), digest("f"))].into(),
            commits: [("https://x/y.git#main".to_owned(), "0".repeat(40))].into(),
        };
        assert_eq!(parse(&shown(&lock)).unwrap(), lock);
        assert_eq!(parse("version = 1").unwrap(), Lock::default());
        for wrong in ["", "version = 2", "version = 1\nodd = 1", "version = 1\n[[image]]\nname='a'"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(beside(Path::new("a/Dockerfile")), Path::new("a/cais.lock"));
        assert_eq!(beside(Path::new("web.Dockerfile")), Path::new("web.Dockerfile.cais.lock"));
    }
}
