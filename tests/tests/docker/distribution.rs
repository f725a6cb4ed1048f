//! Images on their way out: pushed, saved, copied, committed, exported.

use testkit::{Outcome, RegistryServer, Sandbox};

const HUB: &str = "127.0.0.1:5001";

/// A registry of this test's own, which takes pushes.
fn hub(sandbox: &Sandbox) -> RegistryServer {
    let storage = sandbox.work().join("hub");
    std::fs::create_dir(&storage).expect("the work directory takes entries");
    sandbox.registry(5001, &storage)
}

/// Runs a script of the shell, and demands that all of it works.
#[track_caller]
fn works(sandbox: &Sandbox, script: &str) -> Outcome {
    let outcome = sandbox.shell(&format!("set -e; {script}"));
    let _ = outcome.ok();
    outcome
}

/// What is shown of a container that has something of everything that a layer can hold.
const MAKE: &str = "echo x >/etc/x; ln /etc/x /etc/y; mkfifo /pipe; rm -r /home; mkdir /home; \
     echo 1 >/home/new; rm /etc/group; truncate -s 20M /sparse; echo end >>/sparse; \
     mknod /null c 1 3; chmod 1770 /root; chown 12:34 /etc/x; ln -s gone /link; chmod 711 /";
const SHOW: &str = "cd /; stat -c '%n %f %u %g' .; for f in etc/x etc/y pipe home home/new sparse null root link; do \
     stat -c '%n %f %u %g %s %h %Y %t %T' $f; done; readlink link; cat etc/x home/new; \
     tail -c4 sparse; ls home; test -e etc/group || echo gone; md5sum sparse";

#[test]
fn a_push_is_what_was_pulled_and_what_skopeo_finds() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let pushed = works(
        &sandbox,
        "$E pull -q busybox:multi >/dev/null; $E tag busybox:multi 127.0.0.1:5001/app:1; \
         $E push 127.0.0.1:5001/app:1; $E push 127.0.0.1:5001/app:1; \
         $E tag busybox:multi 127.0.0.1:5001/else; $E push 127.0.0.1:5001/else",
    );
    let lines: Vec<&str> = pushed.ok().lines().collect();
    let words: Vec<&str> =
        lines.iter().map(|line| line.split_once(": ").map_or(*line, |(_, rest)| rest)).collect();
    assert_eq!(words[0], format!("The push refers to repository [{HUB}/app]"), "{pushed}");
    assert_eq!(&words[1..3], ["Preparing", "Pushed"], "{pushed}");
    assert_eq!(words[6], "Layer already exists", "{pushed}");
    assert_eq!(words[8], "latest", "{pushed}");
    assert_eq!(words[11], "Mounted from app", "{pushed}");
    let digest = |name: &str, format: &str| {
        let inspect = ["skopeo", "inspect", "--tls-verify=false", "--format", format, name];
        sandbox.host(inspect).ok().trim().to_owned()
    };
    let there = digest(&format!("docker://{HUB}/app:1"), "{{.Digest}}");
    assert!(lines[3].contains(&there), "{pushed}{there}");
    // What is here for this platform is what the pool's index lists for it.
    let original = sandbox.host([
        "skopeo",
        "inspect",
        "--tls-verify=false",
        "--raw",
        "docker://127.0.0.1:5000/library/busybox:multi",
    ]);
    assert!(original.ok().contains(&there), "{original}");
}

#[test]
fn a_local_image_is_pushed_with_the_same_bytes_from_everywhere() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let archive = "skopeo --insecure-policy copy -q --src-tls-verify=false \
                   docker://127.0.0.1:5000/library/busybox docker-archive:b.tar:busybox:1";
    let script = format!(
        "{archive} >/dev/null; $E load -qi b.tar >/dev/null; \
         $E tag busybox:1 127.0.0.1:5001/a; $E push 127.0.0.1:5001/a | tail -1; \
         $E rmi -f busybox:1 127.0.0.1:5001/a >/dev/null; $E load -qi b.tar >/dev/null; \
         $E tag busybox:1 127.0.0.1:5001/b; $E push 127.0.0.1:5001/b | tail -1"
    );
    let pushed = works(&sandbox, &script);
    let lines: Vec<&str> = pushed.ok().lines().collect();
    assert_eq!(lines[0], lines[1]);
    let raw = sandbox.host([
        "skopeo",
        "inspect",
        "--tls-verify=false",
        "--raw",
        "docker://127.0.0.1:5001/a",
    ]);
    assert!(raw.ok().contains("tar+gzip"), "{raw}");
    let podman = "podman --root pod --runroot podrun --storage-driver vfs pull -q \
                  --tls-verify=false 127.0.0.1:5001/b";
    let _ = works(&sandbox, podman);
    let _ = works(&sandbox, "podman --root pod --runroot podrun --storage-driver vfs rmi -af");
}

