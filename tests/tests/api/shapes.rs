//! The operations of Docker's Engine API, version 1.50, and what their answers must have: a table of
//! our own of what its documentation says.

use serde_json::Value;
use testkit::{Api, Sandbox};

use super::wire::Wire;

/// All operations: method and path, where a name in braces is one thing.
const OPERATIONS: &str = "
    GET /containers/json          POST /containers/create        GET /containers/{c}/json
    GET /containers/{c}/top       GET /containers/{c}/logs       GET /containers/{c}/changes
    GET /containers/{c}/export    GET /containers/{c}/stats      POST /containers/{c}/resize
    POST /containers/{c}/start    POST /containers/{c}/stop      POST /containers/{c}/restart
    POST /containers/{c}/kill     POST /containers/{c}/update    POST /containers/{c}/rename
    POST /containers/{c}/pause    POST /containers/{c}/unpause   POST /containers/{c}/attach
    GET /containers/{c}/attach/ws POST /containers/{c}/wait      DELETE /containers/{c}
    HEAD /containers/{c}/archive  GET /containers/{c}/archive    PUT /containers/{c}/archive
    POST /containers/prune        GET /images/json               POST /build
    POST /build/prune             POST /images/create            GET /images/{i}/json
    GET /images/{i}/history       POST /images/{i}/push          POST /images/{i}/tag
    DELETE /images/{i}            GET /images/search             POST /images/prune
    POST /auth                    GET /info                      GET /version
    GET /_ping                    HEAD /_ping                    POST /commit
    GET /events                   GET /system/df                 GET /images/{i}/get
    GET /images/get               POST /images/load              POST /containers/{c}/exec
    POST /exec/{e}/start          POST /exec/{e}/resize          GET /exec/{e}/json
    GET /volumes                  POST /volumes/create           GET /volumes/{v}
    PUT /volumes/{v}              DELETE /volumes/{v}            POST /volumes/prune
    GET /networks                 GET /networks/{n}              DELETE /networks/{n}
    POST /networks/create         POST /networks/{n}/connect     POST /networks/{n}/disconnect
    POST /networks/prune          GET /plugins                   GET /plugins/privileges
    POST /plugins/pull            GET /plugins/{p}/json          DELETE /plugins/{p}
    POST /plugins/{p}/enable      POST /plugins/{p}/disable      POST /plugins/{p}/upgrade
    POST /plugins/create          POST /plugins/{p}/push         POST /plugins/{p}/set
    GET /nodes                    GET /nodes/{x}                 DELETE /nodes/{x}
    POST /nodes/{x}/update        GET /swarm                     POST /swarm/init
    POST /swarm/join              POST /swarm/leave              POST /swarm/update
    GET /swarm/unlockkey          POST /swarm/unlock             GET /services
    POST /services/create         GET /services/{x}              DELETE /services/{x}
    POST /services/{x}/update     GET /services/{x}/logs         GET /tasks
    GET /tasks/{x}                GET /tasks/{x}/logs            GET /secrets
    POST /secrets/create          GET /secrets/{x}               DELETE /secrets/{x}
    POST /secrets/{x}/update      GET /configs                   POST /configs/create
    GET /configs/{x}              DELETE /configs/{x}            POST /configs/{x}/update
    GET /distribution/{i}/json    POST /session
";

