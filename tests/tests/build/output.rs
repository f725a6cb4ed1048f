//! Images and files outside of the store.

use testkit::Sandbox;

use super::{build, run};

const FILES: &str = "//- f
f
//- Dockerfile
FROM scratch
COPY f /d/f
COPY --chmod=700 f /g
";

#[test]
fn files_come_out_as_a_directory_or_an_archive() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &["-o", "out"]).ok();
    let list = "cd out && find . -type f | sort && stat -c %a g";
    sandbox.shell(list).code(0).out("./d/f\n./g\n700\n");
    let _ = build(&sandbox, FILES, &["-o", "type=tar,dest=out.tar"]).ok();
    sandbox.shell("tar tf out.tar | sort").code(0).out("d/\nd/f\ng\n");
    sandbox.shell("$E build --progress quiet -o - ctx | tar t | sort").code(0).out("d/\nd/f\ng\n");
}

#[test]
fn images_come_out_for_others() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none echo x > /x
CMD [\"cat\", \"/x\"]
";
    let outputs = ["-o", "type=oci,dest=oci.tar", "-o", "type=docker,dest=docker.tar"];
    let _ = build(&sandbox, files, &outputs).ok();
    let id = super::inspect(&sandbox, "{{.Id}}");
    for source in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let config = sandbox.host(["skopeo", "inspect", "--raw", "--config", source]);
        assert!(config.ok().contains("buildkit.dockerfile.v0"), "{source}: {config}");
    }
    let _ = sandbox.line("cais rmi built").ok();
    let _ = sandbox.line("cais load -i docker.tar").ok();
    assert_eq!(super::inspect(&sandbox, "{{.Id}}"), id);
    assert_eq!(run(&sandbox, "cat /x"), "x\n");
}

#[test]
fn images_are_pushed() {
    let sandbox = Sandbox::new();
    let storage = sandbox.work().join("hub");
    std::fs::create_dir(&storage).unwrap();
    let _hub = sandbox.registry(5001, &storage);
    super::write(&sandbox.work().join("ctx"), FILES);
    let refused = sandbox.line("cais build --push ctx");
    refused.code(1);
    assert!(refused.stderr.contains("tag is needed when pushing to registry"), "{refused}");
    let _ = sandbox.line("cais build -q -t 127.0.0.1:5001/pushed:1 --push ctx").ok();
    let repository = "docker://127.0.0.1:5001/pushed";
    let tags = sandbox.host(["skopeo", "list-tags", "--tls-verify=false", repository]);
    assert!(tags.ok().contains("\"1\""), "{tags}");
}

#[test]
fn progress_is_words_or_json() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nRUN --network=none echo spoken\n";
    let built = build(&sandbox, files, &["--progress", "rawjson"]);
    let _ = built.ok();
    let lines: Vec<serde_json::Value> =
        built.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let logs = lines.iter().filter_map(|line| line["logs"][0]["data"].as_str());
    assert_eq!(logs.collect::<Vec<_>>(), ["c3Bva2VuCg=="]);
    let named = |line: &&serde_json::Value| {
        line["vertexes"][0]["name"].as_str().is_some_and(|name| name.contains("echo spoken"))
    };
    assert_eq!(lines.iter().filter(named).count(), 2, "begun and ended");
    build(&sandbox, files, &["--progress", "loud"]).code(1);
    let refused = build(&sandbox, files, &["--progress", "tty"]);
    refused.code(1);
    assert!(refused.stderr.contains("failed to get console"), "{refused}");
}

#[test]
fn progress_on_a_terminal_is_drawn_in_place() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nRUN --network=none --mount=type=cache,id=gate,target=/gate \
                 echo spoken && until [ -e /gate/open ]; do usleep 10000; done\n";
    super::write(&sandbox.work().join("ctx"), files);
    let building = sandbox.start_on_terminal(["build", "-t", "built", "ctx"], (60, 20));
    building.wait_for(" => => # spoken");
    std::fs::write(super::cache_mount(&sandbox, "gate").join("open"), "").unwrap();
    let built = building.finish();
    let _ = built.code(0);
    let seen = &built.stdout;
    for expected in ["[+] Building ", " => => # spoken", "(4/4) FINISHED", "\u{1b}[K", "naming to"]
    {
        assert!(seen.contains(expected), "{expected}: {built}");
    }
    let last = seen.rsplit("[+] Building ").next().unwrap();
    assert!(!last.contains("# spoken"), "what is done says no more: {built}");
    let ended = |line: &&str| line.contains(" => ") && line.contains('s');
    assert_eq!(last.lines().filter(ended).count(), 8, "{built}");
}

#[test]
fn files_come_out_as_those_of_whoever_asks() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM python AS build
RUN --network=none mkdir /o && cd /o && echo x > set && chown 5:6 set && chmod 4751 set && mknod null c 1 3 && \\
    mkfifo pipe && ln -s /etc/passwd link && echo y > capable && python3 -c \\
    'import os; os.setxattr(\"capable\", \"security.capability\", bytes.fromhex(\"01000002\" + \"00040000\" + 12 * \"00\"))'
FROM scratch
COPY --from=build /o /
";
    let _ = build(&sandbox, files, &["-o", "out", "-o", "type=tar,dest=out.tar"]).ok();
    let list = "cd out && stat -c '%n %u %g %a %F' *; readlink link; stat -c %a .";
    let expected = "capable 0 0 644 regular file\nlink 0 0 777 symbolic link\n\
                    pipe 0 0 644 fifo\nset 0 0 4751 regular file\n/etc/passwd\n700\n";
    sandbox.shell(list).code(0).out(expected);
    let read = "python3 -c 'import os; print(os.getxattr(\"out/capable\", \"security.capability\").hex())'";
    sandbox.shell(read).code(0).out("0100000200040000000000000000000000000000\n");
    let packed =
        sandbox.shell("tar --numeric-owner -tvf out.tar | awk '{print $1, $2, $NF}' | sort");
    for expected in ["-rwsr-x--x 5/6 set", "crw-r--r-- 0/0 null", "prw-r--r-- 0/0 pipe"] {
        assert!(packed.ok().contains(expected), "{packed}");
    }
}
