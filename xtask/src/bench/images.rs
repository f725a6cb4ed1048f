//! Images beyond their first pull: many layers, removal, push, serving, differences.

use std::cell::RefCell;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::contest::{Contestant, hold};
use super::pull::{self, DISK};
use super::report::Section;
use super::world::{World, output, version};

/// Layers of the image that has many.
const LAYERS: usize = 14;
/// Of the blob that one client reads, and of the one that many do.
const BLOB_BYTES: u64 = 1 << 30;
const SHARED_BLOB_BYTES: u64 = 128 << 20;
const CLIENTS: usize = 64;
/// Files of the image, and how many of them a container changes.
const FILES: usize = 100_000;
const CHANGED: usize = 10;
/// Until a registry answers.
const START_MAX: Duration = Duration::from_secs(10);
const DOCKER_REGISTRY: &str = "docker-registry";

/// Everything that `bench images` shows.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Vec<Section>> {
    pull::make_disk(world)?;
    Ok(vec![
        many_layers(world, rounds)?,
        removal(world, rounds)?,
        push(world, rounds, Registry::docker, DOCKER_REGISTRY)?,
        push(world, rounds, Registry::cais, "registry in the box")?,
        serving(world, rounds)?,
        difference(world, rounds)?,
    ])
}

/// Pulls an image of many layers.
fn many_layers(world: &World, rounds: usize) -> Result<Section> {
    let registry = Registry::docker(world, "layers-registry", 5901)?;
    let engine = || world.cais("layers");
    output(engine().args(["pull", "--quiet", "busybox"]))?;
    output(engine().args(["tag", "busybox", "layer:0"]))?;
    let script = "for i in $(seq 500); do head -c 4096 /dev/urandom >/data-$0-$i; done";
    for layer in 1..LAYERS {
        let (from, to) = (format!("layer:{}", layer - 1), format!("layer:{layer}"));
        let name = format!("layer-{layer}");
        let mut run = engine();
        run.args(["run", "--network", "none", "--name", &name, &from, "sh", "-c", script]);
        output(run.arg(layer.to_string()))?;
        output(engine().args(["commit", &name, &to]))?;
        output(engine().args(["rm", &name]))?;
    }
    let image = format!("{}/layers:latest", registry.address);
    output(engine().args(["tag", &format!("layer:{}", LAYERS - 1), &image]))?;
    output(engine().args(["push", "--quiet", &image]))?;
    let cais = |round| {
        pull::settle();
        let mut command = world.cais(&format!("{DISK}/layers-{round}"));
        command.args(["pull", "--quiet", &image]);
        Ok(command)
    };
    let skopeo = |round| {
        let mut command = pull::skopeo(world, &format!("layers-storage-{round}"))?;
        pull::settle();
        command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
        command.arg(format!("docker://{image}")).arg("containers-storage:layers:latest");
        Ok(command)
    };
    let times = hold(&mut contestants(cais, ("skopeo", skopeo)), rounds)?;
    let notes = vec![format!("{LAYERS} layers of 500 files of 4 KiB each, over busybox")];
    Ok(Section::new("pull of 14 layers", &times, notes))
}

/// Removes the image of 20,000 files.
fn removal(world: &World, rounds: usize) -> Result<Section> {
    let cais = |round| {
        let engine = || world.cais(&format!("{DISK}/removal-{round}"));
        output(engine().args(["pull", "--quiet", "many-files"]))?;
        pull::settle();
        let mut command = engine();
        command.args(["rmi", "many-files"]);
        Ok(command)
    };
    let podman = |round| {
        let name = format!("removal-storage-{round}");
        let mut copy = pull::skopeo(world, &name)?;
        copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
        copy.arg(format!("docker://{}/library/many-files:latest", world.registry));
        output(copy.arg("containers-storage:localhost/many-files:latest"))?;
        pull::settle();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_STORAGE_CONF", world.path(DISK).join(name).join("storage.conf"));
        command.args(["rmi", "localhost/many-files:latest"]);
        Ok(command)
    };
    let times = hold(&mut contestants(cais, ("podman", podman)), rounds)?;
    let notes = vec!["the files are on the disk before they are removed".to_owned()];
    Ok(Section::new("`rmi many-files`", &times, notes))
}

