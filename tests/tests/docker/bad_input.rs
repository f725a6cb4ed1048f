//! Bad input: a clear message, the right exit code, and nothing left (the sandbox sees to that).

use testkit::Sandbox;

#[test]
fn what_does_not_exist_is_named() {
    let sandbox = Sandbox::new();
    for (line, code, part) in [
        ("cais pull no-such-image", 1, "no-such-image"),
        ("cais pull busybox:no-such-tag", 1, "no-such-tag"),
        (
            "cais run --rm busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000 true",
            125,
            "0000",
        ),
        ("cais rmi no-such-image", 1, "no-such-image"),
        ("cais rm no-such-container", 1, "no-such-container"),
        ("cais logs no-such-container", 1, "no-such-container"),
        ("cais stop no-such-container", 1, "no-such-container"),
        ("cais container diff no-such-container", 1, "no-such-container"),
        ("cais inspect no-such-object", 1, "no-such-object"),
    ] {
        sandbox.line(line).code(code).says(part);
    }
}

#[test]
fn malformed_words_are_refused() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("cais run --rm upper/CASE true", "lowercase"),
        ("cais run --rm -m lots busybox true", "lots"),
        ("cais run --rm -m 1k busybox true", "6MB"),
        ("cais run --rm --cpus many busybox true", "many"),
        ("cais run --rm -v some/path:/x busybox true", "some/path"),
        ("cais run --rm -v /tmp:relative busybox true", "absolute"),
        ("cais run --rm -w relative busybox true", "relative"),
        ("cais run --rm --name=.odd busybox true", ".odd"),
        ("cais run --rm --cap-add NO_SUCH busybox true", "NO_SUCH"),
        ("cais run --rm --network no-such-network busybox true", "no-such-network"),
        ("cais run --rm --ulimit nofile=x busybox true", "nofile"),
        ("cais run --rm -u no-such-user busybox true", "no-such-user"),
        ("cais run --rm --env-file no-such-file busybox true", "no-such-file"),
        ("cais run --rm --device /dev/no-such-device busybox true", "no-such-device"),
        ("cais run --rm --pull sometimes busybox true", "always, missing, never"),
        ("cais run --rm --security-opt no-such-option busybox true", "no-new-privileges"),
    ] {
        sandbox.line(line).code(125).says(part);
    }
}

#[test]
fn a_name_is_taken_once() {
    let sandbox = Sandbox::new();
    let run = "cais run --name mine --network none busybox true";
    sandbox.line(run).code(0);
    sandbox.line(run).code(125).says("mine").says("already in use");
    sandbox.line("cais rm mine").code(0).out("mine\n");
    sandbox.line(run).code(0);
}

#[test]
fn an_unreachable_registry_is_named() {
    let sandbox = Sandbox::new();
    sandbox.line("cais pull 127.0.0.1:9/some/image").code(1).says("127.0.0.1:9");
    sandbox.line("cais pull registry.invalid/some/image").code(1).says("registry.invalid");
    sandbox
        .line("cais run --rm registry.invalid/some/image true")
        .code(125)
        .says("registry.invalid");
}

#[test]
fn a_running_container_is_not_removed_without_force() {
    let sandbox = Sandbox::new();
    sandbox.line("cais run -d --name busy --network none busybox sleep 1000").code(0);
    sandbox.line("cais rm busy").code(1).says("running");
    sandbox.line("cais rmi busybox").code(1).says("using");
    sandbox.line("cais rm -f busy").code(0).out("busy\n");
}

#[test]
fn a_command_of_docker_s_that_is_missing_is_told_from_a_misspelling() {
    let sandbox = Sandbox::new();
    sandbox.line("cais swarm init").code(2).says("swarm is a command of Docker's");
    sandbox.line("cais checkpoint ls web").code(2).says("checkpoint is a command of Docker's");
    sandbox.line("cais start --checkpoint c web").code(1).says("not supported");
    sandbox.line("cais rum busybox").code(2).says("'run'");
    let outcome = sandbox.line("cais run --no-such-flag busybox");
    outcome.code(125).says("--no-such-flag");
    assert!(!outcome.stderr.contains("as a value"), "{outcome}");
}

#[test]
fn help_says_what_a_command_does() {
    let sandbox = Sandbox::new();
    let first = |line: &str| sandbox.line(line).ok().lines().next().map(str::to_owned);
    for (line, about) in [
        ("cais run --help", "Create and run a new container from an image"),
        ("cais container run --help", "Create and run a new container from an image"),
        ("cais image ls --help", "List images"),
    ] {
        assert_eq!(first(line).as_deref(), Some(about), "{line}");
    }
}