#[test]
fn all_tags_of_a_repository_are_pushed() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let script = "$E pull -q busybox >/dev/null; for t in 1 2 3; do \
                  $E tag busybox 127.0.0.1:5001/app:$t; done; $E push -qa 127.0.0.1:5001/app";
    works(&sandbox, script).out("127.0.0.1:5001/app\n");
    let tags =
        sandbox.host(["skopeo", "list-tags", "--tls-verify=false", "docker://127.0.0.1:5001/app"]);
    for tag in ["\"1\"", "\"2\"", "\"3\""] {
        assert!(tags.ok().contains(tag), "{tags}");
    }
    sandbox.cais(["push", "-a", "127.0.0.1:5001/app:1"]).code(1).says("tag can't be used");
    sandbox
        .cais(["push", "127.0.0.1:5001/no"])
        .code(1)
        .says("An image does not exist locally with the tag: 127.0.0.1:5001/no\n");
    sandbox.cais(["push", "127.0.0.1:5001/app:9"]).code(1).says("tag does not exist");
    sandbox
        .cais(["push", "--platform", "linux/s390x", "127.0.0.1:5001/app:1"])
        .code(1)
        .says("linux/s390x");
    // Nobody listens there.
    let _ = sandbox.cais(["tag", "busybox", "127.0.0.1:5009/app"]).ok();
    sandbox.cais(["push", "127.0.0.1:5009/app"]).code(1).says("cannot push to 127.0.0.1:5009");
}

#[test]
fn of_an_index_the_platform_that_is_asked_for_is_pushed() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let script = "set -e; R=127.0.0.1:5001; $E pull -q busybox >/dev/null; \
                  $E tag busybox $R/app:here; echo other >other; \
                  tar c other | $E import --platform linux/s390x - $R/app:there >/dev/null; \
                  $E push -qa $R/app >/dev/null; \
                  $E manifest create $R/app:1 $R/app:here $R/app:there >/dev/null; \
                  $E manifest push --purge $R/app:1 >/dev/null; \
                  $E rmi -f busybox $R/app:here $R/app:there >/dev/null; \
                  $E pull -q --platform linux/s390x $R/app:1 >/dev/null; $E pull -q $R/app:1 >/dev/null; \
                  $E tag $R/app:1 $R/new:1; $E push -q --platform linux/s390x $R/new:1; \
                  skopeo inspect --tls-verify=false --format '{{.Architecture}}' docker://$R/new:1; \
                  $E save --platform linux/s390x $R/app:1 | tar xO index.json | grep -c manifest; \
                  $E push -q $R/new:1; \
                  skopeo inspect --tls-verify=false --format '{{.Architecture}}' docker://$R/new:1";
    let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    works(&sandbox, script)
        .out(&format!("127.0.0.1:5001/new:1\ns390x\n1\n127.0.0.1:5001/new:1\n{own}\n"));
    sandbox
        .cais(["push", "--platform", "linux/ppc64le", "127.0.0.1:5001/new:1"])
        .code(1)
        .says("linux/ppc64le");
}

