//! What takes space, why, and how to get it back.

use testkit::{Entry, Sandbox};

/// Two images that share layers, one of them without a tag, containers with logs and volumes, and
/// what interrupted processes leave.
fn fill(sandbox: &Sandbox) {
    let big = vec![Entry::file("big", vec![b'x'; 300_000]), Entry::directory("d")];
    let more = vec![Entry::file("d/more", vec![b'y'; 90_000])];
    sandbox.save_image("one.tar", "one:latest", std::slice::from_ref(&big), |_| {});
    sandbox.save_image("two.tar", "one:latest", &[big, more], |_| {});
    for file in ["one.tar", "two.tar"] {
        let _ = sandbox.cais(["load", "-qi", file]).ok();
    }
    let run = "$E run --network none --name kept -v data:/data -v /anonymous one sh -c 'echo log; dd if=/dev/zero of=/data/file bs=1000 count=70; dd if=/dev/zero of=/own bs=1000 count=50' 2>/dev/null";
    let _ = sandbox.shell(run).ok();
    let _ = sandbox.shell("$E volume create unused && $E volume create >/dev/null").ok();
}

/// Removes what no container goes with.
fn clean(sandbox: &Sandbox) {
    let _ = sandbox.shell("$E system prune -f --volumes && $E volume prune -af").ok();
}

