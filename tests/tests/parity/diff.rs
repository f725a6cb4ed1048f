//! `diff` says of thousands of random edits what Docker says.

use std::collections::BTreeSet;
use std::fs;

use testkit::{Dockerd, Entry, Outcome, Sandbox};

use super::edit::{LAYERS, Tree};
use super::random::Random;

/// What decides on the trees and the edits; `CAIS_PARITY_SEED` takes its place.
const SEEDS: &[u64] = &[1, 2];

/// Containers of each image.
const CONTAINERS: usize = 3;

/// Trees in each image, with those paths that every image has as the first.
const TREES: usize = 40;

/// Edits of each tree in a container.
const EDITS: usize = 25;

#[test]
fn diff_agrees_on_random_edits() {
    let sandbox = Sandbox::new();
    let docker = Dockerd::start(&sandbox);
    let both = Both { sandbox: &sandbox, docker: &docker };
    let given = std::env::var("CAIS_PARITY_SEED").ok().and_then(|seed| seed.parse().ok());
    let given: Option<Vec<u64>> = given.map(|seed| vec![seed]);
    for seed in given.as_deref().unwrap_or(SEEDS) {
        compare_all(&both, *seed);
    }
}

/// The two engines.
struct Both<'a> {
    sandbox: &'a Sandbox,
    docker: &'a Dockerd<'a>,
}

impl Both<'_> {
    fn shell(&self, script: &str) -> [Outcome; 2] {
        [self.docker.shell(script), self.sandbox.shell(script)]
    }

    /// What the edits print and what `diff` says of them, from Docker and from Cais.
    fn edited(&self, image: &str, name: &str, edits: &[String]) -> [(String, Vec<String>); 2] {
        let script = format!("{}\ntrue\n", edits.join("\n"));
        fs::write(self.sandbox.work().join(name), script).expect("the work directory takes files");
        let line = format!(
            "$E run -i --network none --name {name} {image} sh <{name} >{name}.out 2>&1 || {{ tail {name}.out; exit 1; }}
             $E container diff {name} && $E rm {name} >/dev/null"
        );
        let ran = |shell: &dyn Fn(&str) -> Outcome| {
            let diff = shell(&line).ok().to_owned();
            let said = fs::read(self.sandbox.work().join(format!("{name}.out")))
                .expect("the shell writes it");
            let said = String::from_utf8_lossy(&said).into_owned();
            (said, records(&diff))
        };
        [ran(&|line| self.docker.shell(line)), ran(&|line| self.sandbox.shell(line))]
    }
}

/// The records of `diff`, sorted: Docker gives them in the order of a Go map. A name may hold a
/// line feed, but none is called `A`, `C` or `D` and a blank.
fn records(diff: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in diff.split('\n').filter(|line| !line.is_empty()) {
        let begins = ["A /", "C /", "D /"].iter().any(|start| line.starts_with(start));
        match found.last_mut() {
            Some(last) if !begins => *last += &format!("\\n{line}"),
            _ => found.push(line.to_owned()),
        }
    }
    found.sort();
    found
}

fn compare_all(both: &Both<'_>, seed: u64) {
    let mut random = Random::new(seed);
    let mut trees = vec![Tree::of_system()];
    trees.extend((1..TREES).map(|number| Tree::random(&mut random, &format!("t{number:02}"))));
    let mut layers: Vec<Vec<Entry>> = Vec::new();
    for layer in 0..LAYERS {
        layers.push(trees.iter().flat_map(|tree| tree.layers[layer].clone()).collect());
    }
    let image = format!("edited:{seed}");
    both.sandbox.save_image("edited.tar", &image, &layers, |_| {});
    for loaded in both.shell("$E load -i edited.tar") {
        loaded.code(0).out(&format!("Loaded image: {image}\n"));
    }
    for container in 0..CONTAINERS {
        let edits: Vec<Vec<String>> =
            trees.iter().map(|tree| (0..EDITS).map(|_| tree.edit(&mut random)).collect()).collect();
        let [docker, cais] =
            both.edited(&image, &format!("edit-{seed}-{container}"), &edits.concat());
        if docker != cais {
            explain(both, seed, &trees, &edits);
        }
    }
}

/// Finds the trees that engines do not agree on, and the fewest edits by which they do not.
fn explain(both: &Both<'_>, seed: u64, trees: &[Tree], edits: &[Vec<String>]) -> ! {
    let image = format!("edited:{seed}");
    let differ = |edits: &[String]| {
        let [docker, cais] = both.edited(&image, "explained", edits);
        docker != cais
    };
    let mut message = format!("seed {seed}: the engines do not agree");
    for (tree, edits) in trees.iter().zip(edits).filter(|(_, edits)| differ(edits)).take(3) {
        let mut least = edits.clone();
        for number in (0..least.len()).rev() {
            let mut fewer = least.clone();
            fewer.remove(number);
            if differ(&fewer) {
                least = fewer;
            }
        }
        message += &format!("\n\nin {:?}, after\n  {}", tree.root, least.join("\n  "));
        message += &differences(both.edited(&image, "explained", &least));
        for (number, layer) in tree.layers.iter().enumerate() {
            let shown: Vec<String> = layer.iter().map(|entry| format!("{entry:?}")).collect();
            message += &format!("\nlayer {number}:\n  {}", shown.join("\n  "));
        }
    }
    panic!("{message}");
}

fn differences([docker, cais]: [(String, Vec<String>); 2]) -> String {
    let set = |records: &[String]| records.iter().cloned().collect::<BTreeSet<_>>();
    let (docker_set, cais_set) = (set(&docker.1), set(&cais.1));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).cloned().collect::<Vec<_>>().join("\n  ")
    };
    format!(
        "\nonly Docker says\n  {}\nonly Cais says\n  {}\nprinted with Docker:\n{}\nprinted with Cais:\n{}",
        only(&docker_set, &cais_set),
        only(&cais_set, &docker_set),
        docker.0,
        cais.0
    )
}
