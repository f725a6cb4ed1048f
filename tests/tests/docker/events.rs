//! What has happened, told to whoever listens, by processes that know nothing of each other.

use testkit::Sandbox;

#[test]
fn who_listens_hears_what_happens() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E pull -q busybox >/dev/null
        format='{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'
        $E events --since 0 --filter container=one --format \"$format\" >heard & listener=$!
        $E run --rm --network none --name one busybox true
        until grep -q destroy heard; do :; done
        # Nobody looks for news all the time: who waits, sleeps.
        until grep -q '^State:.S' /proc/$listener/status; do :; done
        kill $listener; wait $listener || true
        cat heard
        $E events --since 0 --until $(($(date +%s)+1)) --filter type=image --format \"$format\"",
    );
    let expected = "container create one\ncontainer attach one\ncontainer start one\n\
        container die one\ncontainer destroy one\nimage pull busybox";
    assert_eq!(shown.ok(), expected);
}

#[test]
fn many_at_once_are_all_told() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E pull -q busybox >/dev/null
        for n in 0 1 2 3 4 5 6 7 8 9; do
            $E run -d --network none --name many-$n busybox true >/dev/null &
        done; wait
        for n in 0 1 2 3 4 5 6 7 8 9; do $E wait many-$n >/dev/null & done; wait
        $E events --since 0 --until $(($(date +%s)+1)) --filter container=many- --format '{{.Action}}' | sort | uniq -c | sed 's/^ *//'
        $E rm $($E ps -aq) >/dev/null",
    );
    assert_eq!(shown.ok(), "10 create\n10 die\n10 start");
}

#[test]
fn health_and_memory_are_told() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E run -d --network none --name sick --health-cmd 'test ! -e /sick' --health-interval 20ms --health-retries 1 busybox sleep 1000 >/dev/null
        $E events --since 0 --filter event=health_status --format '{{.Action}}' >heard & listener=$!
        until grep -q ': healthy' heard; do :; done
        $E exec sick touch /sick
        until grep -q unhealthy heard; do :; done
        kill $listener; wait $listener || true
        cat heard
        $E run --network none --name large -m 16m --memory-swap 16m busybox sh -c 'x=x; while :; do x=$x$x; done' || true
        $E events --since 0 --until $(($(date +%s)+1)) --filter container=large --format '{{.Action}} {{.Actor.Attributes.exitCode}}' | grep -E '^(oom|die)'
        $E rm -f sick large >/dev/null",
    );
    let expected = "health_status: healthy\nhealth_status: unhealthy\noom <no value>\ndie 137";
    assert_eq!(shown.ok(), expected);
}

#[test]
fn a_monitor_that_is_killed_is_no_event() {
    let sandbox = Sandbox::new();
    let shown = sandbox.shell(
        "set -e
        $E run -d --network none --name kept busybox sleep 1000 >/dev/null
        monitor=$(grep -o '\"monitor_pid\":[0-9]*' \"$CAIS_ROOT\"/containers/*/state.json | cut -d: -f2)
        kill -KILL $monitor; while grep -q '^State:.[^Z]' /proc/$monitor/status 2>/dev/null; do :; done
        $E stop -t 0 kept >/dev/null
        $E events --since 0 --until $(($(date +%s)+1)) --filter container=kept --format '{{.Action}} {{.Actor.Attributes.exitCode}}'
        $E rm kept >/dev/null",
    );
    let expected = "create <no value>\nstart <no value>\nkill <no value>\ndie 137\nstop <no value>";
    assert_eq!(shown.ok(), expected);
}
