use super::{failure, load, load_all};
use crate::yaml;

/// What `config` shows of the service `a` behind its name, without networks.
#[track_caller]
fn check(service: &str, expected: &str) {
    let text = format!(
        "services:\n  a:\n    image: i\n    network_mode: none\n    {service}\nvolumes: {{v: {{}}}}\nsecrets: {{s: {{file: s.txt}}}}\n"
    );
    let project = load(&text);
    let mut node = project.services["a"].node.clone();
    let map = node.entries_mut().unwrap();
    map.remove("image");
    map.remove("network_mode");
    let shown = yaml(&crate::output::ordered(node, &crate::schema::SERVICE));
    assert_eq!(shown.trim_end(), expected, "{service}");
}

#[test]
fn short_spellings_become_long() {
    check("command: sh -c 'a b'", "command:\n  - sh\n  - -c\n  - a b");
    check("environment: [A=1, B]", "environment:\n  A: \"1\"\n  B: null");
    check(
        "environment: {A: 1, TAG: , C: true}",
        "environment:\n  A: \"1\"\n  C: \"true\"\n  TAG: \"1.2\"",
    );
    check(
        "ports: ['8080:80', '127.0.0.1::53/udp', 9000]",
        "ports:\n  - mode: ingress\n    target: 80\n    published: \"8080\"\n    protocol: tcp\n  - mode: ingress\n    host_ip: 127.0.0.1\n    target: 53\n    protocol: udp\n  - mode: ingress\n    target: 9000\n    protocol: tcp",
    );
    check(
        "ports: ['80-81:90-91']",
        "ports:\n  - mode: ingress\n    target: 90\n    published: \"80\"\n    protocol: tcp\n  - mode: ingress\n    target: 91\n    published: \"81\"\n    protocol: tcp",
    );
    check(
        "volumes: ['v:/data/', './x:/x:ro', '~/y:/y', /z]",
        "volumes:\n  - type: volume\n    source: v\n    target: /data\n    volume: {}\n  - type: bind\n    source: /p/x\n    target: /x\n    read_only: true\n    bind: {}\n  - type: bind\n    source: /home/u/y\n    target: /y\n    bind: {}\n  - type: volume\n    target: /z\n    volume: {}",
    );
    check("secrets: [s]", "secrets:\n  - source: s\n    target: /run/secrets/s");
    check(
        "secrets: [{source: s, mode: 0440}]",
        "secrets:\n  - source: s\n    target: /run/secrets/s\n    mode: \"0440\"",
    );
    check("build: ./app", "build:\n  context: /p/app\n  dockerfile: Dockerfile");
    check("build: https://x/y.git", "build:\n  context: https://x/y.git\n  dockerfile: Dockerfile");
    check("extra_hosts: {a: 1.2.3.4}", "extra_hosts:\n  - a=1.2.3.4");
    check("mem_limit: 512m", "mem_limit: \"536870912\"");
    check("stop_grace_period: 90s", "stop_grace_period: 1m30s");
    check(
        "healthcheck: {test: curl x, interval: 1m}",
        "healthcheck:\n  test:\n    - CMD-SHELL\n    - curl x\n  interval: 1m0s",
    );
    check(
        "ulimits: {nofile: 10, nproc: {soft: 1, hard: 2}}",
        "ulimits:\n  nofile: 10\n  nproc:\n    soft: 1\n    hard: 2",
    );
    check("tmpfs: /run", "tmpfs:\n  - /run");
    check("read_only: 'yes'", "read_only: true");
    check(
        "devices: ['/dev/a:/dev/b:r']",
        "devices:\n  - source: /dev/a\n    target: /dev/b\n    permissions: r",
    );
    check("labels: [a.b=1, c]", "labels:\n  a.b: \"1\"\n  c: \"\"");
    check("user: 1000", "user: \"1000\"");
    check("command: []", "command: []");
}

#[test]
fn a_whole_project_is_shown_as_compose_does() {
    let project = load(
        "services:\n  web:\n    image: nginx:${TAG}\n    depends_on: [db]\n    links: [db]\n  db:\n    image: pg\n    volumes: ['data:/d']\nvolumes:\n  data:\n",
    );
    let expected = "name: p
services:
  db:
    image: pg
    networks:
      default: null
    volumes:
      - type: volume
        source: data
        target: /d
        volume: {}
  web:
    depends_on:
      db:
        condition: service_started
        required: true
    image: nginx:1.2
    links:
      - db
    networks:
      default: null
networks:
  default:
    name: p_default
volumes:
  data:
    name: p_data
";
    assert_eq!(yaml(&project.model()), expected);
}