#[test]
fn a_saved_image_is_loaded_by_everybody_and_saved_again_the_same() {
    let sandbox = Sandbox::new();
    let script = "$E pull -q busybox >/dev/null; $E tag busybox other:2; \
                  $E save -o one.tar busybox other:2; $E save busybox other:2 >two.tar; \
                  cmp one.tar two.tar; stat -c %a one.tar; \
                  skopeo inspect --raw oci-archive:one.tar:latest | sha256sum; \
                  $E image inspect -f '{{index .RepoDigests 0}}' busybox; \
                  skopeo --insecure-policy copy -q docker-archive:one.tar:busybox:latest oci:lay:x; \
                  podman --root pod --runroot podrun --storage-driver vfs load -qi one.tar; \
                  podman --root pod --runroot podrun --storage-driver vfs rmi -af >/dev/null; \
                  $E --root again load -i one.tar; $E --root again save busybox other:2 | cmp - one.tar; \
                  rm -rf again lay";
    let outcome = works(&sandbox, script);
    let lines: Vec<&str> = outcome.ok().lines().collect();
    assert_eq!(lines[0], "600");
    let digest = lines[1].split(' ').next().expect("sha256sum prints a digest");
    assert!(lines[2].ends_with(digest), "{outcome}");
    let loaded = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
    assert!(loaded("busybox:latest") >= 2 && loaded("other:2") >= 2, "{outcome}");
    sandbox
        .cais(["save", "-o", "no/such/dir", "busybox"])
        .code(1)
        .says("failed to save image: invalid output path");
    sandbox.cais(["save", "-o", "one.tar", "absent"]).code(1).says("No such image: absent");
    let _ = works(&sandbox, "cmp one.tar two.tar");
    let terminal = sandbox.start_on_terminal(["save", "busybox"], (80, 24)).finish();
    terminal.code(1);
    assert!(terminal.stdout.contains("cowardly refusing to save to a terminal"), "{terminal}");
}

#[test]
fn an_image_is_copied_through_every_place_as_it_was() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let script = "R=127.0.0.1:5000/library/busybox:multi; \
        $E copy -qa $R 127.0.0.1:5001/all:1; $E copy -qa docker://127.0.0.1:5001/all:1 oci:lay:all; \
        $E copy -qa oci:lay:all oci-archive:all.tar; $E copy -qa oci-archive:all.tar 127.0.0.1:5001/all:2; \
        $E copy -q --platform linux/arm64 oci:lay:all docker-archive:arm.tar:arm:1; \
        $E copy -q docker-archive:arm.tar store:arm:1; $E copy -q store:arm:1 oci:lay:arm; \
        $E image inspect -f '{{.Architecture}}' arm:1; \
        skopeo inspect --raw oci:lay:all | sha256sum; \
        skopeo inspect --tls-verify=false --raw docker://$R | sha256sum";
    let outcome = works(&sandbox, script);
    let lines: Vec<&str> = outcome.ok().lines().collect();
    assert_eq!(lines[..4], [lines[0]; 4], "the index is the same everywhere:\n{outcome}");
    assert_eq!(lines[4..7], [lines[4]; 3], "and so is the manifest:\n{outcome}");
    assert_eq!(lines[7], "arm64");
    assert_eq!(lines[8], lines[9]);
    assert_eq!(lines[0], format!("sha256:{}", lines[8].split(' ').next().unwrap_or_default()));
    // A second copy finds everything.
    let again = sandbox.cais(["copy", "-a", "127.0.0.1:5001/all:1", "oci:lay:all"]);
    assert!(again.stderr.lines().all(|line| line.ends_with("already exists")), "{again}");
    let error = sandbox.cais(["copy", "-a", "oci:lay:all", "store:all:1"]);
    error.code(1).says("images for one platform");
    sandbox.cais(["copy", "--platform", "linux/arm64", "store:arm:1", "oci:lay:none"]).code(0);
    sandbox
        .cais(["copy", "--platform", "linux/s390x", "store:arm:1", "oci:lay:none"])
        .code(1)
        .says("no image for linux/s390x");
    sandbox.cais(["copy", "oci:lay:nothing", "store:x"]).code(1).says("no image `nothing`");
    sandbox.cais(["copy", "oci:lay", "store:x"]).code(1).says("choose one of arm, all");
    sandbox.cais(["copy", "ftp://x", "store:x"]).code(1).says("invalid reference format");
}

