//! Monitors that are killed: their containers go on, and whoever looks next finds the truth.

use testkit::Sandbox;

/// Defines `kill_monitor NAME`, which returns when the monitor is gone, and `until_is NAME
/// TEMPLATE TEXT`. The first reads files, since every command of the binary would find out.
const WORDS: &str = r#"
state() { cat "$CAIS_ROOT/containers/$(readlink "$CAIS_ROOT/names/$1")/state.json"; }
monitor() { state "$1" | grep -o '"monitor_pid":[0-9]*' | cut -d: -f2; }
end() {
    kill -KILL "$1"
    while [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; do :; done
}
kill_monitor() { end "$(monitor "$1")"; }
until_is() {
    end=$(($(date +%s)+120))
    until [ "$($E inspect -f "$2" "$1")" = "$3" ]; do
        [ $(date +%s) -lt $end ] || { $E inspect "$1"; exit 1; }
    done
}
"#;

/// Runs a script with these words, in which every step must succeed.
fn script(sandbox: &Sandbox, text: &str) -> String {
    sandbox.shell(&format!("set -e\n{WORDS}{text}")).ok().to_owned()
}

/// Writes numbered lines until it is told to stop, then exits with 7.
const COUNT: &str =
    "i=0; while [ ! -e /stop ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 7";

#[test]
fn nothing_of_a_container_is_lost_with_its_monitor() {
    let sandbox = Sandbox::new();
    let before = script(
        &sandbox,
        &format!(
            "$E run -d --network none --name alone busybox sh -c '{COUNT}' >/dev/null
        first=$(monitor alone)
        until $E logs alone | grep -q 'line 20$'; do :; done
        for n in 1 2 3; do kill_monitor alone; $E ps --format '{{{{.Names}}}} {{{{.State}}}}'; done
        [ \"$(monitor alone)\" != \"$first\" ]
        seen=$($E logs alone | tail -n 1 | cut -d' ' -f2)
        until $E logs alone | grep -q \"line $((seen+20))$\"; do :; done
        $E exec alone touch /stop
        $E wait alone
        $E inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.RestartCount}}}}' alone"
        ),
    );
    assert_eq!(before, "alone running\nalone running\nalone running\n7\nexited 7 0");
    // None is there twice; what a monitor had read when it was killed, it had not written.
    let lines = sandbox.cais(["logs", "alone"]);
    let number = |line: &str| line.strip_prefix("line ").and_then(|n| n.parse::<u32>().ok());
    let numbers: Vec<u32> = lines.ok().lines().filter_map(number).collect();
    assert_eq!(numbers.len(), lines.ok().lines().count(), "{lines}");
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{lines}");
    let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    assert!(gaps <= 3, "{gaps} gaps for three monitors: {lines}");
    let _ = sandbox.cais(["rm", "alone"]).ok();
}

#[test]
fn whatever_is_asked_first_is_answered_with_the_truth() {
    let sandbox = Sandbox::new();
    let shown = script(
        &sandbox,
        "run() { $E run -d --network none --name $1 busybox sleep 1000 >/dev/null; kill_monitor $1; }
        run aa; $E stop -t 0 aa; $E inspect -f '{{.State.Status}} {{.State.ExitCode}}' aa
        run bb; $E kill bb; $E wait bb
        run cc; $E rm -f cc; $E ps -aq -f name=cc
        run dd; $E exec dd echo inside
        run ee; $E inspect -f '{{.State.Running}} {{.State.Error}}' ee
        run ff; $E restart -t 0 ff; $E inspect -f '{{.State.Status}}' ff
        run gg; $E pause gg; kill_monitor gg; $E inspect -f '{{.State.Status}}' gg; $E unpause gg
        run hh; $E start hh",
    );
    let expected = "aa\nexited 137\nbb\n137\ncc\ninside\ntrue \nff\nrunning\ngg\npaused\ngg\nhh";
    assert_eq!(shown, expected);
    let _ = sandbox.cais(["rm", "-f", "aa", "bb", "dd", "ee", "ff", "gg", "hh"]).ok();
}

#[test]
fn who_waits_or_reads_meanwhile_goes_on() {
    let sandbox = Sandbox::new();
    let shown = script(
        &sandbox,
        &format!(
            "$E run -d --network none --name held busybox sh -c '{COUNT}' >/dev/null
            $E wait held >code & wait=$!
            $E attach --no-stdin held >attached & attached=$!
            $E logs -f held >log & logs=$!
            until grep -q 'line 5$' log; do :; done
            until [ -s attached ]; do :; done
            kill_monitor held
            seen=$(wc -l <attached)
            until [ $(wc -l <attached) -gt $((seen+5)) ]; do :; done
            until grep -q 'line 100$' log; do :; done
            $E exec held touch /stop
            wait $wait $logs
            wait $attached || echo attached $?
            cat code
            $E logs held | cmp - log && echo same"
        ),
    );
    assert_eq!(shown, "attached 7\n7\nsame");
    let _ = sandbox.cais(["rm", "held"]).ok();
}

