//! Where a container's lines go, and how they are read.

use std::os::unix::net::UnixDatagram;

use testkit::Sandbox;

/// Runs a container without a network to its end, in the background.
fn run(sandbox: &Sandbox, name: &str, options: &str, script: &str) {
    let line = format!(
        "$E run -d --network none --name {name} {options} busybox sh -c '{script}' >/dev/null; $E wait {name}"
    );
    sandbox.shell(&line).code(0).out("0\n");
}

#[test]
fn every_byte_of_a_log_comes_back() {
    let sandbox = Sandbox::new();
    let binary = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done; \
                  head -c 70000 /dev/zero | tr \"\\\\0\" x; printf end";
    run(&sandbox, "binary", "", binary);
    let digest =
        "$E logs binary | sha256sum; $E run --rm --network none busybox sh -c '$1' | sha256sum";
    let script = digest.replace("$1", binary);
    let outcome = sandbox.shell(&script);
    let sums: Vec<&str> = outcome.ok().lines().collect();
    assert_eq!(sums[0], sums[1]);
    sandbox
        .shell("$E logs -n 1 -t binary | head -c 5; $E rm binary")
        .code(0)
        .out("2026-binary\n".replace("2026-", sandbox.shell("date -u +%Y-").ok().trim()).as_str());
}

#[test]
fn a_log_is_bounded_and_followed_across_its_files() {
    let sandbox = Sandbox::new();
    let write = "i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done";
    let options = "--log-opt max-size=20k --log-opt max-file=3";
    run(&sandbox, "small", options, write);
    let files = "ls $CAIS_ROOT/containers/*/ | grep -c ^container.log";
    sandbox.shell(files).out("3\n");
    let kept = sandbox.shell("$E logs small");
    let kept: Vec<u32> = kept.ok().lines().map(|line| line.parse().expect("a number")).collect();
    assert!(kept.len() < 2000 && kept.len() > 300, "{}", kept.len());
    assert_eq!(kept.last(), Some(&3999));
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    sandbox.shell("$E logs -n 2 small").out("3998\n3999\n");
    sandbox.shell("$E rm small").out("small\n");
    // Whoever follows from the start sees all of it.
    let follow = format!(
        "$E create --network none --name followed --log-opt max-size=20k --log-opt max-file=50 \
         busybox sh -c '{write}' >/dev/null; $E start followed >/dev/null; \
         $E logs -f followed | awk '$1 != NR - 1 {{ print \"wrong\", NR, $1 }} END {{ print NR }}'; \
         $E rm followed"
    );
    sandbox.shell(&follow).code(0).out("4000\nfollowed\n");
}

#[test]
fn a_rate_is_kept_and_said() {
    let sandbox = Sandbox::new();
    let write = "i=0; while [ $i -lt 30 ]; do head -c 8191 /dev/zero | tr \"\\\\0\" x; echo; i=$((i+1)); done";
    run(&sandbox, "fast", "--log-opt max-rate=1k", write);
    let outcome =
        sandbox.shell("$E logs fast 2>/dev/null | wc -l; $E logs fast 2>&1 >/dev/null; $E rm fast");
    let text = outcome.ok();
    let lines: Vec<&str> = text.lines().collect();
    let shown: u32 = lines[0].parse().expect("a count");
    assert!((8..30).contains(&shown), "{text}");
    let dropped = format!("cais: {} line", 30 - shown);
    assert!(lines[1].starts_with(&dropped) && lines[1].contains("max-rate"), "{text}");
}

#[test]
fn drivers_take_their_own_options_only() {
    let sandbox = Sandbox::new();
    for (flags, part) in [
        ("--log-driver what", "no log driver named 'what' is registered"),
        ("--log-driver gelf", "log driver \"gelf\" is not supported yet"),
        ("--log-opt what=1", "unknown log opt 'what' for json-file log driver"),
        ("--log-driver local --log-opt tag=1", "unknown log opt 'tag' for local log driver"),
        ("--log-driver none --log-opt tag=1", "invalid logging opts for driver none"),
        ("--log-opt max-size=0", "invalid value for log opt max-size: '0'"),
        ("--log-opt max-file=0", "max-file cannot be less than 1"),
        ("--log-opt mode=fast", "logging mode not supported: fast"),
        ("--log-opt max-buffer-size=1m", "only supported with 'mode=non-blocking'"),
        ("--log-opt labels-regex=a", "'labels-regex' of driver json-file is not supported yet"),
        ("--log-opt tag={{.What}}", "invalid log tag"),
        ("--log-driver syslog --log-opt syslog-address=udp", "invalid syslog-address"),
        ("--log-driver journald", "failed to initialize logging driver journald"),
    ] {
        let line = format!("$E run --network none --name odd {flags} busybox true");
        let outcome = sandbox.shell(&line);
        assert_ne!(outcome.code, 0, "{flags}");
        let _ = outcome.says(part);
        let _ = sandbox.shell("$E rm -f odd");
    }
    run(&sandbox, "quiet", "--log-driver none", "echo lost");
    sandbox.shell("$E logs quiet").code(1).says("does not support reading");
    sandbox.shell("$E inspect -f '{{.HostConfig.LogConfig.Type}}{{.LogPath}}' quiet").out("none\n");
    run(&sandbox, "local", "--log-driver local", "echo kept");
    sandbox.shell("$E logs local").out("kept\n");
    sandbox.shell("$E rm quiet local").out("quiet\nlocal\n");
}

