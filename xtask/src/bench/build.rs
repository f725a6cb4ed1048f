//! Builds, beside buildah and Docker's classic builder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{Contestant, Spread, Times, hold};
use super::dockerd::Dockerd;
use super::report::Section;
use super::world::{RUN, World, output, version};

const ROOT: &str = "build";
const BUILDAH: &str = "buildah";
/// Files of the large context.
const FILES: usize = 100_000;
const FILES_IN_DIRECTORY: usize = 1000;
/// Files that a command makes where the cost of reproducibility is measured.
const MADE: usize = 5000;
/// Commands of the Dockerfile that does nothing often.
const COMMANDS: usize = 10;

const SMALL: &str = "FROM busybox
WORKDIR /app
RUN echo dependencies >/dependencies
COPY package.json .
RUN cp package.json /installed
COPY . .
RUN true
CMD [\"cat\", \"main.txt\"]
";
const LATE: &str = "FROM busybox
RUN for i in 1 2 3 4 5; do echo $i >/dependency-$i; done
WORKDIR /app
COPY package.json .
RUN cp package.json /installed
COPY . .
CMD [\"cat\", \"main.txt\"]
";
/// A second or two of one processor.
const BURN: &str = "i=0; while [ $i -lt 1500000 ]; do i=$((i+1)); done";

/// Who builds.
struct Builders<'a> {
    world: &'a World,
    dockerd: Option<Dockerd>,
    has_buildah: bool,
}

/// What is built, and how.
#[derive(Clone, Copy)]
struct Job<'a> {
    context: &'a Path,
    flags: &'a [&'a str],
}

/// Everything that `bench build` shows.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Vec<Section>> {
    let builders = Builders::ready(world)?;
    Ok(vec![
        builders.cached(rounds)?,
        builders.late_change(rounds)?,
        builders.large_context(rounds.div_ceil(10))?,
        builders.commands(rounds.div_ceil(5))?,
        builders.parallel(rounds.div_ceil(10))?,
        builders.reproducibility(rounds.div_ceil(3))?,
    ])
}

impl<'a> Builders<'a> {
    /// All of them, each with busybox.
    fn ready(world: &'a World) -> Result<Self> {
        output(world.cais(ROOT).args(["pull", "--quiet", "busybox"]))?;
        let has_buildah = version(BUILDAH).is_some() && version("skopeo").is_some();
        let builders = Self { world, dockerd: Dockerd::start(world)?, has_buildah };
        if has_buildah {
            fs::create_dir_all(world.path(BUILDAH))?;
            let mut copy = Command::new("skopeo");
            copy.env("CONTAINERS_STORAGE_CONF", builders.storage()?);
            copy.args(["--insecure-policy", "copy", "--quiet"]);
            copy.arg(format!("oci:{}:busybox:latest", world.layout.display()));
            output(copy.arg("containers-storage:localhost/busybox:latest"))?;
        }
        Ok(builders)
    }

    /// buildah's own store, with the overlay driver.
    fn storage(&self) -> Result<PathBuf> {
        let directory = self.world.path(BUILDAH);
        let path = directory.join("storage.conf");
        let (graph, run) = (directory.join("graph"), self.world.path(RUN).join(BUILDAH));
        let text =
            format!("[storage]\ndriver = \"overlay\"\ngraphroot = {graph:?}\nrunroot = {run:?}\n");
        fs::write(&path, text).context("configure buildah")?;
        Ok(path)
    }

    fn cais(&self, job: Job<'_>) -> Command {
        let mut command = self.world.cais(ROOT);
        command.args(["build", "--network", "none", "-t", "built"]).args(job.flags);
        command.arg(job.context);
        command
    }

    fn buildah(&self, job: Job<'_>) -> Result<Command> {
        let mut command = Command::new(BUILDAH);
        command.env("CONTAINERS_STORAGE_CONF", self.storage()?);
        // crun refuses hosts that have both versions of control groups.
        command.args(["build", "--layers", "--runtime", "runc", "--network", "none"]);
        command.args(["-t", "built"]).args(job.flags).arg(job.context);
        Ok(command)
    }

    fn docker(dockerd: &Dockerd, job: Job<'_>) -> Command {
        let mut command = dockerd.client();
        command.env("DOCKER_BUILDKIT", "0");
        command.args(["build", "--network", "none", "-t", "built"]).args(job.flags);
        command.arg(job.context);
        command
    }

    /// All of them take turns; before each turn `change` gets the round's number.
    fn race(
        &self,
        job: Job<'_>,
        rounds: usize,
        change: &dyn Fn(usize) -> Result<()>,
    ) -> Result<Vec<Times>> {
        let ours = move |round| change(round * 3).map(|()| self.cais(job));
        let mut all =
            vec![Contestant { name: "cais".into(), command: Box::new(ours), daemon: None }];
        if self.has_buildah {
            let theirs = move |round| change(round * 3 + 1).and_then(|()| self.buildah(job));
            all.push(Contestant { name: BUILDAH.into(), command: Box::new(theirs), daemon: None });
        }
        if let Some(dockerd) = &self.dockerd {
            let theirs = move |round| change(round * 3 + 2).map(|()| Self::docker(dockerd, job));
            let name = "docker, classic builder".to_owned();
            all.push(Contestant { name, command: Box::new(theirs), daemon: Some(dockerd.group()) });
        }
        hold(&mut all, rounds)
    }

