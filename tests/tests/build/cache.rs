//! What is known is not done again, and what is not known is.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use testkit::{Outcome, Sandbox};

use super::{again, build, run, write};

const FILES: &str = "//- list
list
//- src/a
a
//- Dockerfile
FROM busybox
WORKDIR /w
COPY list .
RUN --network=none cat list > installed
COPY src src
RUN --network=none cat src/a > built
";

const NOTHING: [&str; 0] = [];

/// The steps that were done, by what they are called.
fn done(built: &Outcome) -> Vec<String> {
    let _ = built.ok();
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut done = Vec::new();
    for line in built.stderr.lines() {
        let Some((number, rest)) = line.split_once(' ') else { continue };
        if rest.starts_with('[') && !rest.starts_with("[internal]") {
            names.insert(number, rest.split_once("] ").map_or(rest, |(_, name)| name));
        } else if rest.starts_with("DONE") && names.contains_key(number) {
            done.push(names[number].to_owned());
        }
    }
    done.sort();
    done
}

#[test]
fn only_what_changed_is_done() {
    let sandbox = Sandbox::new();
    assert_eq!(done(&build(&sandbox, FILES, &[])).len(), 5);
    assert_eq!(done(&again(&sandbox, &[])), NOTHING);
    let context = sandbox.work().join("ctx");
    // Times do not matter, and neither do files that are not copied.
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(99));
    let list = File::options().append(true).open(context.join("list")).unwrap();
    list.set_times(times).unwrap();
    fs::write(context.join("unrelated"), "x").unwrap();
    assert_eq!(done(&again(&sandbox, &[])), NOTHING);
    fs::write(context.join("src/a"), "b").unwrap();
    let expected = ["COPY src src", "RUN --network=none cat src/a > built"];
    assert_eq!(done(&again(&sandbox, &[])), expected);
    assert_eq!(run(&sandbox, "cat built"), "b");
    fs::set_permissions(context.join("list"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(done(&again(&sandbox, &[])).len(), 4);
}

#[test]
fn arguments_matter_once_they_are_declared() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none echo before > /before
ARG V
RUN --network=none echo $V > /after
";
    assert_eq!(done(&build(&sandbox, files, &["--build-arg", "V=1"])).len(), 2);
    assert_eq!(done(&again(&sandbox, &["--build-arg", "V=2"])).len(), 1);
    let flags = ["--build-arg", "V=1", "--build-arg", "HTTP_PROXY=p"];
    assert_eq!(done(&again(&sandbox, &flags)), NOTHING);
}

#[test]
fn no_cache_does_everything_again() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS a
RUN --network=none cat /proc/sys/kernel/random/uuid > /u
FROM busybox AS b
ENV b=1
RUN --network=none cat /proc/sys/kernel/random/uuid > /u
FROM busybox
COPY --from=a /u /a
COPY --from=b /u /b
";
    let read =
        || -> Vec<String> { run(&sandbox, "cat /a /b").lines().map(str::to_owned).collect() };
    let _ = build(&sandbox, files, &[]).ok();
    let first = read();
    let _ = again(&sandbox, &["--no-cache-filter", "b"]).ok();
    let second = read();
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    let _ = again(&sandbox, &["--no-cache"]).ok();
    assert_ne!(read()[0], second[0]);
}

#[test]
fn a_stage_that_makes_the_same_files_changes_nothing() {
    let sandbox = Sandbox::new();
    let files = "//- src
1
//- Dockerfile
FROM busybox AS build
COPY src /src
RUN --network=none echo always > /app
FROM busybox
COPY --from=build /app /app
RUN --network=none cat /app > /used
";
    let _ = build(&sandbox, files, &[]).ok();
    write(&sandbox.work().join("ctx"), "//- src\n2\n");
    let expected = ["COPY src /src", "RUN --network=none echo always > /app"];
    assert_eq!(done(&again(&sandbox, &[])), expected);
}

#[test]
fn the_cache_keeps_its_layers_until_it_is_pruned() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &[]).ok();
    let _ = sandbox.line("cais rmi built").ok();
    assert_eq!(done(&again(&sandbox, &[])), NOTHING);
    let _ = sandbox.line("cais rmi built").ok();
    let _ = sandbox.line("cais builder prune -f").ok();
    assert_eq!(done(&again(&sandbox, &[])).len(), 5);
}

#[test]
fn two_builds_at_once_do_a_step_once() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none --mount=type=cache,target=/c echo done >> /c/n && sleep 1 && cat /c/n > /n
";
    write(&sandbox.work().join("ctx"), files);
    let _ = sandbox.line("cais pull -q busybox").ok();
    let both = sandbox.shell("$E build -q -t one ctx & $E build -q -t built ctx && wait $!");
    let ids: Vec<&str> = both.ok().lines().collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]));
    assert_eq!(run(&sandbox, "cat /n"), "done\n");
}

#[test]
fn a_miss_is_explained() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &[]).ok();
    let context = sandbox.work().join("ctx");
    fs::write(context.join("src/a"), "b").unwrap();
    fs::write(context.join("src/new"), "n").unwrap();
    let _ = again(&sandbox, &[]).ok();
    let expected = "[1/6] FROM docker.io/library/busybox:latest
    cached
[2/6] WORKDIR /w
    cached
