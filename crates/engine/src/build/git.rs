//! Contexts that are git repositories. The one program that a build executes outside of containers is
//! git itself: without the configuration of whoever builds, without hooks and filters, and with the
//! protocols only that an address may name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use build::GitSource;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::received::ContextArchive;
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};

const GIT_DIR: &str = ".git";
const FETCHED: &str = "FETCH_HEAD";
/// The remote's own choice.
const HEAD: &str = "HEAD";
/// Where the remote's own choice is put where everything is fetched.
const REMOTE_HEAD: &str = "refs/cais/HEAD";
/// Lines of what git says that are told.
const COMPLAINT_LINES_MAX: usize = 8;
/// The protocols of remotes; `ext` would run any program, and `file` read what is not meant.
const PROTOCOLS: &str = "http:https:git:ssh";
/// Of our own environment, what git needs to get anywhere.
const KEPT: [&str; 13] = [
    "PATH",
    "HOME",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// What of that proves who builds.
const OWN: [&str; 2] = ["HOME", "SSH_AUTH_SOCK"];
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// How a repository is got.
#[derive(Debug, Clone, Default)]
pub struct GitAccess {
    /// What proves who asks: BuildKit's secret `GIT_AUTH_TOKEN`, or that with a dot and the host behind.
    pub token: Option<Vec<u8>>,
    /// The socket of an SSH agent, in the place of the one of the environment.
    pub ssh_agent: Option<PathBuf>,
    /// Whether `.git` stays where the address says nothing about it.
    pub keeps_git_dir: bool,
    /// Whether whoever builds named the repository themselves: then their own keys count, and not
    /// for what a Dockerfile names.
    pub is_own: bool,
}

impl GitAccess {
    /// What a build's secrets and agents give access to.
    #[must_use]
    pub fn new(
        source: &GitSource,
        secrets: &BTreeMap<String, Vec<u8>>,
        agents: &BTreeMap<String, PathBuf>,
    ) -> Self {
        let behind = source.remote.split_once("://").map_or(&source.remote[..], |(_, rest)| rest);
        let host = behind.split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let own = secrets.get(&format!("GIT_AUTH_TOKEN.{host}"));
        Self {
            token: own.or_else(|| secrets.get("GIT_AUTH_TOKEN")).cloned(),
            ssh_agent: agents.get("default").cloned(),
            keeps_git_dir: false,
            is_own: false,
        }
    }
}

/// The git program in one work tree.
struct Git<'a> {
    tree: &'a Path,
    access: &'a GitAccess,
    /// Where the repository is; over HTTP without who asks, so that neither the list of processes nor
    /// `.git` tells it.
    remote: Cow<'a, str>,
    /// Who asks, if the address says so: a name and a password.
    who: Option<(String, String)>,
}

impl<'a> Git<'a> {
    fn new(tree: &'a Path, source: &'a GitSource, access: &'a GitAccess) -> Self {
        let (remote, who) = match is_http(&source.remote) {
            true => oci::without_credentials(&source.remote),
            false => (Cow::Borrowed(&*source.remote), None),
        };
        Self { tree, access, remote, who }
    }
}

fn is_http(remote: &str) -> bool {
    remote.starts_with("http://") || remote.starts_with("https://")
}

/// The server of a repository, as git's settings name it: it alone gets what proves who asks, since
/// submodules may be anywhere.
fn scope(remote: &str) -> Option<String> {
    let (scheme, rest) = remote.split_once("://").filter(|_| is_http(remote))?;
    let host = rest.split('/').next()?;
    Some(format!("{scheme}://{host}/"))
}