#[test]
fn what_is_wrong_is_told_with_place_path_and_remedy() {
    let file = "/p/compose.yaml";
    for (text, expected) in [
        (
            "services: {a: {imag: x}}",
            "1:22: services.a additional properties 'imag' not allowed [did you mean image?]",
        ),
        (
            "services:\n  a:\n    image: x\n    ports:\n      - '80'\n      - 'x:80'",
            "6:9: services.a.ports: invalid hostPort: x [a port is published as in 8080:80, 127.0.0.1:8080:80 or 53:53/udp]",
        ),
        ("services: {a: {image: [x]}}", "1:23: services.a.image must be a string, and is a list"),
        (
            "services: {a: {image: x, read_only: maybe}}",
            "1:37: services.a.read_only must be a boolean, and is a string",
        ),
        (
            "servces: {}",
            "1:10: additional properties 'servces' not allowed [did you mean services?]",
        ),
        (
            "services: {a: {image: '${X:?no}'}}",
            "1:23: invalid interpolation format for services.a.image: required variable X is missing a value: no [You may need to escape any $ with another $]",
        ),
        ("services: {a: {depends_on: [a], image: x}}", ""),
        (
            "services: {a: {command: x}}",
            "1:15: service \"a\" has neither an image nor a build context specified: invalid compose project",
        ),
        (
            "services: {aa: {image: x, depends_on: [ab]}}",
            "1:16: service \"aa\" depends on undefined service \"ab\": invalid compose project [did you mean aa?]",
        ),
        (
            "services: {a: {image: x, volumes: ['v:/x']}}",
            "1:15: service \"a\" refers to undefined volume v: invalid compose project [define it under volumes: at the top level]",
        ),
        (
            "services: {a: {image: x, networks: [n]}}",
            "1:15: service \"a\" refers to undefined network n: invalid compose project [define it under networks: at the top level]",
        ),
        (
            "services: {a: {image: x, secrets: [n]}}",
            "1:15: service \"a\" refers to undefined secret n: invalid compose project [define it under secrets: at the top level]",
        ),
        (
            "services: {a: {image: x, network_mode: host, networks: [n]}}\nnetworks: {n: }",
            "1:15: service a declares mutually exclusive `network_mode` and `networks`: invalid compose project",
        ),
        (
            "services: {a: {image: x, gpus: all}}",
            "1:32: services.a.gpus is not supported: there is no driver for such devices [devices: gives a container device nodes of the host]",
        ),
        (
            "services: {a: {image: x, container_name: c, scale: 2}}",
            "1:42: services.a.container_name: can't set container_name and 2 replicas, container name must be unique",
        ),
        (
            "services: {a: {image: x, depends_on: {b: {condition: service_health}}}}",
            "1:54: services.a.depends_on.b.condition must be one of service_started, service_healthy, service_completed_successfully, and is service_health [did you mean service_healthy?]",
        ),
        (
            "services: {a: {image: x}}\nvolumes: {v: {external: true, driver: local}}",
            "2:14: volumes.v: conflicting parameters \"external\" and \"driver\" specified: invalid compose project",
        ),
        (
            "name: No\nservices: {a: {image: x}}",
            "1:7: invalid project name \"No\": must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number",
        ),
    ] {
        let shown = failure(text);
        if expected.is_empty() {
            assert_eq!(shown, "dependency cycle detected: a -> a");
        } else {
            assert_eq!(shown, format!("{file}:{expected}"), "{text}");
        }
    }
}

