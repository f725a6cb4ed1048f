use super::{failure, load};
use crate::create::{Creation, Identity};
use crate::schema::SERVICE_FIELDS;

fn creation(text: &str) -> Creation {
    let project = load(text);
    let service = project.services.values().next().unwrap();
    let containers = |name: &str| vec![format!("p-{name}-1")];
    let identity = Identity {
        name: &service.container_name(1),
        number: 1,
        is_one_off: false,
        has_aliases: true,
        containers: &containers,
    };
    project.creation(service, &identity).unwrap()
}

const REST: &str = "\nnetworks: {n: {}}\nvolumes: {v: {}, 'w,x': {name: 'w,x'}}\nsecrets: {s: {file: /s}, e: {environment: TAG}}\nconfigs: {c: {content: hello}, f: {file: /f}}\n";

fn of(key: &str) -> Creation {
    let text = format!("services:\n  a:\n    image: i\n    {key}\n  z: {{image: i}}{REST}");
    creation(&text)
}

/// The options that a key leads to, without labels of the project.
#[track_caller]
fn check(key: &str, expected: &str) {
    let own = of(key);
    let plain = of("x-a: 1");
    let more: Vec<&String> = own
        .options
        .iter()
        .filter(|o| !plain.options.contains(o) && !o.contains("compose."))
        .collect();
    let more: Vec<&str> = more.into_iter().map(String::as_str).collect();
    assert_eq!(more.join(" "), expected, "{key}");
}

#[test]
fn keys_become_options() {
    check("hostname: h", "--hostname=h");
    check("environment: {A: 'b c', N: }", "--env=A=b c");
    check(
        "ports: ['8080:80', '[::1]:53:53/udp', 9]",
        "--publish=8080:80/tcp --publish=[::1]:53:53/udp --publish=9/tcp",
    );
    check(
        "volumes: ['v:/v:ro', /anon]",
        "--mount=type=volume,source=p_v,target=/v,readonly --mount=type=volume,target=/anon",
    );
    check("volumes: ['/x:/y']", "--mount=type=bind,source=/x,target=/y,bind-create-src");
    check(
        "volumes: [{type: bind, source: '/a,b', target: /y, bind: {create_host_path: false, propagation: rslave}}]",
        "--mount=type=bind,\"source=/a,b\",target=/y,bind-propagation=rslave",
    );
    check(
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 01777}}]",
        "--mount=type=tmpfs,target=/t,tmpfs-size=1048576,tmpfs-mode=1777",
    );
    check(
        "networks: {n: {aliases: [x], ipv4_address: 10.0.0.5}}",
        "--network=name=p_n,alias=a,alias=x,ip=10.0.0.5",
    );
    check("network_mode: service:z", "--network=container:p-z-1");
    check("links: ['z:db']", "--link=p-z-1:db");
    check("volumes_from: ['z:ro']", "--volumes-from=p-z-1:ro");
    check(
        "deploy: {resources: {limits: {cpus: 0.5, memory: 1g, pids: 9}, reservations: {memory: 1m}}}",
        "--cpus=0.5 --memory=1073741824 --pids-limit=9 --memory-reservation=1048576",
    );
    check(
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}",
        "--restart=on-failure:3",
    );
    check("healthcheck: {test: [CMD, a, b], interval: 5s}", "--health-interval=5s --health-cmd=b");
    check("healthcheck: {disable: true}", "--no-healthcheck");
    check(
        "ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}",
        "--ulimit=nofile=5 --ulimit=nproc=1:2",
    );
    check("stop_grace_period: 1m", "--stop-timeout=60");
    check("secrets: [s]", "--mount=type=bind,source=/s,target=/run/secrets/s,readonly");
    check(
        "configs: [{source: f, target: /etc/f}]",
        "--mount=type=bind,source=/f,target=/etc/f,readonly",
    );
}

#[test]
fn contents_become_files() {
    let files = of("secrets: [{source: e, uid: '5', mode: 0400}]\n    configs: [c]").files;
    let shown: Vec<String> = files
        .iter()
        .map(|f| format!("{} {} {:o} {:?}", f.path, f.content, f.mode, f.owner))
        .collect();
    assert_eq!(shown, ["/run/secrets/e 1.2 400 (5, 0)", "/c hello 444 (0, 0)"]);
}

#[test]
fn labels_are_those_of_docker_compose() {
    let own = of("depends_on: {z: {condition: service_healthy, restart: true}}");
    for label in [
        "project=p",
        "service=a",
        "container-number=1",
        "oneoff=False",
        "project.working_dir=/p",
        "project.config_files=/p/compose.yaml",
        "depends_on=z:service_healthy:true",
    ] {
        assert!(own.options.contains(&format!("--label=com.docker.compose.{label}")), "{label}");
    }
}

