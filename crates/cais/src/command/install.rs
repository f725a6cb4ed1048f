//! `cais system install`

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result};

use crate::session::Session;

/// Where systemd looks for units of the machine's administrator (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system";
/// The unit of the usual root; other roots have units of their own.
const NAME: &str = "cais";

/// What `system install` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove what was written, instead
    #[arg(long)]
    uninstall: bool,
    /// Where units are written (default /etc/systemd/system, or the user's own without privilege)
    #[arg(long, value_name = "DIR")]
    unit_dir: Option<PathBuf>,
}

/// A unit, and what makes the machine's start start it.
struct Unit {
    file: PathBuf,
    link: PathBuf,
    text: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let unit = Unit::new(session, args)?;
    if args.uninstall {
        return unit.remove(session);
    }
    if let Some(parent) = unit.link.parent() {
        fs::create_dir_all(parent).map_err(|error| failed("create", parent, error))?;
    }
    fs::write(&unit.file, &unit.text).map_err(|error| failed("write", &unit.file, error))?;
    session.say(format!("wrote {}", unit.file.display()))?;
    let name = unit.file.file_name().unwrap_or_default();
    match symlink(Path::new("..").join(name), &unit.link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked.map_err(|error| failed("link", &unit.link, error))?,
    }
    session.say(format!("linked {}", unit.link.display()))?;
    let lines = unit.text.lines().fold(String::new(), |text, line| text + "  " + line + "\n");
    session.print(&lines)?;
    session.say(
        "containers with --restart always, unless-stopped or on-failure start with the machine",
    )?;
    Ok(0)
}

impl Unit {
    fn new(session: &Session, args: &Args) -> Result<Self> {
        let (root, run_root) = session.roots();
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|error| failed("find", path, error));
        let (root, run_root) = (absolute(&root)?, absolute(&run_root)?);
        let of_machine = rustix::process::geteuid().is_root();
        let directory = match &args.unit_dir {
            Some(directory) => absolute(directory)?,
            None if of_machine => PathBuf::from(UNITS),
            None => own_units()?,
        };
        let name = match root == Path::new("/var/lib/cais") || !of_machine {
            true => NAME.to_owned(),
            false => {
                let digest = oci::Digest::of(root.as_os_str().as_encoded_bytes());
                format!("{NAME}-{}", &digest.hex()[..8])
            }
        };
        let target = if of_machine { "multi-user.target" } else { "default.target" };
        let program = std::env::current_exe();
        let program = program.map_err(|error| failed("find", Path::new("cais"), error))?;
        let words = [&program, &root, &run_root].map(|path| path.to_str().map(quoted));
        let [Some(program), Some(root), Some(run_root)] = words else {
            return Err(Error::invalid("a unit cannot name a path that is not UTF-8"));
        };
        let text = text(&program, (&root, &run_root), target);
        let file = directory.join(format!("{name}.service"));
        let link = directory.join(format!("{target}.wants")).join(format!("{name}.service"));
        Ok(Self { file, link, text })
    }

    fn remove(&self, session: &Session) -> Result<i32> {
        for path in [&self.link, &self.file] {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => {
                    removed.map_err(|error| failed("remove", path, error))?;
                    session.say(format!("removed {}", path.display()))?;
                }
            }
        }
        Ok(0)
    }
}

/// Where a user's own systemd looks.
fn own_units() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| Error::invalid("find the user's units: HOME is not set"))?;
    Ok(config.join("systemd/user"))
}

/// The unit. It has nothing to hold: whoever watches a container is the container's monitor, which
/// goes on when the unit is stopped.
fn text(program: &str, (root, run_root): (&str, &str), target: &str) -> String {
    format!(
        "[Unit]\n\
         Description=Containers of Cais that start with the machine\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         RequiresMountsFor={root}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} --root {root} --run-root {run_root} system restore\n\
         KillMode=process\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    )
}

/// A word of a command line in a unit (systemd.service(5), "Command lines"; `%` and `$` have a
/// meaning there).
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Internal,
    };
    Error::caused(kind, format!("{doing} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_units_are_quoted() {
        assert_eq!(quoted("/usr/bin/cais"), "/usr/bin/cais");
        assert_eq!(quoted("/a b/100%\"$\\"), "\"/a b/100%%\\\"$$\\\\\"");
    }

    #[test]
    fn the_unit_restores() {
        let unit = text("/usr/bin/cais", ("/var/lib/cais", "/run/cais"), "multi-user.target");
        let start =
            "ExecStart=/usr/bin/cais --root /var/lib/cais --run-root /run/cais system restore\n";
        assert!(unit.contains(start), "{unit}");
        assert!(unit.ends_with("[Install]\nWantedBy=multi-user.target\n"), "{unit}");
    }
}
