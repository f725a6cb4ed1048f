//! One test's world: a fake host with a registry, and state that is its own.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use oci::ContainerConfig;

use crate::archive::Entry;
use crate::fake_host::FakeHost;
use crate::leak::{self, Footprint};
use crate::pool::{IMAGES, Pool};
use crate::process::{Outcome, Running, shown};
use crate::registry::{self, RegistryServer, Storage};
use crate::saved;

/// Where the registry of every fake host listens.
const REGISTRY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 5000);

/// Where programs are found, by the binary under test too.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A place to run the binary in.
///
/// Dropping it removes every container, then demands that nothing is left: no mount, process,
/// control group, network link, rule or file of a container. All functions panic when something
/// outside the binary fails, since no test can go on then.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    before: Footprint,
    // Dropped in this order: the host and all that runs in it first, then its files.
    _registry: RegistryServer,
    fake: FakeHost,
    /// What cables to other hosts end in, and this one's address there.
    link: Option<(Arc<FakeHost>, Ipv4Addr)>,
    directory: tempfile::TempDir,
}

impl Sandbox {
    /// A fresh fake host, without images or containers, whose Docker Hub is the pool.
    ///
    /// # Panics
    /// Not root, or the pool cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making a world is no default")]
    pub fn new() -> Self {
        Self::of(binary())
    }

    /// Hosts on one link, as with a switch between them.
    ///
    /// # Panics
    /// As of [`Self::new`].
    #[must_use]
    pub fn on_one_link(count: u8) -> Vec<Self> {
        let switch = start_fake();
        switch
            .script("ip link add lan type bridge && ip link set lan up")
            .expect("a switch can be made");
        let switch = Arc::new(switch);
        let wire = |number: u8, fake: &FakeHost| {
            let port = format!("port{number}");
            switch.cable(&port, fake)?;
            switch.script(&format!("ip link set {port} master lan && ip link set {port} up"))?;
            let address = Ipv4Addr::new(192, 0, 2, number);
            fake.script(&format!("ip addr add {address}/24 dev eth0 && ip link set eth0 up"))?;
            Ok(address)
        };
        Self::wired(count, &switch, wire)
    }

    /// Hosts on a link each, with a router between them.
    ///
    /// # Panics
    /// As of [`Self::new`].
    #[must_use]
    pub fn behind_a_router(count: u8) -> Vec<Self> {
        let router = start_fake();
        router.script("echo 1 > /proc/sys/net/ipv4/ip_forward").expect("a router can be made");
        let router = Arc::new(router);
        let wire = |number: u8, fake: &FakeHost| {
            let port = format!("port{number}");
            router.cable(&port, fake)?;
            router.script(&format!(
                "ip addr add 198.18.{number}.1/24 dev {port} && ip link set {port} up"
            ))?;
            let address = Ipv4Addr::new(198, 18, number, 2);
            fake.script(&format!(
                "ip addr add {address}/24 dev eth0 && ip link set eth0 up && \
                 ip route add default via 198.18.{number}.1"
            ))?;
            Ok(address)
        };
        Self::wired(count, &router, wire)
    }

    fn wired(
        count: u8,
        middle: &Arc<FakeHost>,
        wire: impl Fn(u8, &FakeHost) -> anyhow::Result<Ipv4Addr>,
    ) -> Vec<Self> {
        let one = |number: u8| {
            let fake = start_fake();
            let address = wire(number, &fake).expect("hosts can be wired");
            Self::in_host(fake, binary(), Some((middle.clone(), address)))
        };
        (1..=count).map(one).collect()
    }