fn sum(sandbox: &Sandbox) -> u64 {
    let all = sandbox.cais(["system", "df", "--why", "--format", "{{.Bytes}}"]);
    all.ok().lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

fn du(sandbox: &Sandbox) -> u64 {
    let root = sandbox.root();
    let du = sandbox.host(["du", "-s", "--block-size=1", root.to_str().unwrap()]);
    du.ok().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn every_byte_of_the_store_has_a_holder() {
    let sandbox = Sandbox::new();
    fill(&sandbox);
    std::fs::create_dir_all(sandbox.root().join("ingest")).unwrap();
    std::fs::write(sandbox.root().join("ingest").join("a".repeat(64)), vec![0; 100_000]).unwrap();
    let (held, taken) = (sum(&sandbox), du(&sandbox));
    assert!(held.abs_diff(taken) * 100 <= taken, "{held} bytes are held, du says {taken}");
    let why =
        sandbox.cais(["system", "df", "--why", "--format", "{{.Type}} {{.Name}} {{.HeldBy}}"]);
    for part in [
        "log kept exited",
        "volume data container kept",
        "volume unused nobody",
        "download sha256:aaaa",
    ] {
        assert!(why.ok().contains(part), "{part:?} is not in {why}");
    }
    let _ =
        sandbox.shell("$E rm -v kept && $E system prune -af --volumes && $E volume prune -af").ok();
    let (held, taken) = (sum(&sandbox), du(&sandbox));
    assert!(held.abs_diff(taken) * 100 <= taken, "{held} bytes are held, du says {taken}");
}

#[test]
fn usage_counts_what_docker_counts() {
    let sandbox = Sandbox::new();
    fill(&sandbox);
    let format = "{{.Type}}|{{.TotalCount}}|{{.Active}}";
    let df = sandbox.cais(["system", "df", "--format", format]);
    df.code(0).out("Images|2|1\nContainers|1|0\nLocal Volumes|4|2\nBuild Cache|0|0\n");
    let verbose = sandbox.line("cais system df -v");
    for part in [
        "Images space usage:\n\nREPOSITORY",
        "\nContainers space usage:\n\nCONTAINER ID",
        "\nLocal Volumes space usage:\n\nVOLUME NAME",
        "\nBuild cache usage: 0B\n\nCACHE ID",
        "50kB",
        "<none>",
    ] {
        assert!(verbose.stdout.contains(part), "{part:?} is not in {verbose}");
    }
    let json = sandbox.line("cais system df -v --format json");
    let json: serde_json::Value = serde_json::from_str(json.ok()).unwrap();
    assert_eq!(json["Images"].as_array().unwrap().len(), 2);
    assert_eq!(json["Containers"][0]["Names"], "kept");
    sandbox.line("cais system df -v --why").code(1).says("choose one");
    clean(&sandbox);
}

#[test]
fn pruning_takes_what_nobody_uses_and_asks_first() {
    let sandbox = Sandbox::new();
    fill(&sandbox);
    let no = sandbox.shell("echo n | $E image prune");
    assert!(no.ok().ends_with("continue? [y/N] "), "{no}");
    sandbox
        .line("cais image prune -f --filter label=none")
        .code(0)
        .out("Total reclaimed space: 0B\n");
    sandbox.line("cais image prune -f --filter until=soon").code(1).says("until");
    sandbox.line("cais image prune -f --filter color=red").code(1).says("color");
    // The first image lost its name to the second one.
    let dangling = sandbox.line("cais image prune -f");
    assert!(dangling.ok().starts_with("Deleted Images:\ndeleted: sha256:"), "{dangling}");
    sandbox.line("cais image prune -f").code(0).out("Total reclaimed space: 0B\n");
    // A container needs the other one.
    sandbox.line("cais image prune -af").code(0).out("Total reclaimed space: 0B\n");

    let volumes = sandbox.line("cais volume prune -f");
    assert_eq!(volumes.ok().lines().count(), 4, "{volumes}");
    sandbox.line("cais volume ls -q -f dangling=true").code(0).out("unused\n");
    let all = sandbox.line("cais volume prune -f --filter all=1");
    all.code(0).out("Deleted Volumes:\nunused\n\nTotal reclaimed space: 4.096kB\n");
    sandbox.line("cais volume rm data").code(1).says("volume is in use");

    let old = sandbox.line("cais container prune -f --filter until=24h");
    old.code(0).out("Total reclaimed space: 0B\n");
    let system = sandbox.shell("echo y | $E system prune -a");
    for part in [
        "WARNING! This will remove:\n  - all stopped containers\n",
        "  - all images without at least one container associated to them\n",
        "continue? [y/N] Deleted Containers:\n",
        "\n\nDeleted Images:\nuntagged: one:latest\ndeleted: sha256:",
    ] {
        assert!(system.stdout.contains(part), "{part:?} is not in {system}");
    }
    sandbox.line("cais images -aq").code(0).out("");
    sandbox.line("cais ps -aq").code(0).out("");
    let left = sandbox.line("cais volume ls -q");
    assert!(left.ok().contains("data"), "named volumes stay: {left}");
    let mut blobs = sandbox.root();
    blobs.push("blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
    clean(&sandbox);
}

#[test]
fn a_full_disk_makes_room_for_what_comes() {
    let sandbox = Sandbox::new();
    fill(&sandbox);
    let _ = sandbox
        .shell("$E rm kept && $E load -qi one.tar && $E create --network none --name user one true")
        .ok();
    // Of the two images, the one without a name has no container, either.
    sandbox.configure("[storage]\nhigh-watermark = 0\nlow-watermark = '0%'\n");
    let load = sandbox.line("cais load -qi one.tar");
    load.code(0).says("removed 1 unused images");
    assert_eq!(load.stderr.lines().count(), 1, "{load}");
    let images = sandbox.line("cais images -q");
    assert_eq!(images.ok().lines().count(), 1, "{images}");
    let volumes = sandbox.line("cais volume ls -q");
    assert_eq!(volumes.ok().lines().count(), 4, "{volumes}");
    let again = sandbox.line("cais load -qi one.tar");
    assert_eq!(again.code(0).stderr, "");
    let _ = sandbox.shell("$E start user && $E wait user && $E rm user").ok();
    clean(&sandbox);
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let sandbox = Sandbox::new();
    sandbox.line("cais volume create --label a=1 --label b one").code(0).out("one\n");
    sandbox.line("cais volume create one").code(0).out("one\n");
    let random = sandbox.line("cais volume create");
    assert_eq!(random.ok().len(), 64, "{random}");
    sandbox
        .line("cais volume ls -f name=one")
        .code(0)
        .out("DRIVER    VOLUME NAME\nlocal     one\n");
    sandbox.line("cais volume ls -q -f label=a=1 -f label=b").code(0).out("one\n");
    sandbox.line("cais volume ls -q -f label=c").code(0).out("");
    let labels =
        sandbox.cais(["volume", "inspect", "-f", "{{.Labels.a}} {{.Driver}} {{.Scope}}", "one"]);
    labels.code(0).out("1 local local\n");
    sandbox.line("cais volume create .odd").code(1).says("invalid");
    sandbox.line("cais volume create -d nfs two").code(1).says("nfs");
    sandbox.line("cais volume create -o type=tmpfs two").code(1).says("missing required option");
    sandbox.line("cais volume inspect two").code(1).says("No such volume: two");
    sandbox.line("cais volume rm two").code(1).says("No such volume: two");
    sandbox.line("cais volume rm -f two").code(0).out("two\n");
    sandbox.line("cais volume rm one").code(0).out("one\n");
    let left = sandbox.line("cais volume ls -q");
    assert_eq!(left.ok(), random.ok());
    clean(&sandbox);
}

#[test]
fn what_builds_keep_and_what_was_broken_off_is_counted_and_pruned() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let script = "dd if=/dev/zero of=/big bs=1000 count=400 2>/dev/null; echo x >/cache/x";
    let dockerfile =
        format!("FROM busybox\nRUN --mount=type=cache,target=/cache {script}\nRUN false || true\n");
    std::fs::write(sandbox.work().join("Dockerfile"), dockerfile).unwrap();
    let since = sandbox.host(["date", "+%s.%N"]).ok().to_owned();
    let _ = sandbox.cais(["build", "-q", "-t", "built:1", "."]).ok();
    let events = [
        "events",
        "--since",
        &since,
        "--until",
        "0s",
        "--filter",
        "type=image",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ];
    let events = sandbox.cais(events);
    assert!(events.ok().starts_with("create sha256:"), "{events}");
    assert!(events.ok().ends_with("\ntag built:1"), "{events}");
    let _ = sandbox.cais(["rmi", "built:1"]).ok();
    let name = "a".repeat(64);
    std::fs::create_dir_all(sandbox.root().join("ingest")).unwrap();
    std::fs::write(sandbox.root().join("ingest").join(&name), vec![1; 100_000]).unwrap();
    let df = sandbox.cais(["system", "df", "--format", "{{.Type}} {{.Active}} {{.Size}}"]);
    let line = |start: &str| {
        let line = df.ok().lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {df}")).to_owned()
    };
    assert_eq!(line("Unfinished"), "Unfinished 0 102.4kB");
    assert!(line("Build Cache").starts_with("Build Cache 0 4"), "{df}");
    let verbose = sandbox.line("cais system df -v");
    for part in ["exec.cachemount", "regular", "Build cache usage: 4"] {
        assert!(verbose.ok().contains(part), "{part:?} is not in {verbose}");
    }
    let why = sandbox.cais(["system", "df", "--why", "--format", "{{.Type}} {{.HeldBy}}"]);
    assert!(why.ok().contains("layer builds") && why.ok().contains("build cache builds"), "{why}");
    let (held, taken) = (sum(&sandbox), du(&sandbox));
    assert!(held.abs_diff(taken) * 100 <= taken, "{held} bytes are held, du says {taken}");
    let pruned = sandbox.line("cais builder prune -af");
    let reclaimed = pruned.ok().lines().last().unwrap();
    assert!(reclaimed.starts_with("Total reclaimed space: 4"), "{pruned}");
    let builder = ["events", "--since", &since, "--until", "0s", "--filter", "type=builder"];
    assert!(sandbox.cais(builder).ok().contains("builder prune  (reclaimed=4"));
    let all = sandbox.line("cais system prune -af");
    let part = format!("Deleted unfinished downloads:\nsha256:{name}\n");
    assert!(all.ok().contains(&part), "{all}");
    let left = sandbox.cais(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert!(left.ok().ends_with("Build Cache 0"), "{left}");
}
