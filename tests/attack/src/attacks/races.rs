//! Names that change places while a container is made.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Outcome;
use super::image::{leaking, plant};
use crate::bundle::{Bundle, SECRET, mount};
use crate::race::{race, rounds};
use crate::{ROUNDS, Runtime};

/// How many containers one process of the driver makes before somebody looks.
const CHUNK: u32 = 20;

/// One round of a runtime that has to be started for it counts for as many.
const SLOW: u32 = 10;

/// How often a runtime without the defence is tried at most, for each time that one with it is: it
/// is done with the first success, and a machine with other work to do gives a race few chances.
const PATIENCE: u32 = 25;

fn tries(runtime: &Runtime) -> u32 {
    if runtime.is_weakened() { rounds().saturating_mul(PATIENCE) } else { rounds() }
}

/// Lets `one` of the image and `other` change places, while containers are made from the bundle
/// until something is `seen`.
fn attack(
    runtime: &Runtime,
    bundle: &mut Bundle,
    (one, other): (&Path, &Path),
    seen: impl Fn() -> Option<String>,
) -> Outcome {
    let (chunk, cost) = if runtime.is_driver() {
        bundle.annotate("rounds", CHUNK.to_string());
        (CHUNK, CHUNK)
    } else {
        (1, SLOW)
    };
    let mut made = 0;
    let (found, swaps) = race(one, other, || {
        for _ in 0..tries(runtime).div_ceil(cost) {
            let _ = runtime.run(bundle);
            made += chunk;
            if let Some(found) = seen() {
                return Some(found);
            }
        }
        None
    });
    outcome(found, made, swaps)
}

/// As [`attack`], for what only the container's program sees: `word`, if the attack works.
fn attack_from_inside(
    runtime: &Runtime,
    (one, other): (&Path, &Path),
    word: &str,
    run: impl Fn() -> String,
) -> Outcome {
    let mut made = 0;
    let (found, swaps) = race(one, other, || {
        for _ in 0..tries(runtime).div_ceil(SLOW / 2) {
            made += 1;
            if run().contains(word) {
                return Some(format!("read `{word}`"));
            }
        }
        None
    });
    outcome(found, made, swaps)
}

fn outcome(found: Option<String>, made: u32, swaps: u64) -> Outcome {
    let text = format!("{made} containers, {swaps} swaps");
    match found {
        Some(found) => Outcome::Broke(format!("{found} ({text})")),
        None => Outcome::Held(text),
    }
}

fn filled(directory: &Path) -> Option<String> {
    fs::read_dir(directory).unwrap().next().map(|_| "made something on the host".into())
}

pub(super) fn racing_mount_point(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    let (outside, data) = (bundle.outside(), bundle.make("data"));
    fs::create_dir(bundle.rootfs("swap")).unwrap();
    let link = plant(&bundle, &outside);
    for destination in ["/swap/deep", "/swap/file"] {
        bundle.add_mount(mount("bind", &data, destination, "bind"));
    }
    let swap = bundle.rootfs("swap");
    attack(runtime, &mut bundle, (&swap, &link), || filled(&outside))
}

pub(super) fn racing_before_hooks(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    let (outside, data) = (bundle.outside(), bundle.make("data"));
    bundle.without_dev();
    for destination in ["/dev/deep/er", "/dev/file"] {
        bundle.add_mount(mount("bind", &data, destination, "bind"));
    }
    bundle.config["hooks"] = json!({"createContainer": [{"path": "/bin/true"}]});
    let root = bundle.rootfs("");
    bundle.annotate("hooks-at", root);
    let link = plant(&bundle, &outside);
    let dev = bundle.rootfs("dev");
    attack(runtime, &mut bundle, (&dev, &link), || filled(&outside))
}

pub(super) fn racing_mount_point_below(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    let (outside, data) = (bundle.outside(), bundle.make("data"));
    fs::create_dir_all(bundle.rootfs("swap/a")).unwrap();
    let link = plant(&bundle, &outside);
    bundle.add_mount(mount("bind", &data, "/swap/a/b/c/d/e/f", "bind"));
    let swap = bundle.rootfs("swap/a");
    attack(runtime, &mut bundle, (&swap, &link), || filled(&outside))
}

pub(super) fn racing_device(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    bundle.without_dev();
    let outside = bundle.outside();
    let link = plant(&bundle, &outside);
    let dev = bundle.rootfs("dev");
    attack(runtime, &mut bundle, (&dev, &link), || filled(&outside))
}

pub(super) fn racing_console(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    bundle.terminal();
    let victim = bundle.path("victim");
    fs::write(&victim, "precious").unwrap();
    let link = plant(&bundle, &victim);
    let console = bundle.rootfs("dev/console");
    fs::write(&console, "").unwrap();
    let emptied = || {
        let text = fs::read_to_string(&victim).unwrap();
        (text != "precious").then(|| "emptied a file of the host".into())
    };
    attack(runtime, &mut bundle, (&console, &link), emptied)
}

pub(super) fn racing_null(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("cat /proc/keys");
    bundle.without_dev();
    fs::write(bundle.rootfs("shown"), SECRET).unwrap();
    let link = plant(&bundle, Path::new("/shown"));
    let null = bundle.rootfs("dev/null");
    fs::write(&null, "").unwrap();
    attack_from_inside(runtime, (&null, &link), SECRET, || runtime.run(&bundle).stdout)
}

pub(super) fn racing_proc(runtime: &Runtime) -> Outcome {
    let script = "for d in /a /b /proc; do head -c 1 $d/timer_list; done 2> /dev/null | wc -c; \
                  head -n 1 /a/timer_list /b/timer_list 2> /dev/null";
    let bundle = Bundle::script(script);
    for directory in ["a", "b"] {
        fs::create_dir(bundle.rootfs(directory)).unwrap();
    }
    bundle.link("proc", "/a");
    let link = plant(&bundle, Path::new("/b"));
    let proc = bundle.rootfs("proc");
    attack_from_inside(runtime, (&proc, &link), "Timer List", || runtime.run(&bundle).stdout)
}

pub(super) fn racing_cwd(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("cat ./secret");
    fs::create_dir(bundle.rootfs("work")).unwrap();
    let link = plant(&bundle, Path::new("/proc/self/fd/7"));
    bundle.config["process"]["cwd"] = json!("/work");
    let work = bundle.rootfs("work");
    attack_from_inside(runtime, (&work, &link), SECRET, || {
        let command = leaking(&runtime.command(&bundle), &bundle);
        runtime.finish(command, &bundle).stdout
    })
}

const _: () = assert!(ROUNDS >= CHUNK);
