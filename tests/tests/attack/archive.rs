//! `cp`, in and out of containers that mean harm.

use std::fs;

use testkit::{Entry, Sandbox};

use super::import;

/// Copies in and out while names change places; each is a chance for the container.
const ROUNDS: usize = 12;
const SECRET: &str = "the-secret-of-the-host";

/// A directory of the host with a secret in it, at a path that the container knows.
fn host(sandbox: &Sandbox) -> String {
    let host = sandbox.work().join("host");
    fs::create_dir(&host).expect("the work directory takes entries");
    fs::write(host.join("file"), SECRET).expect("a directory takes files");
    host.display().to_string()
}

/// Nothing came to the directory, and nothing in it was changed.
fn check(sandbox: &Sandbox) {
    let host = sandbox.work().join("host");
    let names: Vec<_> = fs::read_dir(&host).expect("it is there").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(fs::read_to_string(host.join("file")).expect("it is there"), SECRET);
}

/// Links to the host, in every place where a path has one (CVE-2018-15664).
#[test]
fn links_lead_nowhere_but_inside() {
    let sandbox = Sandbox::new();
    let host = host(&sandbox);
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let links = format!(
        "mkdir /w; ln -s {host} /w/absolute; ln -s ../../../../../../../..{host} /w/relative; \
         ln -s {host}/file /w/file; ln -s /proc/self/cwd /w/magic; ln -s /proc/1/root{host} /w/root; \
         [ -z \"$WAIT\" ] || exec sleep 1000"
    );
    let run = ["run", "--network", "none", "--name", "idle", "plain", "sh", "-c", &links];
    let _ = sandbox.cais(run).ok();
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        "-e",
        "WAIT=1",
        "plain",
        "sh",
        "-c",
        &links,
    ];
    let _ = sandbox.cais(run).ok();
    let _ = sandbox.shell("until $E exec busy ls -l /w/root 2>/dev/null; do :; done").ok();
    for name in ["idle", "busy"] {
        let script = format!(
            "mkdir -p out-{name} tree/absolute tree/file; echo ours >tree/absolute/new; echo ours >tree/file/x
            for link in absolute relative magic root; do
                $E cp {name}:/w/$link/file out-{name}/ 2>/dev/null
                $E cp tree/absolute/new {name}:/w/$link/new 2>/dev/null
                $E cp tree/absolute/new {name}:/w/$link 2>/dev/null
                tar -c -C tree absolute | $E cp - {name}:/w/$link 2>/dev/null
            done
            $E cp -L {name}:/w/file out-{name}/ 2>/dev/null
            $E cp {name}:/w/file out-{name}/link
            $E cp tree/absolute/new {name}:/w/file 2>/dev/null
            $E cp tree {name}:/w 2>/dev/null
            tar -c -C tree absolute file | $E cp - {name}:/w 2>/dev/null
            cat $(find out-{name} -type f) /dev/null"
        );
        let outcome = sandbox.shell(&script);
        assert!(!outcome.stdout.contains(SECRET), "{outcome}");
        check(&sandbox);
    }
    let _ = sandbox.cais(["rm", "-f", "idle", "busy"]).ok();
}