/// Starts a registry: below a name, at a port.
type Start = fn(&World, &str, u16) -> Result<Registry>;

/// Pushes the image of 450 MB to a registry that has nothing.
fn push(world: &World, rounds: usize, start: Start, kind: &str) -> Result<Section> {
    let engine = || world.cais("push");
    output(engine().args(["pull", "--quiet", "many-files"]))?;
    let registry = RefCell::new(None);
    let fresh = |name: String| -> Result<String> {
        // The one before ends first: it holds the port.
        drop(registry.take());
        let new = start(world, &format!("{name}-{}", kind.replace(' ', "-")), 5902)?;
        let image = format!("{}/many-files:latest", new.address);
        registry.replace(Some(new));
        pull::settle();
        Ok(image)
    };
    let cais = |round| {
        let image = fresh(format!("push-cais-{round}"))?;
        output(engine().args(["tag", "many-files", &image]))?;
        let mut command = engine();
        command.args(["push", "--quiet", &image]);
        Ok(command)
    };
    let skopeo = |round| {
        let image = fresh(format!("push-skopeo-{round}"))?;
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        let layout = world.layout.display();
        command.arg(format!("oci:{layout}:many-files:latest")).arg(format!("docker://{image}"));
        Ok(command)
    };
    let times = hold(&mut contestants(cais, ("skopeo", skopeo)), rounds)?;
    drop(registry);
    let notes = vec![
        format!("to a {kind} that is new and empty for each turn; skopeo copies from an OCI layout"),
        "the registry's own processor time is not counted, but both wait for it: docker-registry takes 0.9 s of it or more to hash and keep these layers, whoever sends them".to_owned(),
    ];
    Ok(Section::new(&format!("push of 450 MB to a {kind}"), &times, notes))
}

/// Reads blobs from the registry in the box, and from docker-registry.
fn serving(world: &World, rounds: usize) -> Result<Section> {
    let ours = Registry::cais(world, "serving", 5903)?;
    let theirs = Registry::docker(world, "serving-docker", 5904)?;
    let mut rows = Vec::new();
    for (title, bytes, clients) in [
        ("1 client, 1 GiB", BLOB_BYTES, 1),
        ("64 clients, 128 MiB each", SHARED_BLOB_BYTES, CLIENTS),
    ] {
        let digest = ours.fill(world, bytes)?;
        ensure!(theirs.fill(world, bytes)? == digest, "both have the same blob");
        let read = |registry: &Registry| {
            let url = format!("http://{}/v2/blob/blobs/{digest}", registry.address);
            let script = "for i in $(seq $1); do curl -sfo /dev/null $0 & done; wait";
            let mut command = Command::new("sh");
            command.args(["-c", script, &url, &clients.to_string()]);
            command
        };
        let mut all = contestants(|_| Ok(read(&ours)), (DOCKER_REGISTRY, |_| Ok(read(&theirs))));
        let times = hold(&mut all, rounds)?;
        let median = |at: usize| super::contest::Spread::of(&times[at].wall).median;
        let ratio = format!("{:.2}", median(0) / median(1));
        rows.push((
            title.to_owned(),
            [format!("{:.0}", median(0)), format!("{:.0}", median(1)), ratio],
        ));
    }
    let memory = [ours.memory_peak()?, theirs.memory_peak()?, String::new()];
    rows.push(("memory at its peak, MiB".to_owned(), memory));
    let notes = vec![
        "wall time of curl, in milliseconds, the median; both servers are up all the time"
            .to_owned(),
    ];
    let columns = ["cais", "docker-registry", "cais / docker-registry"];
    Ok(Section::of_columns("serving blobs", &columns, &rows, notes))
}