/// Answers to questions: the path, and the fields that must be there, each with its kind: `s` a text,
/// `n` a number, `b` a truth value, `o` an object, `a` a list; `?` where it may be null.
const SHAPES: &[(&str, &str)] = &[
    (
        "/containers/json?size=1",
        "[] Id:s Names:a Image:s ImageID:s Command:s Created:n Ports:a SizeRw:n SizeRootFs:n Labels:o \
         State:s Status:s HostConfig:o NetworkSettings:o Mounts:a HostConfig.NetworkMode:s \
         NetworkSettings.Networks:o",
    ),
    (
        "/containers/web/json?size=1",
        "Id:s Created:s Path:s Args:a State:o Image:s ResolvConfPath:s HostnamePath:s HostsPath:s \
         LogPath:s Name:s RestartCount:n Driver:s Platform:s MountLabel:s ProcessLabel:s \
         AppArmorProfile:s ExecIDs:a? HostConfig:o GraphDriver:o SizeRw:n SizeRootFs:n Mounts:a \
         Config:o NetworkSettings:o State.Status:s State.Running:b State.Paused:b \
         State.Restarting:b State.OOMKilled:b State.Dead:b State.Pid:n State.ExitCode:n \
         State.Error:s State.StartedAt:s State.FinishedAt:s Config.Hostname:s Config.User:s \
         Config.AttachStdin:b Config.Tty:b Config.OpenStdin:b Config.StdinOnce:b Config.Env:a? \
         Config.Cmd:a? Config.Image:s Config.WorkingDir:s Config.Labels:o HostConfig.Binds:a? \
         HostConfig.NetworkMode:s HostConfig.RestartPolicy:o HostConfig.AutoRemove:b \
         HostConfig.Privileged:b HostConfig.Memory:n HostConfig.NanoCpus:n HostConfig.ShmSize:n \
         HostConfig.LogConfig:o HostConfig.LogConfig.Type:s GraphDriver.Name:s \
         NetworkSettings.SandboxID:s NetworkSettings.Ports:o NetworkSettings.Networks:o",
    ),
    ("/containers/web/top", "Titles:a Processes:a"),
    ("/containers/web/changes", "[] Path:s Kind:n"),
    (
        "/containers/web/stats?stream=0",
        "read:s preread:s pids_stats:o num_procs:n cpu_stats:o precpu_stats:o memory_stats:o name:s \
         id:s blkio_stats:o cpu_stats.cpu_usage:o cpu_stats.cpu_usage.total_usage:n \
         cpu_stats.system_cpu_usage:n cpu_stats.online_cpus:n memory_stats.usage:n \
         memory_stats.limit:n",
    ),
    (
        "/images/json",
        "[] Id:s ParentId:s RepoTags:a RepoDigests:a Created:n Size:n SharedSize:n Labels:o? \
         Containers:n",
    ),
    (
        "/images/busybox/json",
        "Id:s RepoTags:a RepoDigests:a Parent:s Comment:s Created:s Author:s Config:o Architecture:s \
         Os:s Size:n GraphDriver:o RootFS:o Metadata:o RootFS.Type:s RootFS.Layers:a \
         Metadata.LastTagTime:s GraphDriver.Name:s",
    ),
    ("/images/busybox/history", "[] Id:s Created:n CreatedBy:s Tags:a? Size:n Comment:s"),
    (
        "/info",
        "ID:s Containers:n ContainersRunning:n ContainersPaused:n ContainersStopped:n Images:n Driver:s \
         DriverStatus:a Plugins:o MemoryLimit:b SwapLimit:b CpuCfsPeriod:b CpuCfsQuota:b CPUShares:b \
         CPUSet:b PidsLimit:b IPv4Forwarding:b Debug:b NFd:n OomKillDisable:b NGoroutines:n \
         SystemTime:s LoggingDriver:s CgroupDriver:s CgroupVersion:s NEventsListener:n \
         KernelVersion:s OperatingSystem:s OSVersion:s OSType:s Architecture:s \
         IndexServerAddress:s RegistryConfig:o NCPU:n MemTotal:n DockerRootDir:s HttpProxy:s \
         HttpsProxy:s NoProxy:s Name:s Labels:a? ExperimentalBuild:b ServerVersion:s Runtimes:o \
         DefaultRuntime:s Swarm:o LiveRestoreEnabled:b Isolation:s InitBinary:s SecurityOptions:a \
         Warnings:a? Plugins.Volume:a Plugins.Network:a Plugins.Log:a Swarm.LocalNodeState:s",
    ),
    (
        "/version",
        "Platform:o Components:a Version:s ApiVersion:s MinAPIVersion:s GitCommit:s GoVersion:s Os:s \
         Arch:s KernelVersion:s BuildTime:s Platform.Name:s",
    ),
    ("/system/df", "LayersSize:n Images:a Containers:a Volumes:a BuildCache:a"),
    ("/volumes", "Volumes:a Warnings:a?"),
    ("/volumes/data", "Name:s Driver:s Mountpoint:s CreatedAt:s Labels:o? Scope:s Options:o?"),
    (
        "/networks",
        "[] Name:s Id:s Created:s Scope:s Driver:s EnableIPv6:b IPAM:o Internal:b Attachable:b \
         Ingress:b ConfigFrom:o ConfigOnly:b Options:o? Labels:o? IPAM.Driver:s IPAM.Config:a?",
    ),
    ("/networks/bridge", "Name:s Id:s Created:s Scope:s Driver:s IPAM:o Containers:o Options:o"),
    ("/plugins", ""),
    (
        "/exec/{e}/json",
        "ID:s Running:b ExitCode:n? ProcessConfig:o OpenStdin:b OpenStderr:b OpenStdout:b CanRemove:b \
         ContainerID:s DetachKeys:s Pid:n ProcessConfig.tty:b ProcessConfig.entrypoint:s \
         ProcessConfig.arguments:a ProcessConfig.privileged:b",
    ),
];

