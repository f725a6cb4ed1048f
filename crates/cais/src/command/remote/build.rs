//! Builds, by the way that engines have always had: files and Dockerfile as an archive.

use std::fs;
use std::io::{PipeWriter, Read};
use std::path::Path;

use build::Ignore;
use engine::{Error, Kind, Result};
use oci::Reference;
use remote::Request;

use super::{Remote, image};
use crate::command::build::Args;
use crate::command::reference;

/// What the Dockerfile is called where it is not in the directory that is sent.
const OUTSIDE: &str = ".dockerfile.from.outside";

pub(super) fn build(remote: &Remote<'_>, args: &Args) -> Result<i32> {
    args.refuse_elsewhere()?;
    let tags = args.tag.iter().map(|tag| reference(tag)).collect::<Result<Vec<Reference>>>()?;
    let asked = args.asked_elsewhere()?;
    let request = Request::new("POST", &["build"]).with("rm", "1");
    let request = args.tag.iter().fold(request, |request, tag| request.with("t", tag));
    let request =
        asked.iter().fold(request, |request, (name, value)| request.with_some(name, value));
    let request = request.header("X-Registry-Config", image::all_credentials(&tags)?);
    let answer = match args.path.as_str() {
        "-" => {
            let request = request.with_some("dockerfile", args.file.as_deref().unwrap_or_default());
            remote.ask(request.stream("application/x-tar", &mut std::io::stdin()))?
        }
        path => send(remote, request, args, Path::new(path))?,
    };
    let mut id = String::new();
    let aux = image::follow(remote, answer, |text| {
        match args.quiet {
            true => id.push_str(text),
            false => remote.session.print(text)?,
        }
        Ok(())
    })?;
    if args.quiet {
        remote.session.print(&id)?;
    }
    let id = aux["ID"].as_str().unwrap_or(id.trim());
    if let Some(path) = &args.iidfile {
        let written = fs::write(path, id);
        let doing = || format!("write {}", path.display());
        written.map_err(|error| Error::caused(Kind::Internal, doing(), error))?;
    }
    Ok(0)
}

/// Sends a directory, without what its `.dockerignore` leaves out.
fn send(
    remote: &Remote<'_>,
    request: Request<'_>,
    args: &Args,
    directory: &Path,
) -> Result<remote::Answer> {
    if !directory.is_dir() {
        let message = format!("path \"{}\" is no directory", directory.display());
        return Err(Error::new(Kind::NotFound, message)
            .hint("an engine elsewhere is sent a directory, or an archive on standard input"));
    }
    let (name, outside) = dockerfile(args, directory)?;
    let request = request.with("dockerfile", &name);
    let ignore = ignore(directory, &name)?;
    let pipe = std::io::pipe();
    let (mut from, to) =
        pipe.map_err(|error| Error::caused(Kind::Internal, "make a pipe", error))?;
    let (packed, answer) = std::thread::scope(|scope| {
        let packer = scope.spawn(|| pack(directory, &ignore, outside.as_deref(), to));
        let answer = remote.ask(request.stream("application/x-tar", &mut from));
        drop(from);
        (packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), answer)
    });
    match (packed, answer) {
        // Of a refusal, the engine says more than that it no longer reads.
        (_, Err(error)) => Err(error),
        (packed, Ok(answer)) => {
            let doing = || format!("read {}", directory.display());
            packed.map_err(|error| Error::caused(Kind::Invalid, doing(), error))?;
            Ok(answer)
        }
    }
}

/// What the Dockerfile is called in the archive; its text, where it is not in the directory.
fn dockerfile(args: &Args, directory: &Path) -> Result<(String, Option<Vec<u8>>)> {
    let read = |path: &Path| {
        let read = fs::read(path);
        let doing = || format!("read {}", path.display());
        read.map_err(|error| Error::caused(Kind::NotFound, doing(), error))
    };
    match args.file.as_deref() {
        None => Ok(("Dockerfile".to_owned(), None)),
        Some("-") => {
            let mut text = Vec::new();
            let read = std::io::stdin().read_to_end(&mut text);
            read.map_err(|error| Error::caused(Kind::Invalid, "read standard input", error))?;
            Ok((OUTSIDE.to_owned(), Some(text)))
        }
        Some(file) => {
            let doing = |error| Error::caused(Kind::NotFound, format!("read {file}"), error);
            let path = fs::canonicalize(file).map_err(doing)?;
            let root = fs::canonicalize(directory).map_err(doing)?;
            match path.strip_prefix(&root) {
                Ok(inside) => Ok((inside.display().to_string(), None)),
                Err(_) => Ok((OUTSIDE.to_owned(), Some(read(&path)?))),
            }
        }
    }
}

/// What is left out. The Dockerfile and the file that says so are sent all the same: the engine needs
/// them.
fn ignore(directory: &Path, dockerfile: &str) -> Result<Ignore> {
    let own = directory.join(format!("{dockerfile}.dockerignore"));
    let path = if own.exists() { own } else { directory.join(".dockerignore") };
    let mut text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ignore::default()),
        read => read.map_err(|error| {
            Error::caused(Kind::Invalid, format!("read {}", path.display()), error)
        })?,
    };
    text.push_str(&format!("\n!.dockerignore\n!{dockerfile}\n"));
    Ignore::parse(&text).map_err(|error| {
        Error::caused(Kind::Invalid, format!("read {}", path.display()), error.to_string())
    })
}

fn pack(
    directory: &Path,
    ignore: &Ignore,
    outside: Option<&[u8]>,
    to: PipeWriter,
) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::new(to));
    archive.follow_symlinks(false);
    if let Some(text) = outside {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, OUTSIDE, text)?;
    }
    let mut left = vec![directory.to_owned()];
    while let Some(folder) = left.pop() {
        let mut entries = fs::read_dir(&folder)?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let inside = path.strip_prefix(directory).unwrap_or(&path);
            let kind = entry.file_type()?;
            let is_out = ignore.matches(&inside.to_string_lossy());
            if kind.is_dir() && (!is_out || ignore.may_return_below(&inside.to_string_lossy())) {
                left.push(path.clone());
            }
            if is_out {
                continue;
            }
            match kind {
                kind if kind.is_dir() => archive.append_dir(inside, &path)?,
                kind if kind.is_file() || kind.is_symlink() => {
                    archive.append_path_with_name(&path, inside)?;
                }
                // Sockets and the like are no part of a context.
                _ => {}
            }
        }
    }
    std::io::Write::flush(&mut archive.into_inner()?)
}
