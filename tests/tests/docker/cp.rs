//! `cp` beyond what Docker has: memory of running containers, user namespaces, interruptions.

use testkit::Sandbox;

#[test]
fn a_running_container_s_memory_is_reached() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E run -d --network none --tmpfs /t --name busy busybox sleep 1000 >/dev/null
        echo text >file; $E cp file busy:/t/file; $E exec busy cat /t/file
        $E exec busy sh -c 'echo back >/t/back'; $E cp busy:/t/back - | tar -x -O
        $E pause busy >/dev/null; $E cp busy:/t/back copy; cat copy; $E unpause busy >/dev/null
        # What the kernel makes up has no size that could be copied.
        $E cp busy:/proc/1/status . 2>&1 | head -n 1
        $E cp busy:/ - | tar -t | grep -cE '^/?(proc|sys|dev)/.' || true
        $E rm -f busy",
    );
    let refused =
        "cais: `/proc/1/status` is made up by the kernel when it is read, and cannot be copied";
    assert_eq!(shown.ok(), format!("text\nback\nback\n{refused}\n0\nbusy"));
}

#[test]
fn owners_are_those_of_the_user_namespace() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        echo text >file; chown 5:6 file; mkdir -p tree/deep; echo deep >tree/deep/x; chmod 700 tree/deep
        run='--userns 100000:65536 --network none -v data:/data busybox'
        $E run -d --name busy $run sleep 1000 >/dev/null; $E create --name idle $run stat -c '%u:%g %a' /file /tree/deep /data/idle >/dev/null
        $E cp file idle:/file; $E cp tree idle:/; $E cp file idle:/data/idle; $E start -a idle
        $E cp file busy:/file; $E cp tree busy:/; $E cp file busy:/data/busy
        $E exec busy stat -c '%u:%g %a' /file /tree/deep /data/busy
        $E exec busy sh -c 'touch /own; chown 7:8 /own'
        $E cp busy:/own - | tar -tv --numeric-owner | cut -d' ' -f2
        $E cp -a busy:/own own; stat -c %u:%g own
        $E rm -f busy idle >/dev/null; $E volume rm data",
    );
    let expected = "5:6 644\n0:0 700\n5:6 644\n5:6 644\n0:0 700\n5:6 644\n7/8\n7:8\ndata";
    assert_eq!(shown.ok(), expected);
}

#[test]
fn holes_stay_holes() {
    let sandbox = Sandbox::new();
    // In a layer, and in the container's own files.
    let script = "mkdir tree; truncate -s 50M tree/layer; printf end >>tree/layer; \
        tar -S -C tree -c . | $E import - sparse:1 >/dev/null; cp --sparse=always tree/layer own; \
        $E create --name holes --network none sparse:1 x >/dev/null; $E cp own holes:/own; \
        for name in layer own; do $E cp holes:/$name out; stat -c %s out; tail -c 3 out; \
        [ $(stat -c %b out) -lt 1000 ] && echo ' sparse'; rm out; done; $E rm holes";
    sandbox.shell(script).code(0).out("52428803\nend sparse\n52428803\nend sparse\nholes\n");
}

#[test]
fn what_was_interrupted_leaves_a_container_that_starts() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E create --network none --name idle busybox cat /whole >/dev/null
        mkfifo slow; echo whole >whole; head -c 900000 /dev/zero >large
        # The archive has begun when its first file is there, and never ends.
        $E cp - idle:/ <slow & copy=$!
        exec 3>slow; tar -c whole large | head -c 600000 >&3
        until [ -s \"$CAIS_ROOT\"/containers/*/upper/whole ]; do :; done
        # Nobody starts it meanwhile.
        $E start -a idle >started & start=$!
        kill -KILL $copy; wait $copy || true
        wait $start; cat started
        exec 3>&-
        $E cp whole idle:/again; $E cp idle:/again - | tar -t
        $E rm idle",
    );
    assert_eq!(shown.ok(), "whole\nagain\nidle");
}

#[test]
fn a_user_s_files_are_its_own() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        echo text >file; chown 12345:12346 file
        $E create --network none -u www-data --name idle busybox stat -c %U:%G /tmp/plain /tmp/own >/dev/null
        $E cp file idle:/tmp/plain; $E cp -a file idle:/tmp/own
        $E start -a idle
        $E rm idle",
    );
    assert_eq!(shown.ok(), "UNKNOWN:UNKNOWN\nwww-data:www-data\nidle");
}