#[test]
fn what_lies_is_not_copied() {
    let sandbox = Sandbox::new();
    let _hub = hub(&sandbox);
    let copy = "$E copy -q 127.0.0.1:5000/library/busybox oci:lay:b >/dev/null";
    let big = "big=$(ls -S lay/blobs/sha256/* | head -1)";
    let _ = works(
        &sandbox,
        &format!("{copy}; {big}; cp $big good; tail -c +2 good >$big; printf x >>$big"),
    );
    for to in [
        "127.0.0.1:5001/b",
        "oci:other:b",
        "oci-archive:o.tar",
        "docker-archive:d.tar:x:1",
        "store:x:1",
    ] {
        let error = sandbox.cais(["copy", "-q", "oci:lay:b", to]);
        error.code(1);
        let text = &error.stderr;
        assert!(text.contains("does not match") || text.contains("digest"), "{error}");
    }
    let left =
        works(&sandbox, "ls -d o.tar d.tar other/index.json 2>/dev/null || true; $E images -q");
    left.out("");
    let _ = works(&sandbox, &format!("{big}; head -c 100 good >$big"));
    sandbox.cais(["copy", "-q", "oci:lay:b", "oci:other:b"]).code(1).says("100 bytes long");
    let _ = works(&sandbox, "head -c 700 good >t.tar; printf 'x' >e.tar; : >z.tar");
    for file in ["t.tar", "e.tar", "z.tar"] {
        sandbox.cais(["copy", &format!("oci-archive:{file}"), "store:x"]).code(1);
    }
    let _ = works(
        &sandbox,
        "ln -s /etc/passwd lay/blobs/sha256/link; printf '%s' \
        '{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"../../etc/passwd\",\"size\":1}]}' \
        >lay/index.json",
    );
    sandbox.cais(["copy", "oci:lay", "store:x"]).code(1).says("malformed index.json");
}

#[test]
fn a_commit_holds_everything_that_a_container_changed() {
    let sandbox = Sandbox::new();
    let run = format!("$E run --network none --name made busybox sh -c '{MAKE}'");
    let _ = works(&sandbox, &format!("$E pull -q busybox; {run}"));
    let changes = "-a me -m words -c 'CMD [\"echo\",\"hi\"]' -c 'ENV Z=1' -c 'LABEL l=m'";
    let _ = works(&sandbox, &format!("$E commit {changes} made mine:1"));
    let show =
        |how: &str| works(&sandbox, &format!("{how} sh -c \"{}\"", SHOW.replace('$', "\\$")));
    let _ = works(&sandbox, "$E start made >/dev/null 2>&1 || true");
    let committed = show("$E run --rm --network none mine:1");
    let expected =
        [". 41c9 0 0\n", "etc/x 81a4 12 34 2 2", "null 21a4 0 0 0 1", "gone", "new", "end"];
    for part in expected {
        assert!(committed.ok().contains(part), "{part}:\n{committed}");
    }
    works(&sandbox, "$E run --rm --network none mine:1").out("hi\n");
    works(&sandbox, "$E run --rm --network none mine:1 sh -c 'echo $Z; ls /home'").out("1\nnew\n");
    let history = works(
        &sandbox,
        "$E history --format '{{.Comment}}|{{.CreatedBy}}' --no-trunc mine:1 | head -1",
    );
    assert!(history.ok().starts_with("words|sh -c echo x"), "{history}");
    let inspect = "$E image inspect -f '{{.Author}} {{.Config.Labels.l}}' mine:1";
    works(&sandbox, inspect).out("me m\n");
    // Saved and loaded, it is the same.
    let _ = works(&sandbox, "$E save -o m.tar mine:1; $E rmi mine:1; $E load -qi m.tar");
    assert_eq!(show("$E run --rm --network none mine:1").stdout, committed.stdout);
    // Nothing was changed: no layer.
    let none = "$E create --network none --name idle busybox >/dev/null; $E commit idle idle:1 >/dev/null; \
                $E image inspect -f '{{len .RootFS.Layers}}' busybox idle:1";
    works(&sandbox, none).out("1\n1\n");
    sandbox
        .cais(["commit", "-c", "RUN x", "idle"])
        .code(1)
        .says("run is not a valid change command");
    sandbox.cais(["commit", "absent"]).code(1).says("No such container: absent");
}