    fn small_context(&self, name: &str, dockerfile: &str) -> Result<PathBuf> {
        let context = self.world.path(name);
        fs::create_dir_all(&context)?;
        let files = [("Dockerfile", dockerfile), ("package.json", "{}\n"), ("main.txt", "hello\n")];
        for (name, text) in files {
            fs::write(context.join(name), text)?;
        }
        for file in 0..20 {
            fs::write(context.join(format!("file-{file}")), "text\n".repeat(100))?;
        }
        Ok(context)
    }

    fn cached(&self, rounds: usize) -> Result<Section> {
        let context = self.small_context("context-small", SMALL)?;
        let job = Job { context: &context, flags: &[] };
        let times = self.race(job, rounds, &|_| Ok(()))?;
        let notes = self.notes(vec![
            "7 instructions, 23 files; nothing has changed since the round that is not counted"
                .to_owned(),
        ]);
        Ok(Section::new("`build`: everything cached", &times, notes))
    }

    fn late_change(&self, rounds: usize) -> Result<Section> {
        let context = self.small_context("context-late", LATE)?;
        let file = context.join("main.txt");
        let change = |turn: usize| Ok(fs::write(&file, format!("hello {turn}\n"))?);
        let job = Job { context: &context, flags: &[] };
        let times = self.race(job, rounds, &change)?;
        let notes = vec!["`COPY . .`, before CMD, after each turn's change of one file".to_owned()];
        Ok(Section::new("`build`: one line changed in a late COPY", &times, notes))
    }

    fn large_context(&self, rounds: usize) -> Result<Section> {
        let context = self.world.path("context-large");
        for file in 0..FILES {
            let directory = context.join(format!("data/{}", file / FILES_IN_DIRECTORY));
            if file % FILES_IN_DIRECTORY == 0 {
                fs::create_dir_all(&directory)?;
            }
            fs::write(directory.join(file.to_string()), format!("{file}\n"))?;
        }
        fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY . /data\n")?;
        let job = Job { context: &context, flags: &[] };
        // What was changed just now is not trusted by anybody's memory of it.
        output(Command::new("sleep").arg("3"))?;
        let times = self.race(job, rounds, &|_| Ok(()))?;
        fs::remove_dir_all(&context)?;
        let notes = vec![format!("{FILES} files, all of which one COPY takes")];
        Ok(Section::new("`build`: an unchanged context of 100,000 files", &times, notes))
    }

    fn commands(&self, rounds: usize) -> Result<Section> {
        let dockerfile = format!("FROM busybox\n{}", "RUN true\n".repeat(COMMANDS));
        let context = self.small_context("context-commands", &dockerfile)?;
        let job = Job { context: &context, flags: &["--no-cache"] };
        let times = self.race(job, rounds, &|_| Ok(()))?;
        let notes = vec![format!("{COMMANDS} RUN, with --no-cache")];
        Ok(Section::new("`build`: ten RUN steps of `true`", &times, notes))
    }

    /// Two stages that do not need each other, and one of them alone.
    fn parallel(&self, rounds: usize) -> Result<Section> {
        let dockerfile = format!(
            "FROM busybox AS a\nRUN {BURN}; echo a >/a\nFROM busybox AS b\nRUN {BURN}; echo b >/b\n\
             FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
        );
        let context = self.small_context("context-parallel", &dockerfile)?;
        let contestant = |name: &str, flags: &'static [&'static str]| {
            let context = context.clone();
            let command = move |_| Ok(self.cais(Job { context: &context, flags }));
            Contestant { name: name.to_owned(), command: Box::new(command), daemon: None }
        };
        let mut all = [
            contestant("cais: both stages", &["--no-cache"]),
            contestant("cais: one of them", &["--no-cache", "--target", "a"]),
        ];
        let times = hold(&mut all, rounds)?;
        let [both, one] = [0, 1].map(|at| Spread::of(&times[at].wall).median);
        let note = format!("both take {:.2} times as long as one of them", both / one);
        Ok(Section::new("`build`: two independent stages", &times, vec![note]))
    }

    /// With the rules that make files the same every time, and without.
    fn reproducibility(&self, rounds: usize) -> Result<Section> {
        let dockerfile = format!(
            "FROM busybox\nRUN mkdir /made && cd /made && for i in $(seq {MADE}); do echo $i >$i; done && \\\n    gzip -k 1 && touch a.pyc\n"
        );
        let context = self.small_context("context-made", &dockerfile)?;
        let contestant = |name: &str, flags: &'static [&'static str]| {
            let context = context.clone();
            let command = move |_| Ok(self.cais(Job { context: &context, flags }));
            Contestant { name: name.to_owned(), command: Box::new(command), daemon: None }
        };
        let mut all = [
            contestant("cais", &["--no-cache"]),
            contestant("cais: without rules", &["--no-cache", "--no-normalize", "all"]),
        ];
        let times = hold(&mut all, rounds)?;
        let [with, without] = [0, 1].map(|at| Spread::of(&times[at].wall).median);
        let notes = vec![
            format!("the rules cost {:.1} % of a RUN that makes {MADE} files", (with / without - 1.0) * 100.0),
            "sorted archives and one time cost nothing that can be told apart: they are the only way in which layers are packed".to_owned(),
        ];
        Ok(Section::new("`build`: what reproducibility costs", &times, notes))
    }

    fn notes(&self, mut notes: Vec<String>) -> Vec<String> {
        notes.push("commands have no network anywhere".to_owned());
        match self.has_buildah {
            true => notes.push(
                "buildah: `build --layers`, overlay driver, its default isolation with runc"
                    .to_owned(),
            ),
            false => notes.push("no buildah on this machine".to_owned()),
        }
        if self.dockerd.is_none() {
            notes.push("no dockerd on this machine".to_owned());
        }
        notes
    }
}