#[test]
fn an_image_for_another_platform_is_not_run_for_the_one_asked_for() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let run = "cais run --rm --network none --platform linux/arm64";
    sandbox.line(&format!("{run} --pull never busybox true")).code(125).says("linux/amd64");
    // What is not here is looked for in the registry, which has none either.
    sandbox.line(&format!("{run} busybox true")).code(125).says("no image for linux/arm64");
}

#[test]
fn what_is_no_archive_is_named() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("junk.tar"), "junk").expect("a file can be written");
    sandbox.line("cais load -i junk.tar").code(1).says("load junk.tar").says("docker save");
}

#[test]
fn an_option_behind_the_image_is_told_where_it_belongs() {
    let sandbox = Sandbox::new();
    for word in ["--tty", "--name", "-d", "--help", "--root", "--no-such-flag"] {
        let outcome = sandbox.line(&format!("cais run --rm --network none busybox {word}"));
        outcome.code(127).says(word).says("stand before the image");
    }
    let run = "cais run --rm --network none --entrypoint echo busybox -i --name x -- -e";
    sandbox.line(run).code(0).out("-i --name x -- -e\n");
}

#[test]
fn a_pull_that_fills_the_disk_leaves_nothing_of_itself() {
    let sandbox = Sandbox::new();
    let disk = sandbox.work().join("disk");
    std::fs::create_dir(&disk).expect("a directory can be made");
    let disk = disk.to_str().expect("the sandbox's paths are text");
    sandbox.host(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]).code(0);
    let pull = ["--root", disk, "pull", "debian"];
    sandbox.cais(pull).code(1).says("No space left").says("hint: the disk is full");
    let files = sandbox.host(["find", disk, "-type", "f", "!", "-name", "store.*"]);
    files.code(0).out("");
    sandbox.host(["umount", disk]).code(0);
}

#[test]
fn a_container_that_filled_the_disk_has_ended_all_the_same() {
    let sandbox = Sandbox::new();
    let disk = sandbox.work().join("disk");
    std::fs::create_dir(&disk).expect("a directory can be made");
    let disk = disk.to_str().expect("the sandbox's paths are text");
    sandbox.host(["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk]).code(0);
    let fill = "dd if=/dev/zero of=/big bs=64k; echo full >&2; [ $(ls / | wc -l) -gt 1 ]";
    let cais = |words: &[&str]| sandbox.words(&[&["--root", disk], words].concat());
    let _ = cais(&["pull", "busybox"]).ok();
    cais(&["run", "--network", "none", "--name", "big", "busybox", "sh", "-c", fill]).says("full");
    cais(&["start", "big"]).code(1).says("No space left").says("hint: the disk is full");
    cais(&["rm", "big"]).code(0).out("big\n");
    sandbox.host(["umount", disk]).code(0);
}

#[test]
fn an_id_file_that_cannot_be_made_costs_no_container() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let run = "cais run --rm --network none --cidfile no/such/place busybox true";
    sandbox.line(run).code(125).says("no/such/place").says("hint: ");
    sandbox.line("cais ps -aq").code(0).out("");
    sandbox.line("cais run --cidfile id --network none busybox no-such-program").code(127);
    sandbox.line("cais create --cidfile id2 --pull never no-such-image").code(1);
    assert!(!sandbox.work().join("id2").exists());
}

#[test]
fn whoever_only_looks_or_fails_makes_no_root() {
    let sandbox = Sandbox::new();
    for words in [
        "images -a",
        "ps -a",
        "volume ls",
        "network ls",
        "info",
        "version",
        "system df -v",
        "system fsck",
        "history no",
        "inspect no",
        "logs no",
        "diff no",
        "rmi no",
        "rm no",
        "stop no",
        "stats --no-stream",
        "image tree",
        "volume inspect no",
        "volume rm no",
        "network inspect no",
        "network rm no",
        "run --pull never no",
        "create --pull never no",
        "push no:1",
        "save no:1",
        "tag no no:2",
        "commit no",
        "export no",
        "cp no:/x .",
    ] {
        let script = format!(
            "$E --root typo/root --run-root typo/run {words} >/dev/null 2>&1; \
             [ ! -e typo ] || {{ find typo; rm -r typo; }}"
        );
        let left = sandbox.shell(&script);
        assert_eq!(left.ok(), "", "{words} leaves something");
    }
}