#[test]
fn a_container_is_named_in_its_lines() {
    let sandbox = Sandbox::new();
    let options = "-l com.example=a\\&b -l other=1 -e SHOWN=x -e HIDDEN=y --log-opt tag={{.Name}} \
                   --log-opt labels=com.example,none --log-opt env=SHOWN";
    run(&sandbox, "named", options, "echo line; echo line >&2");
    sandbox
        .shell("$E logs --details named 2>/dev/null; $E logs named")
        .out("SHOWN=x,com.example=a%26b,tag=named line\nline\n");
    sandbox.shell("$E rm named").out("named\n");
}

#[test]
fn lines_reach_syslog_and_are_kept_beside() {
    let sandbox = Sandbox::new();
    let path = sandbox.work().join("syslog");
    let server = UnixDatagram::bind(&path).expect("a socket can be bound");
    let receive = || {
        let mut message = [0; 4096];
        let length = server.recv(&mut message).expect("a message comes");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let deadline = std::time::Duration::from_secs(60);
    server.set_read_timeout(Some(deadline)).expect("a socket takes a time");
    let options = format!(
        "--log-driver syslog --log-opt syslog-address=unixgram://{} --log-opt tag=web \
         --log-opt syslog-format=rfc5424 --log-opt syslog-facility=local0",
        path.display()
    );
    for mode in ["", "--log-opt mode=non-blocking"] {
        run(&sandbox, "logged", &format!("{options} {mode}"), "echo out; echo err >&2");
        let mut messages = [receive(), receive()];
        messages.sort();
        assert!(
            messages[0].starts_with("<131>1 ") && messages[0].ends_with(" - err\n"),
            "{messages:?}"
        );
        assert!(
            messages[1].starts_with("<134>1 ") && messages[1].ends_with(" - out\n"),
            "{messages:?}"
        );
        assert!(messages[0].contains(" web "), "{messages:?}");
        sandbox.shell("$E logs logged 2>/dev/null; $E rm logged").out("out\nlogged\n");
    }
    run(&sandbox, "elsewhere", &format!("{options} --log-opt cache-disabled=true"), "echo out");
    assert!(receive().ends_with(" - out\n"));
    sandbox.shell("$E logs elsewhere").code(1).says("does not support reading");
    sandbox.shell("$E rm elsewhere").out("elsewhere\n");
}

#[test]
fn lines_reach_the_journal() {
    let sandbox = Sandbox::new();
    let directory = sandbox.work().join("journal");
    std::fs::create_dir(&directory).expect("the work directory takes entries");
    let server = UnixDatagram::bind(directory.join("socket")).expect("a socket can be bound");
    let deadline = std::time::Duration::from_secs(60);
    server.set_read_timeout(Some(deadline)).expect("a socket takes a time");
    let script = "set -e; mount -t tmpfs tmpfs /run; mkdir /run/systemd; \
                  ln -s $PWD/journal /run/systemd/journal; \
                  $E run --network none --name jj --log-driver journald -l a.b=c --log-opt labels=a.b \
                  busybox sh -c 'echo line >&2'; $E logs jj; $E rm jj; umount /run";
    let _ = sandbox.shell(script).code(0).out("jj\n");
    let mut message = [0; 4096];
    let length = server.recv(&mut message).expect("an entry comes");
    let entry = String::from_utf8_lossy(&message[..length]).into_owned();
    for field in
        ["CONTAINER_NAME=jj\n", "A_B=c\n", "PRIORITY=3\n", "MESSAGE=line\n", "IMAGE_NAME=busybox\n"]
    {
        assert!(entry.contains(field), "{field} {entry}");
    }
}

#[test]
fn who_comes_by_and_does_not_read_holds_nobody_up() {
    let sandbox = Sandbox::new();
    let start = "$E run -d -i --network none --name busy busybox sh -c \
                 'read x; head -c 20000000 /dev/zero | tr \"\\0\" \"\\n\"; echo >/over; exec sleep 1000' >/dev/null";
    let _ = sandbox.shell(start).ok();
    // It reads nothing of what it is sent, as a terminal that was stopped.
    let script = "mkfifo pipe; exec 3<>pipe; echo | $E attach busy >pipe 3<&- & attached=$!; \
                  pid=$($E inspect -f '{{.State.Pid}}' busy); \
                  until [ -e /proc/$pid/root/over ]; do :; done; $E rm -f busy; kill -9 $attached; wait";
    sandbox.shell(script).out("busy\n");
}