impl Engine {
    /// Gets the files of a repository, and the commit that they are of.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no git program, or not what the address names;
    /// [`Kind::Invalid`] if git fails, or the commit is another one than was said.
    pub fn fetch_context(
        &self,
        source: &GitSource,
        access: &GitAccess,
    ) -> Result<(ContextArchive, String)> {
        let mut context = self.empty_context()?;
        let tree = context.path().to_owned();
        fs::create_dir(&tree).doing(|| format!("create {}", tree.display()))?;
        let git = Git::new(&tree, source, access);
        let commit = git.check_out(source)?;
        let committed_s = git.time();
        let keeps_git_dir = source.keeps_git_dir.unwrap_or(access.keeps_git_dir);
        if !keeps_git_dir {
            let own = tree.join(GIT_DIR);
            fs::remove_dir_all(&own).doing(|| format!("remove {}", own.display()))?;
        }
        level(&tree, keeps_git_dir)?;
        context.enter(&inside(&tree, source)?, committed_s);
        Ok((context, commit))
    }
}

/// When the last commit of the repository that a directory is in was made, in seconds since 1970;
/// `None` if it is in none of the user's own.
#[must_use]
pub fn commit_time(directory: &Path) -> Option<i64> {
    let access = GitAccess::default();
    Git { tree: directory, access: &access, remote: Cow::Borrowed(""), who: None }.time()
}

