//! The machine is restarted: what ran is found not to, and what is to run is started again.

use testkit::Sandbox;

/// As if the machine had lost its power: every process of ours and of the containers is gone, and so
/// is what lies in /run; the kernel has another identifier for this start.
const POWER_OFF: &str = r#"
for state in "$CAIS_ROOT"/containers/*/state.json; do
    for name in monitor_pid pid; do
        pid=$(grep -o "\"$name\":[0-9]*" "$state" | cut -d: -f2)
        [ "$pid" = 0 ] || kill -KILL "$pid" 2>/dev/null || true
        while [ "$pid" != 0 ] && grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null; do :; done
    done
done
rm -rf "$CAIS_RUN"/*
echo 00000000-0000-4000-8000-000000000000 >boot
mount --bind boot /proc/sys/kernel/random/boot_id
"#;

#[test]
fn policies_decide_what_starts_with_the_machine() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let shown = sandbox.shell(&format!(
        "set -e
        run() {{ $E run -d --network none --name $1 $2 busybox sleep 1000 >/dev/null; }}
        run always '--restart always'
        run always-stopped '--restart always'; $E stop -t 0 always-stopped >/dev/null
        run unless '--restart unless-stopped'
        run unless-stopped '--restart unless-stopped'; $E stop -t 0 unless-stopped >/dev/null
        run failure '--restart on-failure:3'
        run plain ''
        run gone '--rm'
        $E run -d --network none --name success --restart on-failure busybox true >/dev/null
        $E wait success >/dev/null
        $E create --network none --name created --restart always busybox sleep 1000 >/dev/null
        $E run -d --network container:always --name joined --restart always busybox sleep 1000 >/dev/null
        {POWER_OFF}
        $E ps -a --format '{{{{.Names}}}} {{{{.State}}}}' | sort
        $E inspect -f '{{{{.State.ExitCode}}}} {{{{.State.Error}}}}' plain
        echo == restore
        $E system restore
        echo == again
        $E system restore
        $E ps --format '{{{{.Names}}}}' | sort
        $E inspect -f '{{{{.RestartCount}}}} {{{{.State.Running}}}}' always
        $E exec joined true
        $E ps -aq | xargs $E rm -f >/dev/null
        umount /proc/sys/kernel/random/boot_id"
    ));
    let expected = "always exited\nalways-stopped exited\ncreated created\nfailure exited\n\
        gone exited\njoined exited\nplain exited\nsuccess exited\nunless exited\n\
        unless-stopped exited\n255 the machine was restarted while it ran\n== restore\nalways\n\
        always-stopped\nunless\nfailure\njoined\n== again\nalways\nalways-stopped\nfailure\n\
        joined\nunless\n0 true";
    assert_eq!(shown.ok(), expected);
}

#[test]
fn what_cannot_be_started_is_told_and_keeps_nobody_else() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let outcome = sandbox.shell(&format!(
        "set -e
        mkdir here
        $E run -d --network none --name first --restart always --mount type=bind,src=$PWD/here,dst=/x busybox sleep 1000 >/dev/null
        $E run -d --network none --name second --restart always busybox sleep 1000 >/dev/null
        {POWER_OFF}
        rmdir here
        $E system restore && code=0 || code=$?
        $E ps --format '{{{{.Names}}}}'
        $E rm -f first second >/dev/null
        umount /proc/sys/kernel/random/boot_id
        exit $code"
    ));
    let outcome = outcome.code(1);
    assert_eq!(outcome.stdout, "second\nsecond\n");
    assert!(outcome.stderr.contains("start first"), "{outcome}");
}

#[test]
fn the_unit_is_written_and_removed() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E system install --unit-dir $PWD/units >said
        head -n 2 said | sed \"s,$PWD,,; s/cais-[0-9a-f]*/cais-HEX/g\"
        unit=$(ls -d units/*.service)
        readlink units/multi-user.target.wants/* | sed 's/cais-[0-9a-f]*/cais-HEX/'
        grep ExecStart $unit | sed \"s,$E,cais,; s,$CAIS_ROOT,ROOT,; s,$CAIS_RUN,RUN,\"
        # What it says is what is done at the machine's start.
        eval \"$(sed -n 's/^ExecStart=//p' $unit)\"
        $E system install --unit-dir $PWD/units >/dev/null
        $E system install --uninstall --unit-dir $PWD/units | wc -l
        find units -type f -o -type l
        $E system install --uninstall --unit-dir $PWD/units",
    );
    let expected = "wrote /units/cais-HEX.service\nlinked /units/multi-user.target.wants/cais-HEX.service\n\
        ../cais-HEX.service\nExecStart=cais --root ROOT --run-root RUN system restore\n2";
    assert_eq!(shown.ok(), expected);
}
