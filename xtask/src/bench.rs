//! `cargo xtask bench`: the binary beside other engines, in one run.
//!
//! Contestants take turns (A B C A B C …), after a round that is not counted, so that whatever
//! else the machine does hits all of them. Everything runs in network, mount and process namespaces
//! of its own: nothing stays on the machine, even when it is killed, and no other engine is
//! disturbed.

mod build;
mod bundle;
mod contest;
mod daily;
mod dockerd;
mod engine;
mod images;
mod limit;
mod memory;
mod pull;
mod report;
mod runtime;
mod start;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use report::Section;
use world::World;

/// What can be measured.
const NAMES: &[&str] =
    &["run", "bridge", "engine", "pull", "images", "build", "monitor", "size", "runtime"];
/// Unless the command line says otherwise.
const ROUNDS: usize = 30;
/// The same for a container of the OCI runtime, which is a matter of milliseconds.
const ROUNDS_RUNTIME: usize = 200;
const ROUNDS_MAX: usize = 1000;
/// Set for the process that is in namespaces of its own, to the paths of the programs under test.
const INSIDE: &str = "CAIS_BENCH_PROGRAMS";

/// On a disk, unlike /tmp on many machines, and short: paths of Docker's sockets must be.
const PLACE: &str = "/var/tmp";

/// Runs what follows its first argument, the place for all files, in namespaces of its own; whoever
/// ends it, or the program that started it, ends all processes in there. Their control groups are
/// the machine's, and go last.
const SUPERVISE: &str = r#"
end() {
  trap '' HUP INT TERM
  kill -KILL "$inner" 2>/dev/null
  wait "$inner" 2>/dev/null
  for try in 1 2 3 4 5 6 7 8 9 10; do
    groups=$(find /sys/fs/cgroup -depth -type d -path '*/cais-bench*')
    [ -z "$groups" ] && break
    rmdir $groups 2>/dev/null || sleep 0.2
  done
  rm -rf "$place"
}
place=$1; shift
trap 'end; exit 1' HUP INT TERM
unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private \
  sh -c 'ip link set lo up && "$@"; exit $?' sh "$@" &
inner=$!
wait "$inner"
code=$?
end
exit $code
"#;

/// What was asked on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    names: Vec<String>,
    rounds: Option<usize>,
    /// Where youki is.
    youki: String,
    write: bool,
}

/// Runs `cargo xtask bench` with `args`.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<bool> {
    let options = Options::parse(args)?;
    let Some(programs) = std::env::var_os(INSIDE) else { return enter(root, args) };
    let programs: Vec<PathBuf> = std::env::split_paths(&programs).collect();
    let [cais, pool] = programs.as_slice() else { bail!("{INSIDE} names two programs") };
    let world = World::make(cais, pool, &options.youki)?;
    let mut sections = Vec::new();
    // In this order: the last one cannot be followed by others.
    for name in NAMES.iter().filter(|name| options.names.iter().any(|asked| asked == *name)) {
        eprintln!("bench: {name}");
        sections.extend(measure(name, &world, options.rounds)?);
    }
    let page = report::page(&sections, &world)?;
    println!("{page}");
    if options.write {
        let path = root.join("docs/benchmarks.md");
        let page = match options.names.len() == NAMES.len() {
            true => page,
            false => report::merged(&std::fs::read_to_string(&path)?, &sections, &world)?,
        };
        std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(true)
}

fn measure(name: &str, world: &World, rounds: Option<usize>) -> Result<Vec<Section>> {
    if name == "runtime" {
        return runtime::measure(world, rounds.unwrap_or(ROUNDS_RUNTIME));
    }
    let rounds = rounds.unwrap_or(ROUNDS);
    if name == "engine" {
        return daily::measure(world, rounds);
    }
    if name == "build" {
        return build::measure(world, rounds);
    }
    if name == "images" {
        return images::measure(world, rounds.div_ceil(10));
    }
    let section = match name {
        "run" => start::alone(world, rounds),
        "bridge" => start::bridge(world, rounds),
        "pull" => pull::measure(world, rounds.div_ceil(10)),
        "monitor" => memory::monitor(world),
        _ => memory::size(world),
    };
    Ok(vec![section?])
}