impl Git<'_> {
    /// When the commit that is checked out was made.
    fn time(&self) -> Option<i64> {
        let log = ["log", "-1", "--no-show-signature", "--format=%ct", "HEAD", "--"];
        self.run(&log, &|| self.shown()).ok()?.trim().parse().ok()
    }

    /// Makes the work tree what the address means; the commit.
    fn check_out(&self, source: &GitSource) -> Result<String> {
        let what = || self.shown();
        self.run(&["init", "--quiet", "--template=", "."], &what)?;
        // Addresses of submodules may be relative to it.
        self.run(&["config", "remote.origin.url", &*self.remote], &what)?;
        let wanted = source.reference.as_deref().unwrap_or(HEAD);
        let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", &*self.remote, wanted];
        let commit = match self.run(&shallow, &what) {
            Ok(_) => self.commit(FETCHED)?,
            Err(error) if error.kind() == Kind::NotFound => return Err(error),
            Err(refused) => self.fetch_all(wanted).map_err(|_| refused)?,
        };
        if let Some(checksum) = &source.checksum
            && !commit.starts_with(checksum)
        {
            let message =
                format!("{}: expected checksum to match {checksum}, got {commit}", self.shown());
            return Err(Error::new(Kind::Invalid, message).hint("it was changed, or tampered with"));
        }
        self.run(&["checkout", "--quiet", "--detach", &commit, "--"], &what)?;
        if source.with_submodules && self.tree.join(".gitmodules").exists() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            self.run(&update, &what)
                .map_err(|error| error.hint("?submodules=false leaves submodules out"))?;
        }
        Ok(commit)
    }

    /// The repository, for people.
    fn shown(&self) -> String {
        oci::redacted(&self.remote).into_owned()
    }

    /// Gets everything, for servers that give no single commit, and for the beginnings of digests.
    fn fetch_all(&self, wanted: &str) -> Result<String> {
        let head = format!("+{HEAD}:{REMOTE_HEAD}");
        let (branches, tags) = ("+refs/heads/*:refs/remotes/cais/*", "+refs/tags/*:refs/tags/*");
        let fetch = ["fetch", "--quiet", "--", &*self.remote, branches, tags, &head];
        self.run(&fetch, &|| self.shown())?;
        if wanted == HEAD {
            return self.commit(REMOTE_HEAD);
        }
        let branch = wanted.strip_prefix("refs/heads/").unwrap_or(wanted);
        self.commit(&format!("refs/remotes/cais/{branch}")).or_else(|_| self.commit(wanted))
    }

    fn commit(&self, name: &str) -> Result<String> {
        let name = format!("{name}^{{commit}}");
        let parse = ["rev-parse", "--quiet", "--verify", "--end-of-options", &name];
        Ok(self.run(&parse, &|| name.clone())?.trim().to_owned())
    }

    /// Runs git; what it wrote.
    fn run(&self, arguments: &[&str], what: &dyn Fn() -> String) -> Result<String> {
        let mut command = self.command();
        let ran = command.args(arguments).output();
        let output = match ran {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("cannot get {}: there is no git program", what());
                return Err(Error::new(Kind::NotFound, message)
                    .hint("install git, or give the context as a directory or an archive"));
            }
            ran => ran.doing(|| "run git".into())?,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().take(COMPLAINT_LINES_MAX).collect();
        Err(Error::new(
            Kind::Invalid,
            format!("git {} {}: {}", arguments[0], what(), oci::redacted(&said.join("; "))),
        ))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir(self.tree).stdin(Stdio::null());
        let is_own = self.access.is_own;
        for name in KEPT.into_iter().filter(|name| is_own || !OWN.contains(name)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(socket) = &self.access.ssh_agent {
            command.env("SSH_AUTH_SOCK", socket);
        }
        // Nobody may be asked for anything.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "true");
        let ssh = match is_own {
            true => "ssh -o BatchMode=yes",
            false => "ssh -F none -o IdentityFile=none -o BatchMode=yes",
        };
        if !is_own {
            // Nor is its .netrc.
            command.env("HOME", "/dev/null");
        }
        command.env("GIT_SSH_COMMAND", ssh).env("LC_ALL", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_ALLOW_PROTOCOL", PROTOCOLS).env("GIT_PROTOCOL_FROM_USER", "0");
        let mut settings = vec![
            ("core.hooksPath".to_owned(), "/dev/null".to_owned()),
            ("core.fsmonitor".to_owned(), "false".to_owned()),
            ("core.autocrlf".to_owned(), "false".to_owned()),
            ("init.defaultBranch".to_owned(), "main".to_owned()),
            ("advice.detachedHead".to_owned(), "false".to_owned()),
        ];
        let token = || Some([b"x-access-token:", &self.access.token.as_ref()?[..]].concat());
        let own = self.who.as_ref().map(|(user, password)| format!("{user}:{password}").into());
        if let (Some(proof), Some(scope)) = (own.or_else(token), scope(&self.remote)) {
            let proof = base64::engine::general_purpose::STANDARD.encode(proof);
            let key = format!("http.{scope}.extraHeader");
            settings.push((key, format!("Authorization: basic {proof}")));
        }
        // In the environment and not among the arguments, which everybody can read.
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }
}

/// Gives everything the modes that git knows, whatever our umask, and takes away what submodules say
/// about where they come from.
fn level(directory: &Path, keeps_git_dir: bool) -> Result<()> {
    let doing = || format!("settle {}", directory.display());
    for entry in fs::read_dir(directory).doing(doing)? {
        let entry = entry.doing(doing)?;
        let (path, kind) = (entry.path(), entry.file_type().doing(doing)?);
        if entry.file_name() == GIT_DIR {
            if !keeps_git_dir {
                fs::remove_file(&path).doing(doing)?;
            }
        } else if kind.is_dir() {
            level(&path, keeps_git_dir)?;
        } else if kind.is_file() {
            let executable = entry.metadata().doing(doing)?.permissions().mode() & 0o111 != 0;
            let mode = if executable { DIRECTORY_MODE } else { FILE_MODE };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).doing(doing)?;
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE)).doing(doing)
}

/// The directory that is meant, wherever links lead in the tree, but never outside.
fn inside(tree: &Path, source: &GitSource) -> Result<PathBuf> {
    let directory = source.directory.trim_matches('/');
    if directory.is_empty() {
        return Ok(tree.to_owned());
    }
    let root = File::open(tree).doing(|| format!("open {}", tree.display()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&root, directory, flags, Mode::empty(), resolve).map_err(|error| {
        let remote = oci::redacted(&source.remote);
        let what = format!("find the directory {directory} in {remote}");
        Error::caused(Kind::NotFound, what, std::io::Error::from(error))
    })?;
    let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
    path.doing(|| format!("find {directory}"))
}
