//! What needs a process of its own: an environment to set, or a death to die.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci::{Platform, Reference};
use registry::{Auth, Config, Error, Event, HostConfig, LayerState, Pulled, pull};
use store::Store;

use super::fake::{Fake, Reply};
use super::place::{Fixture, Place, client, noise};

/// Set in the child: where the store is, and what to pull.
const ROLE: &str = "CAIS_TEST_PULL";
/// A registry that only a proxy knows.
const FAR: &str = "far.example";
const DOWNLOADING: &str = "the download is under way";

/// This program again, running only the test `name`, which then pulls `reference`.
fn again(name: &str, place: &Place, reference: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("it::child::{name}"), "--nocapture"])
        .env(ROLE, format!("{} {reference}", place.root().display()))
        .stdout(Stdio::piped());
    command
}

/// In the child: the outcome of the pull, as whom the environment says.
fn played() -> Option<Result<Pulled, Error>> {
    let role = std::env::var(ROLE).ok()?;
    let (root, reference) = role.split_once(' ').unwrap();
    let store = Store::open(Path::new(root)).unwrap();
    let reference: Reference = reference.parse().unwrap();
    let mut config = Config::default();
    let location = Some(format!("http://{FAR}"));
    config.hosts.insert(FAR.into(), HostConfig { location, ..HostConfig::default() });
    let client = client(&config, Auth::load().unwrap());
    let tell = |event| {
        if matches!(event, Event::Layer { state: LayerState::Downloading { .. }, .. }) {
            eprintln!("{DOWNLOADING}");
        }
    };
    let before = threads();
    let outcome = pull(&client, &store, &reference, &Platform::host(), &tell);
    // The kernel may still be busy with a thread that was joined.
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() != before {
        assert!(Instant::now() < deadline, "no thread outlives a pull");
        std::thread::yield_now();
    }
    Some(outcome)
}

/// How many threads this process has.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_killed_pull_leaves_nothing_visible_and_is_continued() {
    if let Some(outcome) = played() {
        panic!("the server keeps silent until this process is killed: {outcome:?}");
    }
    let fixture = Fixture::noisy(2 << 20);
    let place = Place::new();
    let (path, body) = (fixture.blob_path(0), fixture.blobs[0].clone());
    let silent = Fake::start(fixture.site(), move |r, _| {
        let part = Reply { cut: Some(1 << 20), hang: true, ..Reply::new(200, body.clone()) };
        (r.path == path).then_some(part)
    });
    let own = "a_killed_pull_leaves_nothing_visible_and_is_continued";
    let mut child = again(own, &place, &format!("{}/app", silent.host()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == DOWNLOADING));
    child.kill().unwrap();
    child.wait().unwrap();
    place.check_empty();
    assert!(!place.store.has_layer(&fixture.diff_ids[0]));

    let fake = Fake::honest(fixture.site());
    let name = format!("{}/app", fake.host());
    place.pull(&name).unwrap();
    place.check(&name, &fixture, &[&noise(1, 2 << 20)]);
    let asked = fake.heard_of(&fixture.blob_path(0));
    let from = asked[0].header("range").unwrap().strip_prefix("bytes=").unwrap();
    let from: u64 = from.strip_suffix('-').unwrap().parse().unwrap();
    assert!((1..=1 << 20).contains(&from), "{from}");
}

/// A keychain `docker-credential-test` in `folder` that runs `script`.
fn write_keychain(folder: &Path, script: &str) {
    let (text, path) = (folder.join("script"), folder.join("docker-credential-test"));
    std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // By another process: a child of another test that has it open for writing, too, would keep it
    // from being executed.
    let mut install = std::process::Command::new("install");
    assert!(install.args(["-m", "755"]).args([text, path]).status().unwrap().success());
}

#[test]
fn a_keychain_is_asked_where_the_configuration_names_one() {
    if let Some(outcome) = played() {
        match std::env::var("CAIS_TEST_ERROR") {
            Ok(expected) => {
                let error = outcome.unwrap_err();
                assert!(matches!(error, Error::Denied { .. }));
                assert!(error.to_string().contains(&expected), "{error}");
            }
            Err(_) => drop(outcome.unwrap()),
        }
        return;
    }
    let fixture = Fixture::noisy(10);
    // `bWU6c2VjcmV0` is `me:secret`.
    let fake = Fake::start(fixture.site(), |r, _| {
        let welcome = r.header("authorization") == Some("Basic bWU6c2VjcmV0");
        let refusal = Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        (!welcome).then_some(refusal)
    });
    let host = fake.host();
    let found = format!(
        "test $1 = get && read name && test $name = {host} &&\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}}'"
    );
    let none = "echo credentials not found in native keychain; exit 1";
    for (script, expected) in [
        (found.as_str(), None),
        (none, Some("no basic auth credentials")),
        ("echo the vault is locked; exit 3", Some("the vault is locked")),
        ("exec /bin/cat /dev/zero", Some("answers too much")),
    ] {
        let place = Place::new();
        let folder = place.file("docker");
        std::fs::create_dir(&folder).unwrap();
        write_keychain(&folder, script);
        let config = format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#);
        std::fs::write(folder.join("config.json"), config).unwrap();
        let own = "a_keychain_is_asked_where_the_configuration_names_one";
        let mut child = again(own, &place, &format!("{host}/app"));
        child.env("DOCKER_CONFIG", &folder).env("PATH", &folder);
        if let Some(expected) = expected {
            child.env("CAIS_TEST_ERROR", expected);
        }
        assert!(child.status().unwrap().success(), "{script}");
    }
}

#[test]
fn a_proxy_that_the_environment_names_is_used() {
    if let Some(outcome) = played() {
        outcome.unwrap();
        return;
    }
    let fixture = Fixture::noisy(1000);
    let fake = Fake::honest(fixture.site());
    let place = Place::new();
    let own = "a_proxy_that_the_environment_names_is_used";
    let mut child = again(own, &place, &format!("{FAR}/app"));
    child.env("HTTP_PROXY", format!("http://{}", fake.host())).env("NO_PROXY", "near.example");
    assert!(child.status().unwrap().success());
    assert_eq!(fake.heard()[0].method, "CONNECT");
    assert_eq!(fake.heard()[0].path, format!("{FAR}:80"));
    place.check(&format!("{FAR}/app"), &fixture, &[&noise(1, 1000)]);
}