[3/6] COPY list .
    cached
[4/6] RUN --network=none cat list > installed
    cached
[5/6] COPY src src
    done: its files have changed
      C src/a
      A src/new
[6/6] RUN --network=none cat src/a > built
    done: the step before it left other files
";
    let why = sandbox.line("cais why cache ctx").code(0).stdout.clone();
    let pinned = why.split_once("busybox:latest").map(|(_, rest)| rest.split_once('\n').unwrap().1);
    assert_eq!(pinned, expected.split_once('\n').map(|(_, rest)| rest));
    write(&context, &FILES.replace("cat list > installed", "cat list > elsewhere"));
    let _ = again(&sandbox, &[]).ok();
    let why = sandbox.line("cais why cache ctx");
    let expected = "done: run.args.2 was \"cat list > installed\", and is \"cat list > elsewhere\"";
    assert!(why.ok().contains(expected), "{why}");
    sandbox.line("cais why cache /").code(1);
}

/// Has a step of a build wait after its key is known, changes what it takes, and has it go on.
fn change_in_between(sandbox: &Sandbox, step: &str) {
    let files = format!(
        "//- f\nold\n//- Dockerfile
FROM busybox
RUN --network=none --mount=type=cache,id=gate,target=/gate echo waits && \\
    until [ -e /gate/open ]; do usleep 10000; done
{step}
"
    );
    let context = sandbox.work().join("ctx");
    write(&context, &files);
    let gate = super::cache_mount(sandbox, "gate").join("open");
    let _ = fs::remove_file(&gate);
    let building = sandbox.start_script(
        "exec $E build --no-cache -t built --cache-to type=local,dest=shared ctx 2>&1",
    );
    building.wait_for(" waits\n");
    // No step gets a directory to work in while this is locked.
    let lock = File::create(sandbox.root().join("build/locks/run")).unwrap();
    lock.lock().unwrap();
    fs::write(gate, "").unwrap();
    building.wait_for("[3/3]");
    fs::write(context.join("f"), "new\n").unwrap();
    lock.unlock().unwrap();
    let _ = building.finish().ok();
}

#[test]
fn what_changes_meanwhile_is_remembered_as_what_it_became() {
    let sandbox = Sandbox::new();
    let steps = [
        "COPY f /copied",
        "ADD --chmod=600 f /copied",
        "RUN --network=none --mount=type=bind,source=f,target=/s cat /s > /copied",
    ];
    for step in steps {
        change_in_between(&sandbox, step);
        assert_eq!(run(&sandbox, "cat /copied"), "new\n", "{step}");
        assert_eq!(done(&again(&sandbox, &[])), NOTHING, "{step}");
        fs::write(sandbox.work().join("ctx/f"), "old\n").unwrap();
        let _ = again(&sandbox, &[]).ok();
        assert_eq!(run(&sandbox, "cat /copied"), "old\n", "{step}");
        // What others get of it is under the same key.
        let _ = sandbox.line("cais builder prune -f").ok();
        let _ = again(&sandbox, &["--cache-from", "type=local,src=shared"]).ok();
        assert_eq!(run(&sandbox, "cat /copied"), "old\n", "{step}");
    }
}

#[test]
fn what_a_build_uses_is_not_pruned() {
    let sandbox = Sandbox::new();
    super::write(&sandbox.work().join("served"), "//- f.txt\nfetched\n");
    let server = sandbox
        .start_script("cd served && exec python3 -u -m http.server --bind 127.0.0.1 8099 2>&1");
    server.wait_for("Serving HTTP");
    let checksum = oci::Digest::of(b"fetched\n");
    let files = format!(
        "//- Dockerfile
FROM busybox AS slow
RUN --network=none --mount=type=cache,id=p,target=/c echo begun && \\
    until test -e /c/go; do sleep 0.05; done
FROM busybox AS quick
ADD --checksum={checksum} http://127.0.0.1:8099/f.txt /f
FROM slow
COPY --from=quick /f /f
ADD --checksum={checksum} http://127.0.0.1:8099/f.txt /g
"
    );
    super::write(&sandbox.work().join("ctx"), &files);
    let building = sandbox.start_script("exec $E build -t built --progress plain ctx 2>&1");
    building.wait_for(" begun\n");
    let known = "until ls $CAIS_ROOT/build/cache/*.json >/dev/null 2>&1; do sleep 0.05; done";
    let _ = sandbox.shell(known).ok();
    drop(server);
    let _ = sandbox.cais(["builder", "prune", "-af"]).ok();
    let _ = sandbox.shell("touch $(echo $CAIS_ROOT/build/mounts/*/files)/go").ok();
    let _ = building.finish().ok();
    assert_eq!(run(&sandbox, "cat /f /g"), "fetched\nfetched\n");
    let known = again(&sandbox, &[]);
    assert_eq!(known.stderr.matches("CACHED").count(), 5, "{known}");
    let _ = sandbox.cais(["builder", "prune", "-af"]).ok();
    let parts = "cd $CAIS_ROOT/build && ls cache downloads mounts 2>/dev/null; true";
    let left = sandbox.shell(parts);
    assert!(
        !left.ok().contains(".json") && !left.stdout.contains(checksum.hex().as_str()),
        "{left}"
    );
}