/// For each key of a service, a value that has to make a difference.
const SAMPLES: &[(&str, &str)] = &[
    ("profiles", "[x]"),
    ("annotations", "{a: b}"),
    ("attach", "false"),
    ("build", "."),
    ("develop", "{watch: [{path: ., action: rebuild}]}"),
    ("blkio_config", "{weight: 300}"),
    ("cap_add", "[SYS_PTRACE]"),
    ("cap_drop", "[ALL]"),
    ("cgroup_parent", "/x"),
    ("cgroup", "host"),
    ("cpu_count", "1"),
    ("cpu_percent", "1"),
    ("cpu_period", "1000"),
    ("cpu_quota", "1000"),
    ("cpu_rt_period", "1"),
    ("cpu_rt_runtime", "1"),
    ("cpus", "1.5"),
    ("cpuset", "'0'"),
    ("cpu_shares", "5"),
    ("command", "x"),
    ("configs", "[c]"),
    ("container_name", "n"),
    ("credential_spec", "{file: x}"),
    ("depends_on", "[z]"),
    ("deploy", "{replicas: 2}"),
    ("device_cgroup_rules", "['c 1:3 r']"),
    ("devices", "[/dev/null]"),
    ("dns", "1.1.1.1"),
    ("dns_opt", "[x]"),
    ("dns_search", "x"),
    ("domainname", "x"),
    ("entrypoint", "x"),
    ("provider", "{type: x}"),
    ("environment", "{A: b}"),
    ("env_file", "[{path: x, required: false}]"),
    ("expose", "[1]"),
    ("extends", "z"),
    ("external_links", "[x]"),
    ("extra_hosts", "[a=1.1.1.1]"),
    ("group_add", "[x]"),
    ("gpus", "all"),
    ("hostname", "x"),
    ("healthcheck", "{test: x}"),
    ("image", "other"),
    ("init", "true"),
    ("ipc", "host"),
    ("isolation", "default"),
    ("labels", "{a: b}"),
    ("label_file", "nope"),
    ("links", "[z]"),
    ("logging", "{driver: none}"),
    ("mem_limit", "1g"),
    ("mem_reservation", "1g"),
    ("memswap_limit", "1g"),
    ("mem_swappiness", "5"),
    ("mac_address", "02:00:00:00:00:01"),
    ("models", "[x]"),
    ("networks", "[n]"),
    ("network_mode", "host"),
    ("oom_kill_disable", "true"),
    ("oom_score_adj", "5"),
    ("pid", "host"),
    ("pids_limit", "5"),
    ("platform", "linux/amd64"),
    ("ports", "[80]"),
    ("privileged", "true"),
    ("pull_policy", "nonsense"),
    ("pull_refresh_after", "1h"),
    ("read_only", "true"),
    ("restart", "always"),
    ("runtime", "runc"),
    ("scale", "2"),
    ("secrets", "[s]"),
    ("security_opt", "[no-new-privileges]"),
    ("shm_size", "1m"),
    ("stdin_open", "true"),
    ("stop_grace_period", "1s"),
    ("stop_signal", "INT"),
    ("storage_opt", "{size: 1g}"),
    ("sysctls", "{a: b}"),
    ("tmpfs", "/x"),
    ("tty", "true"),
    ("ulimits", "{nofile: 1}"),
    ("use_api_socket", "true"),
    ("user", "x"),
    ("userns_mode", "host"),
    ("uts", "host"),
    ("volumes", "['v:/x']"),
    ("volumes_from", "[z]"),
    ("working_dir", "/x"),
    ("pre_start", "[{command: x}]"),
    ("post_start", "[{command: x}]"),
    ("pre_stop", "[{command: x}]"),
];

/// What is no part of a container, and done by those who make and stop it.
const ELSEWHERE: &[&str] = &[
    "profiles",
    "attach",
    "build",
    "develop",
    "env_file",
    "extends",
    "scale",
    "deploy",
    "pull_policy",
    "post_start",
    "pre_stop",
];

#[test]
fn no_key_of_a_service_is_ignored() {
    for field in SERVICE_FIELDS {
        let (key, value) = SAMPLES
            .iter()
            .find(|(key, _)| *key == field.name)
            .unwrap_or_else(|| panic!("{}", field.name));
        if ELSEWHERE.contains(key) {
            continue;
        }
        let text = match *key {
            "image" => format!("services:\n  a:\n    image: {value}\n  z: {{image: i}}{REST}"),
            _ => format!(
                "services:\n  a:\n    image: i\n    {key}: {value}\n  z: {{image: i}}{REST}"
            ),
        };
        let own = super::load_all(&[("compose.yaml", &text)], &[]);
        if own.is_err() {
            assert!(
                failure(&text).replace("label file", "label_file").contains(key),
                "{key}: {}",
                failure(&text)
            );
            continue;
        }
        let mut own = creation(&text);
        let mut plain = of("x-a: 1");
        let hash = |options: &mut Vec<String>| options.retain(|o| !o.contains("config-hash"));
        hash(&mut own.options);
        hash(&mut plain.options);
        assert_ne!(own, plain, "{key}");
    }
    assert_eq!(SAMPLES.len(), SERVICE_FIELDS.len());
}
