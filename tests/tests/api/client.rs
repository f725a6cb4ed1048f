//! What the real client does, where a comparison is not the point.

use testkit::{Api, Sandbox};

fn served(test: impl FnOnce(&Sandbox, Api<'_>)) {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    test(&sandbox, api);
}

#[test]
fn what_runs_outlives_a_server_that_is_killed() {
    served(|_, mut api| {
        let start =
            "$E run -d --name web --network none busybox sh -c 'echo begun; exec sleep 1000'";
        let _ = api.shell(start).ok();
        let waiting = api.start_shell("$E wait web; $E wait web");
        let exec = api.shell("$E exec -d web sleep 1000");
        let _ = exec.ok();
        api.kill_and_start();
        let seen = "$E ps --format '{{.Names}} {{.State}}'; $E logs web; $E exec web echo inside";
        assert_eq!(api.shell(seen).ok(), "web running\nbegun\ninside");
        assert_eq!(api.shell("$E kill web; $E wait web; $E rm web").ok(), "web\n137\nweb");
        // The one that was cut off complains, and its successor finds nothing to wait for.
        let _ = waiting.finish();
    });
}

#[test]
fn streams_are_whole_however_much_comes() {
    served(|sandbox, api| {
        let bytes: Vec<u8> = (0..5_000_000_u32).flat_map(|n| [n as u8, (n >> 8) as u8]).collect();
        std::fs::write(sandbox.work().join("big"), &bytes).expect("the work directory takes files");
        for command in [
            "$E run --rm -i --network none busybox cat <big | cmp - big && echo same",
            "$E run -d --name cat --network none busybox sleep 1000 >/dev/null; \
             $E exec -i cat cat <big | cmp - big && echo same; $E rm -f cat >/dev/null",
        ] {
            assert_eq!(api.shell(command).ok(), "same");
        }
        let both =
            "$E run --rm --network none busybox sh -c 'echo out; echo err >&2' 2>err; cat err";
        assert_eq!(api.shell(both).ok(), "out\nerr");
    });
}

#[test]
fn who_attaches_before_the_start_sees_the_first_byte() {
    served(|_, api| {
        let script = "$E create --name early --network none busybox sh -c 'echo first; exit 4' \
                      >/dev/null; $E start -a early; echo $?; $E wait early; $E rm early";
        assert_eq!(api.shell(script).ok(), "first\n4\n4\nearly");
        // Whoever waits hears of a start by somebody else, too.
        let script = "$E create --name other --network none busybox sh -c 'exit 5' >/dev/null; \
                      $E start -a other";
        let _ = api.shell(script).code(5);
    });
}

#[test]
fn what_cannot_be_started_leaves_nothing_with_rm() {
    served(|_, api| {
        let _ = api.shell("$E run --rm --network none busybox no-such-program").code(127);
        let _ = api.shell("$E run --rm --network none busybox /etc").code(126);
        assert_eq!(api.shell("$E ps -aq").ok(), "");
    });
}

#[test]
fn a_dockerfile_is_built_by_the_classic_builder() {
    served(|_, api| {
        let script = "mkdir -p ctx && cd ctx && printf 'FROM busybox\\nARG WHO\\nCOPY f /f\\nRUN cat /f \
                      && echo for $WHO\\nCMD [\"cat\",\"/f\"]\\n' >Dockerfile && echo content >f && \
                      echo secret >ignored && echo ignored >.dockerignore && \
                      DOCKER_BUILDKIT=0 $E build --build-arg WHO=me -t built:1 . 2>/dev/null; \
                      $E run --rm --network none built:1; \
                      $E image inspect -f '{{json .RepoTags}}' built:1";
        let said = api.shell(script).ok().to_owned();
        for part in ["Step 1/3 : FROM", "for me", "Successfully tagged built:1", "\ncontent\n"] {
            assert!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
        let script = "cd ctx && printf 'FROM busybox\\nRUN exit 3\\n' >Dockerfile && \
                      DOCKER_BUILDKIT=0 $E build . 2>&1";
        let failed = api.shell(script);
        assert!(failed.code != 0 && failed.stdout.contains("3"), "{failed}");
    });
}