    /// Its address, by which others on its link reach it.
    ///
    /// # Panics
    /// It has no link to others.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.link.as_ref().expect("the host is wired to others").1
    }

    fn of(binary: PathBuf) -> Self {
        Self::in_host(start_fake(), binary, None)
    }

    fn in_host(fake: FakeHost, binary: PathBuf, link: Option<(Arc<FakeHost>, Ipv4Addr)>) -> Self {
        let registry = registry_in(&fake, REGISTRY.into(), Storage::Fixed(&pool().storage()));
        let directory = tempfile::Builder::new().prefix("cais-test-").tempdir();
        let directory = directory.expect("a directory for the sandbox can be made");
        for name in ["root", "run", "home", "work"] {
            fs::create_dir(directory.path().join(name)).expect("a fresh directory takes entries");
        }
        fs::write(directory.path().join("config.toml"), registry.mirror_configuration())
            .expect("a configuration can be written");
        let state = [directory.path().join("root"), directory.path().join("run")];
        let before = Footprint::take(&fake, &state).expect("a fresh fake host can be looked at");
        Self { binary, before, _registry: registry, fake, link, directory }
    }

    /// Makes a family of images that is [made on demand](crate::IMAGES_ON_DEMAND) ready to be
    /// pulled.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn need_family(&self, family: &str) {
        pool().make(&[family], &|_| ()).expect("a family of images can be made");
    }

    /// Runs `cais` with these arguments to its end.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    pub fn cais<const N: usize>(&self, arguments: [&str; N]) -> Outcome {
        self.start(arguments).finish()
    }

    /// Runs one line of words, as a person types it after the `$`; blanks separate, nothing quotes.
    ///
    /// # Panics
    /// It does not start with `cais`, or does not end within a minute.
    #[track_caller]
    pub fn line(&self, line: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [first, arguments @ ..] = words.as_slice() else { panic!("an empty command line") };
        assert_eq!(*first, "cais", "only cais can be run by a line");
        self.words(arguments)
    }

    /// Runs `cais` with as many arguments as a test has put together.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    pub fn words(&self, arguments: &[&str]) -> Outcome {
        self.start_words(arguments).finish()
    }

    /// Starts `cais` with these arguments.
    pub fn start<const N: usize>(&self, arguments: [&str; N]) -> Running {
        self.start_words(&arguments)
    }

    /// Starts `cais` with as many arguments as a test has put together.
    #[must_use]
    pub fn start_line(&self, arguments: &[&str]) -> Running {
        self.start_words(arguments)
    }

    /// Starts `cais` with these arguments on a terminal of its own, of so many columns and rows.
    pub fn start_on_terminal<const N: usize>(
        &self,
        arguments: [&str; N],
        size: (u16, u16),
    ) -> Running {
        let shown = shown("cais", &arguments);
        Running::start_on_terminal(&self.command(&arguments), shown, size)
    }

    /// Runs another program in the fake host, for example `ip` or `nft`.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    pub fn host<const N: usize>(&self, words: [&str; N]) -> Outcome {
        let mut command = self.fake.command(&self.work());
        command.args(words);
        Running::start(command, shown(words[0], &words[1..])).finish()
    }

    /// Runs a script of the shell in which `$E` is `cais`, in the work directory.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    #[must_use]
    pub fn shell(&self, script: &str) -> Outcome {
        self.start_script(script).finish()
    }

    /// Starts a script as [`Self::shell`] runs one.
    #[must_use]
    pub fn start_script(&self, script: &str) -> Running {
        let mut environment = self.environment();
        environment.push(format!("E={}", self.binary.display()));
        self.start_shell(&environment, script)
    }

    /// Starts a script in the work directory, with exactly this environment.
    pub(crate) fn start_shell(&self, environment: &[String], script: &str) -> Running {
        let mut command = self.fake.command(&self.work());
        command.args(["env", "--ignore-environment"]).args(environment).args(["sh", "-c", script]);
        Running::start(command, script.to_owned())
    }

    /// Writes an archive for `load` into the work directory: the image `name`, made of busybox
    /// and these layers, with a configuration that `configure` changes.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn save_image(
        &self,
        file: &str,
        name: &str,
        layers: &[Vec<Entry>],
        configure: impl FnOnce(&mut ContainerConfig),
    ) {
        let archive = saved::saved(pool(), name, layers, configure).expect("an image can be made");
        fs::write(self.work().join(file), archive).expect("the work directory takes files");
    }

    /// Writes a plain archive of these entries into the work directory.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn save_archive(&self, file: &str, entries: &[Entry]) {
        let archive = saved::archive(entries).expect("an archive can be made");
        fs::write(self.work().join(file), archive).expect("the work directory takes files");
    }

    /// Asks the probe in the fake host, outside any container.
    ///
    /// # Panics
    /// It does not answer in JSON.
    #[track_caller]
    pub fn probe<const N: usize>(&self, question: [&str; N]) -> serde_json::Value {
        let mut command = self.fake.command(&self.work());
        command.arg(program("probe")).args(question);
        let outcome = Running::start(command, shown("probe", &question)).finish();
        serde_json::from_str(outcome.ok()).unwrap_or_else(|error| panic!("{error}:\n{outcome}"))
    }

    /// Where the probe lies, for mounting it into a container.
    #[must_use]
    pub fn probe_program(&self) -> PathBuf {
        program("probe")
    }

    /// The directory that commands run in; a test may keep its files there.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// A name that no other sandbox has at the same time.
    pub(crate) fn name(&self) -> String {
        let path = self.directory.path().file_name();
        path.expect("a temporary directory has a name").to_string_lossy().into_owned()
    }

    /// The directory of the binary's state: `CAIS_ROOT`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A path of the fake host as this machine sees it, with what is mounted there.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.fake.path(&path.to_string_lossy())
    }

    /// Adds to the configuration file.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn configure(&self, toml: &str) {
        let path = self.directory.path().join("config.toml");
        let so_far = fs::read_to_string(&path).expect("the sandbox has a configuration");
        fs::write(&path, format!("{so_far}\n{toml}\n")).expect("a configuration can be written");
    }

    /// Starts a registry on `port` of 127.0.0.1 in the fake host, with the images that lie in
    /// `storage`, a directory in docker-registry's own layout; pushes add to it.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn registry(&self, port: u16, storage: &Path) -> RegistryServer {
        registry_in(&self.fake, (Ipv4Addr::LOCALHOST, port).into(), Storage::Growing(storage))
    }

    /// Connects to an address in the fake host's network.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(&self, address: SocketAddr) -> anyhow::Result<std::net::TcpStream> {
        self.fake.in_network(|| Ok(std::net::TcpStream::connect(address)?))
    }

    /// Makes the image `probe:latest`, which holds nothing but the static program `/probe`.
    ///
    /// # Panics
    /// The binary cannot import it.
    #[track_caller]
    pub fn import_probe(&self) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        let probe = fs::read(program("probe")).expect("the probe is built");
        header.set_size(probe.len() as u64);
        let file = fs::File::create(self.work().join("probe.tar"))
            .expect("the work directory takes files");
        let mut archive = tar::Builder::new(file);
        archive
            .append_data(&mut header, "probe", probe.as_slice())
            .expect("an archive can be written");
        archive.finish().expect("an archive can be written");
        let _ = self.cais(["import", "probe.tar", "probe:latest"]).ok();
    }

    fn start_words(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), shown("cais", arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.fake.command(&self.work());
        // Through env, so that the environment is the same whoever starts the command.
        command.args(["env", "--ignore-environment"]).args(self.environment());
        command.arg(&self.binary).args(arguments);
        command
    }

    /// What the binary finds its state by.
    fn environment(&self) -> Vec<String> {
        let own = |name: &str, path: &str| {
            let path = self.directory.path().join(path);
            format!("{name}={}", path.display())
        };
        vec![
            PATH.to_owned(),
            own("HOME", "home"),
            own("CAIS_ROOT", "root"),
            own("CAIS_RUN", "run"),
            own("CAIS_CONFIG", "config.toml"),
        ]
    }

    /// Removes all containers and tells what is left after that.
    fn clear(&self) -> Result<(), String> {
        let list = self.cais(["ps", "--all", "--quiet", "--no-trunc"]);
        let ids: Vec<&str> = list.stdout.split_whitespace().collect();
        if list.code != 0 {
            return Err(format!("the containers cannot be listed:\n{list}"));
        }
        if !ids.is_empty() {
            let removed = self.start_words(&[&["rm", "--force"], ids.as_slice()].concat()).finish();
            if removed.code != 0 {
                return Err(format!("the containers cannot be removed:\n{removed}"));
            }
        }
        let state = [self.directory.path().join("root"), self.directory.path().join("run")];
        let left = leak::left(&self.before, &self.fake, &state).map_err(|e| format!("{e:#}"))?;
        leak::remove_groups(&left);
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("left behind on the host:\n  {}", left.join("\n  "))),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A test that fails has its own message; its world is taken down by the kernel.
        if std::thread::panicking() {
            return;
        }
        if let Err(message) = self.clear() {
            panic!("{message}");
        }
    }
}