/// Two files on top of each other, of which the service `a` is shown.
#[track_caller]
fn merged(base: &str, over: &str, expected: &str) {
    let wrap = |inner: &str| format!("services:\n  a:\n    network_mode: none\n    {inner}\n");
    let files =
        [("compose.yaml", wrap(&format!("image: i\n    {base}"))), ("compose.b.yaml", wrap(over))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let project = load_all(&files, &[]).unwrap();
    let mut node = project.services["a"].node.clone();
    let map = node.entries_mut().unwrap();
    map.remove("image");
    map.remove("network_mode");
    assert_eq!(crate::json(&node).to_string(), expected, "{base} + {over}");
}

#[test]
fn files_are_merged_by_the_rules() {
    merged("command: a b", "command: c", r#"{"command":["c"]}"#);
    merged(
        "environment: [A=1, B=2]",
        "environment: {B: 3, C: 4}",
        r#"{"environment":{"A":"1","B":"3","C":"4"}}"#,
    );
    merged(
        "ports: ['80:80']",
        "ports: ['80:80', '81:81']",
        r#"{"ports":[{"mode":"ingress","target":80,"published":"80","protocol":"tcp"},{"mode":"ingress","target":81,"published":"81","protocol":"tcp"}]}"#,
    );
    merged(
        "volumes: ['/a:/x', '/b:/y']",
        "volumes: ['/c:/x']",
        r#"{"volumes":[{"type":"bind","source":"/c","target":"/x","bind":{}},{"type":"bind","source":"/b","target":"/y","bind":{}}]}"#,
    );
    merged("dns: 1.1.1.1", "dns: [1.1.1.1, 2.2.2.2]", r#"{"dns":["1.1.1.1","2.2.2.2"]}"#);
    merged(
        "healthcheck: {test: a, retries: 2}",
        "healthcheck: {test: [CMD, b]}",
        r#"{"healthcheck":{"test":["CMD","b"],"retries":2}}"#,
    );
    merged(
        "logging: {driver: local, options: {a: 1}}",
        "logging: {driver: none}",
        r#"{"logging":{"driver":"none"}}"#,
    );
    merged(
        "logging: {options: {a: 1}}",
        "logging: {options: {b: 2}}",
        r#"{"logging":{"options":{"a":"1","b":"2"}}}"#,
    );
    merged("ports: ['80:80']", "ports: !reset []", "{}");
    merged(
        "ports: ['80:80']\n    hostname: h",
        "ports: !override ['81:81']\n    hostname: !reset null",
        r#"{"ports":[{"mode":"ingress","target":81,"published":"81","protocol":"tcp"}]}"#,
    );
    merged(
        "environment: {A: 1, B: 2}",
        "environment: {A: !reset null}",
        r#"{"environment":{"B":"2"}}"#,
    );
    merged("expose: [1, 2]", "expose: ['2', 3]", r#"{"expose":["1","2","3"]}"#);
    merged(
        "ulimits: {nofile: 1}",
        "ulimits: {nofile: {soft: 2, hard: 3}}",
        r#"{"ulimits":{"nofile":{"soft":2,"hard":3}}}"#,
    );
    merged(
        "build: x",
        "build: {target: t}",
        r#"{"build":{"context":"/p/x","target":"t","dockerfile":"Dockerfile"}}"#,
    );
}

#[test]
fn services_extend_others() {
    let files = [
        (
            "compose.yaml",
            "services:\n  a:\n    extends: {service: base, file: sub/common.yml}\n    environment: {B: 2}\n  c:\n    extends: a\n    image: c\n",
        ),
        (
            "sub/common.yml",
            "services:\n  base:\n    extends: deeper\n    image: b\n    volumes: ['./d:/d']\n  deeper:\n    image: e\n    environment: [A=1, B=1]\n",
        ),
    ];
    let project = load_all(&files, &[]).unwrap();
    let shown = |name: &str| crate::json(&project.services[name].node).to_string();
    assert_eq!(
        shown("a"),
        r#"{"image":"b","environment":{"A":"1","B":"2"},"volumes":[{"type":"bind","source":"/p/sub/d","target":"/d","bind":{}}],"networks":{"default":null}}"#
    );
    assert!(shown("c").contains(r#""image":"c""#));
    assert!(
        failure("services: {a: {extends: b, image: x}, b: {extends: a, image: x}}")
            .contains("circular reference")
    );
    assert!(
        failure("services: {a: {extends: nope, image: x}}").contains("service \"nope\" not found")
    );
}

#[test]
fn files_include_others() {
    let files = [
        (
            "compose.yaml",
            "include: [sub/compose.yml]\nservices:\n  a:\n    image: a\n    depends_on: [b]\n",
        ),
        (
            "sub/compose.yml",
            "services:\n  b:\n    image: b:${V}\n    volumes: ['./x:/x', 'v:/v']\nvolumes: {v: }\n",
        ),
        ("sub/.env", "V=7\n"),
    ];
    let project = load_all(&files, &[]).unwrap();
    assert_eq!(project.services["b"].image(), "b:7");
    assert_eq!(project.volumes["v"].name, "p_v");
    assert!(crate::json(&project.services["b"].node).to_string().contains("/p/sub/x"));
    let twice = [
        ("compose.yaml", "include: [sub.yml]\nservices: {b: {image: other}}\n"),
        ("sub.yml", "services: {b: {image: b}}\n"),
    ];
    assert!(
        load_all(&twice, &[])
            .unwrap_err()
            .to_string()
            .contains("services.b conflicts with imported resource")
    );
    let endless = [("compose.yaml", "include: [compose.yaml]\nservices: {b: {image: b}}\n")];
    assert!(load_all(&endless, &[]).unwrap_err().to_string().contains("files in each other"));
}

#[test]
fn profiles_and_selection() {
    let text = "services:\n  web: {image: a, depends_on: [db]}\n  db: {image: a}\n  dev: {image: a, profiles: [debug], depends_on: [db]}\n  tool: {image: a, profiles: [t]}\n  bad: {image: a, depends_on: [tool]}\n";
    let names =
        |project: &crate::Project| project.services.keys().cloned().collect::<Vec<_>>().join(" ");
    let mut project = load_all(&[("compose.yaml", text)], &[]).unwrap();
    assert_eq!(names(&project), "bad db web");
    assert_eq!(names(&load_all(&[("compose.yaml", text)], &["debug"]).unwrap()), "bad db dev web");
    assert_eq!(names(&load_all(&[("compose.yaml", text)], &["*"]).unwrap()), "bad db dev tool web");
    assert_eq!(project.select(&["web".into()], true).unwrap(), ["db", "web"]);
    assert_eq!(project.select(&["web".into()], false).unwrap(), ["web"]);
    assert_eq!(project.select(&["dev".into()], true).unwrap(), ["db", "dev"]);
    assert!(
        project
            .select(&["bad".into()], true)
            .unwrap_err()
            .to_string()
            .contains("undefined service \"tool\"")
    );
    assert_eq!(
        project.select(&["wbe".into()], true).unwrap_err().to_string(),
        "no such service: wbe"
    );
}

#[test]
fn variables_come_from_files() {
    let files = [
        (
            "compose.yaml",
            "services:\n  a:\n    image: i\n    env_file: [a.env, {path: none.env, required: false}, {path: raw.env, format: raw}]\n    environment: {B: own}\n    label_file: l.txt\n    labels: {x: own}\n",
        ),
        ("a.env", "A=1\nB=file\n"),
        ("raw.env", "R='$A'\n"),
        ("l.txt", "x=1\ny=2\n"),
    ];
    let project = load_all(&files, &[]).unwrap();
    let node = crate::json(&project.services["a"].node);
    assert_eq!(node["environment"].to_string(), r#"{"A":"1","B":"own","R":"'$A'"}"#);
    assert_eq!(node["labels"].to_string(), r#"{"x":"own","y":"2"}"#);
    assert!(
        failure("services: {a: {image: i, env_file: x.env}}")
            .contains("env file /p/x.env not found")
    );
}

#[test]
fn version_is_accepted_and_missing_variables_are_told() {
    let project = load("version: '3.8'\nservices: {a: {image: 'x$NOPE'}}\n");
    assert_eq!(project.warnings.len(), 2);
    assert!(project.warnings[0].contains("`version` is obsolete"));
    assert_eq!(
        project.warnings[1],
        "The \"NOPE\" variable is not set. Defaulting to a blank string."
    );
}

#[test]
fn keys_of_ones_own_are_kept() {
    let project = load("x-a: &a {image: i}\nservices: {s: {<<: *a, x-b: [1]}}\n");
    let shown = yaml(&project.model());
    assert!(
        shown.contains("x-b:\n      - 1\n") && shown.ends_with("x-a:\n  image: i\n"),
        "{shown}"
    );
}
