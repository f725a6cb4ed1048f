//! Builds by BuildKit's clients. Debian's `docker` has one without a plugin: it has the files, the
//! secrets and the agent in a session, which is HTTP/2 as Go speaks it.

use testkit::{Api, Outcome, Sandbox};

fn served(test: impl FnOnce(&Sandbox, &Api<'_>)) {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    test(&sandbox, &api);
}

/// Runs a script in which `$D` is Debian's client, which is to use BuildKit.
fn debian(api: &Api<'_>, script: &str) -> Outcome {
    let client = testkit::debian_client();
    api.shell(&format!("export DOCKER_BUILDKIT=1; D={client}; {script}"))
}

#[test]
fn files_and_arguments_come_by_a_session() {
    served(|_, api| {
        let script = r#"
            mkdir -p ctx/dir/below && cd ctx
            printf 'FROM busybox AS one\nARG WHO\nCOPY . /all\nRUN echo for $WHO >/who && find /all | sort >/list\nFROM one\nLABEL a=b\n' >Dockerfile
            echo content >dir/below/file; ln -s below/file dir/link; echo '#!/bin/sh' >dir/run; chmod 755 dir/run
            ln dir/run dir/zsame; echo secret >ignored; printf 'ignored\nDockerfile\n.dockerignore\n' >.dockerignore
            head -c 3000000 /dev/zero >big
            for n in $(seq 300); do echo $n >dir/n$n; done
            $D build --progress plain --build-arg WHO=me --label c=d -t built:1 . 2>../progress || { cat ../progress; exit 1; }
            grep -c 'transferring context' ../progress >/dev/null && grep 'RUN echo for' ../progress >/dev/null || { cat ../progress; exit 1; }
            $E run --rm --network none built:1 sh -c 'cat /who; cat /all/dir/link; test -x /all/dir/zsame && wc -c </all/big; ls /all/dir | wc -l; ls /all'
            $E image inspect -f '{{json .Config.Labels}}' built:1
            $D build --progress plain --build-arg WHO=me --label c=d --target one -t built:2 . 2>../progress
            grep -q CACHED ../progress || cat ../progress
        "#;
        let expected = "for me\ncontent\n3000000\n304\nbig\ndir\n{\"a\":\"b\",\"c\":\"d\"}";
        assert_eq!(debian(api, script).ok(), expected);
    });
}

#[test]
fn secrets_and_agents_stay_with_the_client() {
    served(|_, api| {
        let script = r#"
            mkdir ctx && cd ctx && echo the-secret-of-it >../secret
            printf 'FROM busybox\nRUN --mount=type=secret,id=s,required wc -c </run/secrets/s >/n\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo yes >/ssh\n' >Dockerfile
            eval $(ssh-agent) >/dev/null
            $D build --progress plain --secret id=s,src=../secret --ssh default -t sealed . 2>../progress || cat ../progress
            kill $SSH_AGENT_PID
            $E run --rm --network none sealed cat /n /ssh
            $D build --no-cache --progress plain . 2>&1 | grep -o 'secret s: not found' | head -n 1
        "#;
        assert_eq!(debian(api, script).ok(), "17\nyes\nsecret s: not found");
    });
}

#[test]
fn a_failure_is_told_with_the_step() {
    served(|_, api| {
        let script = r#"
            mkdir ctx && cd ctx && printf 'FROM busybox\nRUN echo before; exit 3\n' >Dockerfile
            $D build --progress plain . >said 2>&1 && cat said
            grep -o 'before' said | head -n 1
            grep -o 'did not complete successfully: exit code: 3' said | tail -n 1
            printf 'FROM busybox\nRUN true\nODD\n' >Dockerfile
            $D build --progress plain . 2>&1 | grep -o 'dockerfile parse error.*line 3' | tail -n 1
            $D build --progress plain -f missing . 2>&1 | grep -o 'open missing: no such file or directory' | tail -n 1
        "#;
        let expected = "before\ndid not complete successfully: exit code: 3\n\
                        dockerfile parse error on line 3\nopen missing: no such file or directory";
        assert_eq!(debian(api, script).ok(), expected);
    });
}

#[test]
fn files_and_archives_go_back_to_the_client() {
    served(|_, api| {
        let script = r#"
            mkdir ctx && cd ctx && echo content >f
            printf 'FROM scratch\nCOPY f /dir/f\nCOPY f /g\n' >Dockerfile
            $D build --progress plain -o ../out . 2>../progress || cat ../progress
            (cd ../out && find . -type f | sort && cat dir/f)
            $D build --progress plain -o type=tar,dest=../out.tar . 2>../progress || cat ../progress
            tar -tf ../out.tar | sort | grep -v '/$'
        "#;
        assert_eq!(debian(api, script).ok(), "./dir/f\n./g\ncontent\ndir/f\ng");
    });
}

#[test]
fn a_build_ends_with_its_client() {
    served(|sandbox, api| {
        let prepare =
            "mkdir ctx && cd ctx && printf 'FROM busybox\\nRUN sleep 98765\\n' >Dockerfile";
        let _ = api.shell(prepare).ok();
        let client = testkit::debian_client();
        for script in [
            format!(
                "cd ctx && export DOCKER_BUILDKIT=1; exec {client} build --progress plain . 2>&1"
            ),
            // The classic builder, and nothing that it could not write.
            "cd ctx && export DOCKER_BUILDKIT=0; exec $E build -q . 2>&1".to_owned(),
        ] {
            let running = api.start_shell(&script);
            let sleeping = "until pgrep -f '[s]leep 98765' >/dev/null; do :; done";
            let _ = sandbox.shell(sleeping).ok();
            running.signal(rustix::process::Signal::KILL);
            let _ = running.finish();
            let gone = "while pgrep -f '[s]leep 98765' >/dev/null; do :; done";
            let _ = sandbox.shell(gone).ok();
        }
    });
}