#[test]
fn restart_policies_outlive_monitors() {
    let sandbox = Sandbox::new();
    let shown = script(
        &sandbox,
        "run() { $E run -d --network none --name $1 --restart $2 busybox sleep 1000 >/dev/null; }
        run aa always; kill_monitor aa
        end $($E inspect -f '{{.State.Pid}}' aa)
        until_is aa '{{.RestartCount}} {{.State.Status}}' '1 running'
        run bb on-failure:2; pid=$($E inspect -f '{{.State.Pid}}' bb)
        kill_monitor bb; end $pid
        until_is bb '{{.RestartCount}} {{.State.Status}}' '1 running'
        run cc always; kill_monitor cc; $E stop -t 0 cc
        $E inspect -f '{{.RestartCount}} {{.State.Status}}' cc
        $E run -d --network none --name dd --restart always busybox sh -c 'exit 3' >/dev/null
        until_is dd '{{ge .RestartCount 2}} {{.State.Status}}' 'true restarting'
        kill_monitor dd
        until_is dd '{{ge .RestartCount 4}} {{.State.Status}}' 'true restarting'
        $E run -d --network none --name ee busybox sleep 1000 >/dev/null
        pid=$($E inspect -f '{{.State.Pid}}' ee); kill_monitor ee; end $pid
        until_is ee '{{.State.Status}} {{.State.ExitCode}}' 'exited 255'
        $E inspect -f '{{.State.Error}}' ee
        $E run -d --rm --network none --name ff busybox sleep 1000 >/dev/null
        kill_monitor ff; $E stop -t 0 ff; $E ps -aq -f name=ff",
    );
    let unknown = "its monitor was killed, so how it has ended is not known";
    assert_eq!(shown, format!("cc\n0 exited\n{unknown}\nff"));
    let _ = sandbox.cais(["rm", "-f", "aa", "bb", "cc", "dd", "ee"]).ok();
}

#[test]
fn streams_names_and_health_come_back() {
    let sandbox = Sandbox::new();
    let shown = script(
        &sandbox,
        "$E network create net >/dev/null
        $E run -d --network net --name talks busybox sh -c 'until [ -e /stop ]; do echo on; sleep 0.01; done; exit 3' >/dev/null
        $E run -d --network net --name other -p 127.0.0.1:18080:80 busybox sleep 1000 >/dev/null
        kill_monitor talks; kill_monitor other
        $E attach --no-stdin talks >attached & attached=$!
        until grep -q on attached; do :; done
        $E exec talks touch /stop
        wait $attached || echo $?
        $E exec other nslookup -type=a other 127.0.0.11 | grep -c Name
        $E port other
        ! $E run --rm --network net -p 127.0.0.1:18080:80 busybox true 2>/dev/null && echo taken
        $E run -d --network none --name sick --health-cmd 'test ! -e /sick' --health-interval 20ms --health-retries 1 busybox sleep 1000 >/dev/null
        until_is sick '{{.State.Health.Status}}' healthy
        kill_monitor sick
        $E inspect -f '{{.State.Health.Status}}' sick
        $E exec sick touch /sick
        until_is sick '{{.State.Health.Status}}' unhealthy
        $E rm -f talks other sick >/dev/null; $E network rm net",
    );
    assert_eq!(shown, "3\n1\n80/tcp -> 127.0.0.1:18080\ntaken\nhealthy\nnet");
}

#[test]
fn a_foreground_run_that_is_killed_leaves_its_container() {
    let sandbox = Sandbox::new();
    let shown = script(
        &sandbox,
        "$E run --network none --name fore busybox sh -c 'until [ -e /stop ]; do sleep 0.01; done; exit 9' & run=$!
        until [ \"$($E inspect -f '{{.State.Status}}' fore 2>/dev/null)\" = running ]; do :; done
        kill_monitor fore
        wait $run || echo killed
        $E ps --format '{{.Names}}'
        $E exec fore touch /stop
        $E wait fore; $E rm fore",
    );
    assert_eq!(shown, "killed\nfore\n9\nfore");
}

#[test]
fn killed_at_any_moment_of_a_start() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let shown = script(
        &sandbox,
        "for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
            $E run -d --network none --name n$n busybox sleep 1000 >/dev/null 2>&1 & run=$!
            i=0; while [ $i -lt $((n*n*20)) ]; do i=$((i+1)); done
            # The command and its monitor, whichever there are: none else runs here.
            for process in /proc/[0-9]*; do
                [ \"$(readlink $process/exe)\" = / ] && kill -KILL ${process#/proc/} 2>/dev/null || true
            done
            wait $run || true
            if $E inspect n$n >/dev/null 2>&1; then
                status=$($E inspect -f '{{.State.Status}} {{.State.Pid}}' n$n)
                case \"$status\" in
                    # Or its monitor was overlooked, and starts it.
                    'created 0' | 'exited 0') $E start n$n >/dev/null 2>&1 || true; until_is n$n '{{.State.Status}}' running ;;
                    'running '*) kill -0 ${status#running } ;;
                    *) echo \"$status\" ;;
                esac
                $E exec n$n true
                $E rm -f n$n >/dev/null
            fi
        done
        $E ps -aq",
    );
    assert_eq!(shown, "");
}