fn start_fake() -> FakeHost {
    FakeHost::start().expect("a fake host starts; hint: run tests as root")
}

/// A registry in a fake host, answering.
fn registry_in(fake: &FakeHost, address: SocketAddr, storage: Storage<'_>) -> RegistryServer {
    registry::program(pool())
        .and_then(|program| {
            RegistryServer::launch(fake.command(Path::new("/")), &program, address, storage)
        })
        .and_then(|server| fake.in_network(|| server.ready()))
        .expect("a registry starts in the fake host")
}

/// The pool, complete.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let pool = Pool::open();
        pool.make(IMAGES, &|_| ()).expect("the pool of images can be made");
        pool
    })
}

/// The binary under test: `CAIS_BIN`, or the one that this tree builds.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CAIS_BIN").map_or_else(|| program("cais"), PathBuf::from)
}

/// A program of this workspace, built in the profile of the running test.
fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let this = std::env::current_exe().expect("a test knows its own path");
        // <target>/<triple>/<profile>/deps/<test>
        let directory = this.ancestors().nth(2).expect("tests lie below the target directory");
        let release = directory.file_name() == Some(OsStr::new("release"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--package", "cais", "--package", "testkit", "--bins"]);
        cargo.args(release.then_some("--release")).current_dir(env!("CARGO_MANIFEST_DIR"));
        crate::host::finish(&mut cargo).expect("the programs under test can be built");
        directory.to_owned()
    });
    directory.join(name)
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Stands in for the binary: says where it is, and forgets what it is told to.
    const SCRIPT: &str = r#"#!/bin/sh
        case $1 in
        ps) ;;
        size) stty size; read -r line; stty size; exit 5;;
        where) pwd; echo "$CAIS_ROOT $CAIS_RUN"; cat "$CAIS_CONFIG"; cat >&2; exit 7;;
        forget) mount -t tmpfs forgotten "$CAIS_RUN"; sleep 1000 >/dev/null 2>&1 &
        esac
    "#;

    fn sandbox(directory: &Path) -> Sandbox {
        let script = directory.join("cais");
        crate::write_script(&script, SCRIPT);
        Sandbox::of(script)
    }

    #[test]
    fn a_command_finds_its_own_state_and_registry() {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = sandbox(directory.path());
        let mut running = sandbox.start(["where"]);
        running.write("in\n");
        let outcome = running.finish();
        let work = sandbox.work();
        let root = sandbox.root();
        outcome.code(7).says("in").out(&format!(
            "{}\n{} {}\n[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\n",
            work.display(),
            root.display(),
            root.with_file_name("run").display()
        ));
        sandbox.connect(REGISTRY.into()).unwrap();
    }

    #[test]
    fn a_command_on_a_terminal_sees_its_size_change() {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = sandbox(directory.path());
        let mut running = sandbox.start_on_terminal(["size"], (90, 30));
        running.wait_for("30 90");
        running.resize(100, 40);
        running.write("go\n");
        let outcome = running.finish();
        outcome.code(5);
        assert!(outcome.stdout.contains("40 100"), "{outcome}");
    }

    #[test]
    fn what_the_binary_forgets_fails_the_test() {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = sandbox(directory.path());
        let _ = sandbox.cais(["forget"]).ok();
        let message = sandbox.clear().unwrap_err();
        assert!(message.contains("mount: ") && message.contains("(tmpfs)"), "{message}");
        assert!(message.contains("sleep 1000"), "{message}");
        // Its own complaint is made; the kernel does the rest.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sandbox)));
    }
}