/// Builds the programs, then runs this program again in namespaces of its own.
fn enter(root: &Path, args: &[&str]) -> Result<bool> {
    let programs = compile(root)?;
    let made = Command::new(&programs[1]).args(["make", "busybox", "many-files"]).status();
    ensure!(made.context("make the pool of images")?.success(), "the pool cannot be made");
    let this = std::env::current_exe().context("find this program")?;
    let place = tempfile::Builder::new().prefix("cais-bench-").tempdir_in(PLACE)?;
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "sh", "-c", SUPERVISE, "sh"])
        .arg(place.path())
        .arg(this)
        .arg("bench")
        .args(args)
        .env(INSIDE, std::env::join_paths(programs)?)
        .env(world::PLACE, place.path())
        .status()
        .context("start setpriv; hint: this needs util-linux and root")?;
    Ok(status.success())
}

/// The release builds of the binary and of the pool's program.
fn compile(root: &Path) -> Result<[PathBuf; 2]> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "cais", "--package", "testkit"]);
    command.args(["--package", "runtime", "--bin", "cais", "--bin", "pool", "--bin", "floor"]);
    command.args(["--bin", "oci-run", "--message-format", "json"]);
    let output = command.current_dir(root).stderr(Stdio::inherit()).output();
    let output = output.context("run cargo build")?;
    ensure!(output.status.success(), "the release build failed");
    let text = String::from_utf8(output.stdout).context("read what cargo built")?;
    Ok([executable(&text, "cais")?, executable(&text, "pool")?])
}

/// Where cargo's messages say that a program lies.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("find the program {name} among what cargo built"))
}

impl Options {
    fn parse(args: &[&str]) -> Result<Self> {
        let mut options =
            Self { names: Vec::new(), rounds: None, youki: "youki".into(), write: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--write" => options.write = true,
                "--rounds" => {
                    let rounds = args.next().and_then(|text| text.parse().ok());
                    let rounds = rounds
                        .filter(|rounds| (1..=ROUNDS_MAX).contains(rounds))
                        .with_context(|| format!("--rounds takes 1 to {ROUNDS_MAX}"))?;
                    options.rounds = Some(rounds);
                }
                "--youki" => {
                    let path = args.next().context("--youki takes a path")?;
                    options.youki = (*path).to_owned();
                }
                name if NAMES.contains(&name) => options.names.push(name.to_owned()),
                other => bail!("cannot measure {other:?}; there are {}", NAMES.join(", ")),
            }
        }
        if options.names.is_empty() {
            options.names = NAMES.iter().map(|name| (*name).to_owned()).collect();
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_in_any_order() {
        let all = Options::parse(&[]).unwrap();
        assert_eq!((all.names.len(), all.rounds, all.write), (NAMES.len(), None, false));
        let words = ["pull", "--rounds", "5", "--youki", "/y", "--write", "run"];
        let some = Options::parse(&words).unwrap();
        assert_eq!(some.names, ["pull", "run"]);
        assert_eq!((some.rounds, some.youki.as_str(), some.write), (Some(5), "/y", true));
        for wrong in
            [&["walk"][..], &["--rounds"], &["--rounds", "0"], &["--rounds", "many"], &["--youki"]]
        {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn programs_are_found_in_messages() {
        let messages = "{\"target\":{\"name\":\"cais\"},\"executable\":null}\n\
            {\"target\":{\"name\":\"cais\"},\"executable\":\"/t/cais\"}\nnoise\n";
        assert_eq!(executable(messages, "cais").unwrap(), Path::new("/t/cais"));
        assert!(executable(messages, "pool").is_err());
    }
}