/// What a container changed that has many files and changed few.
fn difference(world: &World, rounds: usize) -> Result<Section> {
    let engine = || world.cais("difference");
    let tree = world.path("difference-tree");
    output(engine().args(["pull", "--quiet", "busybox"]))?;
    for file in 0..FILES {
        let directory = tree.join(format!("data/{}", file / 1000));
        if file % 1000 == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(file.to_string()), file.to_string())?;
    }
    let archive = world.path("difference.tar");
    output(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."))?;
    fs::remove_dir_all(&tree)?;
    output(engine().arg("import").arg(&archive).arg("files"))?;
    let change = format!("for i in $(seq {CHANGED}); do echo x >>/data/$i/${{i}}000; done");
    let mut run = engine();
    let busybox = "/usr/bin/busybox:/bin/busybox:ro";
    run.args(["run", "--network", "none", "--name", "changed", "-v", busybox, "files"]);
    output(run.args(["/bin/busybox", "sh", "-c", &change]))?;
    let cais = |_| {
        let mut command = engine();
        command.args(["diff", "changed"]);
        Ok(command)
    };
    let mut all = [Contestant { name: "cais".into(), command: Box::new(cais), daemon: None }];
    let times = hold(&mut all, rounds.max(20))?;
    Ok(Section::new("`diff` of a container that changed 10 files of 100,000", &times, Vec::new()))
}

/// Ours, and the other where it is installed.
fn contestants<'a>(
    cais: impl FnMut(usize) -> Result<Command> + 'a,
    (name, other): (&str, impl FnMut(usize) -> Result<Command> + 'a),
) -> Vec<Contestant<'a>> {
    let ours = Contestant { name: "cais".into(), command: Box::new(cais), daemon: None };
    let mut all = vec![ours];
    if name == DOCKER_REGISTRY || version(name).is_some() {
        all.push(Contestant { name: name.into(), command: Box::new(other), daemon: None });
    }
    all
}

/// A registry that this benchmark has started; dropping it ends it.
struct Registry {
    server: Child,
    address: String,
}

impl Registry {
    /// Debian's, with what it keeps in a new directory on the benchmark's disk.
    fn docker(world: &World, name: &str, port: u16) -> Result<Self> {
        let directory = world.path(DISK).join(name);
        fs::create_dir(&directory).context("make a directory for a registry")?;
        let configuration = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\n\
             storage: {{ filesystem: {{ rootdirectory: {:?} }} }}\nhttp: {{ addr: \"127.0.0.1:{port}\" }}\n",
            directory.join("data")
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new(DOCKER_REGISTRY);
        command.arg("serve").arg(configuration);
        Self::start(command, port)
    }

    fn cais(world: &World, name: &str, port: u16) -> Result<Self> {
        let mut command = world.cais(&format!("{DISK}/{name}"));
        let address = format!("127.0.0.1:{port}");
        command.args(["registry", "serve", "--quiet", "--addr", &address]);
        Self::start(command, port)
    }

    fn start(mut command: Command, port: u16) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().with_context(|| format!("start {command:?}"))?;
        let registry = Self { server, address: format!("127.0.0.1:{port}") };
        let start = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            ensure!(start.elapsed() < START_MAX, "{command:?} does not answer");
            std::thread::yield_now();
        }
        Ok(registry)
    }

    /// Uploads a blob of so many bytes, always the same; its digest.
    fn fill(&self, world: &World, bytes: u64) -> Result<String> {
        let path = world.path(&format!("blob-{bytes}"));
        if !Path::new(&path).exists() {
            let script = "head -c $1 /dev/urandom >$0";
            let file = path.to_string_lossy();
            output(Command::new("sh").args(["-c", script, &file, &bytes.to_string()]))?;
        }
        let sum = output(Command::new("sha256sum").arg(&path))?;
        let digest = format!("sha256:{}", sum.split(' ').next().context("read a digest")?);
        let script = "at=$(curl -sfX POST -D - -o /dev/null http://$0/v2/blob/blobs/uploads/ | \
                      tr -d '\\r' | sed -n 's/^[Ll]ocation: //p'); \
                      case $at in /*) at=http://$0$at;; esac; \
                      case $at in *\\?*) at=$at'&';; *) at=$at'?';; esac; \
                      curl -sfX PUT -H 'Content-Type: application/octet-stream' -T $2 ${at}digest=$1";
        let file = path.to_string_lossy();
        output(Command::new("sh").args(["-c", script, &self.address, &digest, &file]))?;
        Ok(digest)
    }

    /// The most memory that the server has had, in MiB.
    fn memory_peak(&self) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.server.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line.context("find VmHWM")?.trim().trim_end_matches(" kB").parse()?;
        Ok(format!("{:.0}", kib / 1024.0))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
