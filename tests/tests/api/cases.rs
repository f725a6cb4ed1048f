//! What a person types into the real Docker client, once before a real Docker daemon and once
//! before ours.

use testkit::{Api, Dockerd, Sandbox};

use crate::parity::cases::{self, check_documented, compare_all, make_images};

/// What the client does beyond what our command line does, too; `parity/cases.sh` says how to read
/// it.
const CASES: &str = include_str!("cases.sh");

/// Where a registry takes the pushes of both.
const HUB_PORT: u16 = 5001;

#[test]
fn the_same_client_sees_no_difference() {
    let sandbox = Sandbox::new();
    make_images(&sandbox);
    let storage = sandbox.work().join("hub");
    std::fs::create_dir(&storage).expect("the work directory takes entries");
    let _hub = sandbox.registry(HUB_PORT, &storage);
    let docker = Dockerd::start(&sandbox);
    let api = Api::start(&sandbox);
    for file in ["seen.tar", "with-config.tar", "removable.tar"] {
        let load = format!("$E load -qi {file}");
        let _ = docker.shell(&load).ok();
        let _ = api.shell(&load).ok();
    }
    let (docker, cais) = (|line: &str| docker.shell(line), |line: &str| api.shell(line));
    let mut wrong = compare_all(cases::CASES, &docker, &cais, false);
    wrong += &compare_all(CASES, &docker, &cais, false);
    assert!(wrong.is_empty(), "the daemons do not agree:\n{wrong}");
}

#[test]
fn every_difference_is_documented() {
    check_documented(CASES);
}