/// What is wrong with a document.
fn wrong(document: &Value, shape: &str) -> Vec<String> {
    let Some(rest) = shape.strip_prefix("[]") else {
        let fields = shape.split_ascii_whitespace();
        return fields.filter_map(|field| misses(document, field)).collect();
    };
    match document.as_array() {
        Some(items) if !items.is_empty() => {
            items.iter().flat_map(|item| wrong(item, rest)).collect()
        }
        _ => vec![format!("it is no list of anything: {document}")],
    }
}

fn misses(document: &Value, field: &str) -> Option<String> {
    let (path, kind) = field.split_once(':').expect("a field has a kind");
    let pointer = format!("/{}", path.replace('.', "/"));
    let fits = document.pointer(&pointer).is_some_and(|value| match kind.as_bytes()[0] {
        _ if value.is_null() => kind.ends_with('?'),
        b's' => value.is_string(),
        b'n' => value.is_number(),
        b'b' => value.is_boolean(),
        b'o' => value.is_object(),
        _ => value.is_array(),
    });
    (!fits).then(|| format!("{path} is not {kind}"))
}

#[test]
fn every_operation_is_known_and_answers_have_their_shape() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    // None of these names anything: what is known says so, in its own words.
    for words in OPERATIONS.split_ascii_whitespace().collect::<Vec<_>>().chunks(2) {
        let [method, path] = words else { panic!("an operation has two words") };
        let path = path.replace(['{', '}'], "no");
        // One waits for what happens next, and two ask a registry that is not there.
        let asks_registry = path == "/images/search" || path.starts_with("/distribution/");
        if path == "/events" || asks_registry {
            continue;
        }
        let answer = wire.ask(method, &path, "");
        let unknown = answer.status == 404 && answer.text().contains("page not found");
        assert!(!unknown, "{method} {path} is not known");
        assert!(
            answer.status < 500 || [501, 503].contains(&answer.status),
            "{method} {path}: {}",
            answer.text()
        );
    }
    let asked = r#"{"Image":"busybox","Cmd":["sh","-c","echo >/new; exec sleep 1000"],
        "HostConfig":{"NetworkMode":"none"}}"#;
    assert_eq!(wire.ask("POST", "/containers/create?name=web", asked).status, 201);
    assert_eq!(wire.ask("POST", "/containers/web/start", "").status, 204);
    assert_eq!(wire.ask("POST", "/volumes/create", r#"{"Name":"data"}"#).status, 201);
    let exec = wire.json("POST", "/containers/web/exec", r#"{"Cmd":["true"]}"#);
    let exec = exec["Id"].as_str().expect("a command has an id").to_owned();
    let _ = api.shell("until $E exec web test -e /new; do :; done").ok();
    let mut all = Vec::new();
    for (path, shape) in SHAPES {
        let path = path.replace("{e}", &exec);
        let answer = wire.ask("GET", &path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        all.extend(wrong(&answer.json(), shape).into_iter().map(|what| format!("{path}: {what}")));
    }
    assert_eq!(all, [""; 0]);
    assert_eq!(wire.ask("DELETE", "/containers/web?force=1", "").status, 204);
}

#[test]
fn nothing_that_is_sent_breaks_the_server() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    let deep = "[".repeat(100_000);
    let bodies =
        ["{", "[]", "\"x\"", "7", "{\"a\":", "\u{0}", "{\"Image\":[1],\"HostConfig\":3}", &deep];
    for words in OPERATIONS.split_ascii_whitespace().collect::<Vec<_>>().chunks(2) {
        let [method @ ("POST" | "PUT"), path] = words else { continue };
        let path = path.replace(['{', '}'], "no");
        for body in bodies {
            let answer = wire.ask(method, &path, body);
            // Something is wrong with each of them, unless nobody looks.
            assert!(
                (200..500).contains(&answer.status) || [501, 503].contains(&answer.status),
                "{method} {path} {body:.20}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    for path in [
        "/containers/../images/json",
        "/containers/%2e%2e/json",
        "/containers/%2e%2e%2f%2e%2e%2fetc/json",
        "/v1.50/../v1.24/info",
        "/v1.50/v1.50/info",
        "/containers/a%00b/json",
        "/containers/%ff/json",
        "/images/..%2f..%2fetc%2fpasswd/json",
        "/volumes/%2e%2e",
        "/volumes/..%2f..",
        "/exec/..%2f..%2froot/json",
        "/networks/..%2fbridge",
    ] {
        let answer = wire.ask("GET", path, "");
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    // Clients that go in the middle of something.
    for beginning in [
        "",
        "G",
        "GET /_ping HTTP/1.1\r\nHost: x\r\n",
        "POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc",
    ] {
        for _ in 0..20 {
            wire.leave(beginning);
        }
    }
    assert_eq!(wire.ask("GET", "/_ping", "").text(), "OK");
}