/// The same, where links and directories change places all the time.
#[test]
fn a_race_is_won_by_nobody() {
    let sandbox = Sandbox::new();
    let host = host(&sandbox);
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let swap = format!(
        "mkdir -p /w/dir; echo inside >/w/dir/file; cd /w; echo ready; \
         while :; do mv dir real; ln -s {host} dir; rm dir; mv real dir; done"
    );
    let run = ["run", "-d", "--network", "none", "--name", "racing", "plain", "sh", "-c", &swap];
    let _ = sandbox.cais(run).ok();
    let script = format!(
        "until $E logs racing | grep -q ready; do :; done
        mkdir -p out tree/dir; echo ours >tree/dir/new
        i=0; while [ $i -lt {ROUNDS} ]; do
            i=$((i+1)); rm -rf out/*
            $E cp racing:/w/dir/file out/ 2>/dev/null
            $E cp racing:/w/dir out/ 2>/dev/null
            $E cp racing:/w/dir/. out/ 2>/dev/null
            $E cp tree/dir/new racing:/w/dir/ 2>/dev/null
            $E cp tree/dir racing:/w/ 2>/dev/null
            # What came as a link stays one.
            for file in $(find out -type f); do cat $file; done | sort -u
        done | sort -u >seen; cat seen
        # The way in question is open now and then.
        rm -rf out/*
        grep -q inside seen || until $E cp racing:/w/dir/file out/ 2>/dev/null && grep -qs inside out/file; do rm -rf out/*; done
        cat out/file 2>/dev/null || true"
    );
    let outcome = sandbox.shell(&script);
    assert!(!outcome.stdout.contains(SECRET), "{outcome}");
    assert!(outcome.stdout.contains("inside"), "nothing was copied: {outcome}");
    check(&sandbox);
    let _ = sandbox.cais(["rm", "-f", "racing"]).ok();
}

/// Docker's helper loaded libraries from the container (CVE-2019-14271). Whoever opens one of these
/// for reading waits for ever.
#[test]
fn nothing_of_the_container_is_loaded() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let traps = "cd /; mkdir -p /lib/x86_64-linux-gnu /lib64 /usr/lib /etc; \
        for f in lib/x86_64-linux-gnu/libnss_files.so.2 lib/x86_64-linux-gnu/libc.so.6 \
        lib64/ld-linux-x86-64.so.2 usr/lib/libnss_files.so.2 etc/nsswitch.conf etc/ld.so.preload \
        etc/ld.so.cache etc/passwd etc/group bin/tar bin/gzip bin/docker-tar; do \
        rm -f $f; busybox mkfifo $f; done";
    let run = ["run", "--network", "none", "--name", "trap", "plain", "sh", "-c", traps];
    let _ = sandbox.cais(run).ok();
    let shown = sandbox.shell(
        "set -e
        echo text >file; $E cp file trap:/tmp/file; $E cp trap:/tmp/file copy; cat copy
        tar -c file | gzip | $E cp -a - trap:/tmp; $E cp -a trap:/tmp/file - | tar -t
        $E rm trap",
    );
    assert_eq!(shown.ok(), "text\nfile\ntrap");
}

/// Archives that lead out of where they are unpacked.
#[test]
fn hostile_archives_stay_inside() {
    let sandbox = Sandbox::new();
    let host = host(&sandbox);
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let inside = host.trim_start_matches('/');
    let cases: [(&str, Vec<Entry>); 4] = [
        ("link", vec![Entry::symlink("l", &host), Entry::file("l/new", "x")]),
        (
            "far",
            vec![
                Entry::symlink("l", "../../../../../../../.."),
                Entry::file(&format!("l/{inside}/new"), "x"),
            ],
        ),
        ("hard", vec![Entry::symlink("l", &host), Entry::hardlink("stolen", "l/file")]),
        ("over", vec![Entry::symlink("f", &format!("{host}/file")), Entry::file("f", "x")]),
    ];
    let create = ["create", "--network", "none", "--name", "idle", "plain", "true"];
    let _ = sandbox.cais(create).ok();
    let run = ["run", "-d", "--network", "none", "--name", "busy", "plain", "sleep", "1000"];
    let _ = sandbox.cais(run).ok();
    for (name, entries) in cases {
        sandbox.save_archive(&format!("{name}.tar"), &entries);
        for container in ["idle", "busy"] {
            let _ = sandbox.shell(&format!("$E cp - {container}:/tmp <{name}.tar"));
            check(&sandbox);
        }
    }
    let up = "for to in idle busy; do echo x >new; tar -P -c --transform 's,^,../../../..{host}/,' new | $E cp - $to:/tmp; done";
    let _ = sandbox.shell(&up.replace("{host}", &host));
    check(&sandbox);
    let taken = sandbox.shell("$E cp idle:/tmp - | tar -x -O; $E cp busy:/tmp - | tar -x -O");
    assert!(!taken.stdout.contains(SECRET), "{taken}");
    let _ = sandbox.cais(["rm", "-f", "idle", "busy"]).ok();
}