#[test]
fn another_engine_sees_what_was_committed() {
    let sandbox = Sandbox::new();
    let run = format!("$E run --network none --name made busybox sh -c '{MAKE}'");
    let script = format!(
        "$E pull -q busybox >/dev/null; {run}; $E commit made mine:1 >/dev/null; \
         $E save -o m.tar mine:1; \
         skopeo --insecure-policy copy -q docker-archive:m.tar oci:lay:x; \
         P='podman --root pod --runroot podrun --storage-driver vfs'; \
         $P load -qi m.tar >/dev/null; m=$($P image mount mine:1); \
         stat -c '%f %u %g %s %h' $m/etc/x $m/sparse $m/null $m/home/new; ls $m/home; \
         test -e $m/etc/group || echo gone; $P image umount mine:1 >/dev/null; $P rmi -af >/dev/null"
    );
    let seen = works(&sandbox, &script);
    let lines: Vec<&str> = seen.ok().lines().collect();
    assert_eq!(lines[0], "81a4 12 34 2 2", "{seen}");
    assert_eq!(lines[1], "81a4 0 0 20971524 1");
    assert_eq!(lines[4..], ["new", "gone"]);
}

#[test]
fn a_running_container_is_paused_while_it_is_committed_and_goes_on() {
    let sandbox = Sandbox::new();
    let script = "$E pull -q busybox >/dev/null; \
        $E run -d --network none --name busy busybox sh -c 'while :; do echo x >>/log; done' >/dev/null; \
        $E exec busy sh -c 'until test -s /log; do :; done'; \
        for pause in true false; do $E commit --pause=$pause busy busy:$pause >/dev/null; done; \
        $E ps --format '{{.Status}}' | cut -c1-2; \
        $E exec busy sh -c 'a=$(wc -c </log); until test $(wc -c </log) -gt $a; do :; done; echo goes on'; \
        $E rm -f busy >/dev/null";
    works(&sandbox, script).out("Up\ngoes on\n");
}

#[test]
fn a_commit_that_is_killed_lets_the_container_go_on() {
    let sandbox = Sandbox::new();
    let script = "$E pull -q busybox >/dev/null; \
        $E run -d --network none --name busy busybox sh -c \
        'head -c 20000000 /dev/urandom >/big; echo >/ready; while :; do echo x >>/log; done' >/dev/null; \
        $E exec busy sh -c 'until test -e /ready; do :; done'; \
        for n in 1 2 3 4; do $E commit busy busy:$n >/dev/null & p=$!; \
        i=0; while test $i -lt $((n * 3000)); do i=$((i+1)); done; kill -9 $p; wait $p || true; done; \
        $E exec busy sh -c 'a=$(wc -c </log); until test $(wc -c </log) -gt $a; do :; done; echo goes on'; \
        $E rm -f busy >/dev/null; ls -A $CAIS_ROOT/ingest | wc -l >/dev/null; $E images -q | wc -l";
    let outcome = works(&sandbox, script);
    assert!(outcome.ok().starts_with("goes on\n"), "{outcome}");
}

#[test]
fn an_export_is_what_the_container_sees() {
    let sandbox = Sandbox::new();
    let run = format!("$E run --network none --name made busybox sh -c '{MAKE}'");
    let script = format!(
        "$E pull -q busybox >/dev/null; {run}; $E export -o e.tar made; $E export made | cmp - e.tar; \
         tar -tf e.tar | grep -cx -e etc/x -e home/new -e etc/group -e bin/sh; \
         $E import -m words --platform linux/amd64 e.tar back:1 >/dev/null; \
         $E run --rm --network none back:1 sh -c 'cat /etc/y; tail -c4 /sparse; ls /home'; \
         $E image inspect -f '{{{{.Os}}}}/{{{{.Architecture}}}}' back:1"
    );
    works(&sandbox, &script).out("3\nx\nend\nnew\nlinux/amd64\n");
    sandbox.cais(["export", "absent"]).code(1).says("No such container: absent");
    sandbox.cais(["export", "-o", "/dev/null", "made"]).code(1).says("not a regular file");
}
