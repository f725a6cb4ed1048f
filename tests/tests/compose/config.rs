//! Files, and what they are read as.

use testkit::Sandbox;

use super::write;

const SHOP: &str = r#"
name: shop
services:
  web:
    image: "nginx:${TAG:-latest}"
    ports: ["8080:80"]
    depends_on: [app]
    environment:
      - MODE=$MODE
      - FROM_HOST
  app:
    build: ./app
    profiles: [full]
    volumes: ["data:/var/lib/app", "./conf:/conf:ro"]
volumes:
  data:
"#;

#[test]
fn a_project_is_shown_in_its_one_form() {
    let sandbox = Sandbox::new();
    write(&sandbox, SHOP);
    std::fs::write(sandbox.work().join(".env"), "TAG=1.27\nMODE='a b'\n").unwrap();
    let shown = sandbox.line("cais compose --profile full config");
    let work = sandbox.work();
    let expected = format!(
        "name: shop
services:
  app:
    profiles:
      - full
    build:
      context: {0}/app
      dockerfile: Dockerfile
    networks:
      default: null
    volumes:
      - type: volume
        source: data
        target: /var/lib/app
        volume: {{}}
      - type: bind
        source: {0}/conf
        target: /conf
        read_only: true
        bind: {{}}
  web:
    depends_on:
      app:
        condition: service_started
        required: true
    environment:
      FROM_HOST: null
      MODE: a b
    image: nginx:1.27
    networks:
      default: null
    ports:
      - mode: ingress
        target: 80
        published: \"8080\"
        protocol: tcp
networks:
  default:
    name: shop_default
volumes:
  data:
    name: shop_data
",
        work.display()
    );
    shown.code(0).out(&expected);
    sandbox.line("cais compose --profile * config --services").out("app\nweb\n");
    sandbox.line("cais compose --profile full config --images").out("shop-app\nnginx:1.27\n");
    sandbox.line("cais compose config --volumes").out("data\n");
    sandbox.line("cais compose config --profiles").out("full\n");
    let hashes = sandbox.line("cais compose --profile full config --hash web,app");
    let lengths: Vec<usize> = hashes.ok().lines().map(str::len).collect();
    assert_eq!(lengths, [4 + 64, 4 + 64]);
    let json = sandbox.line("cais compose --profile full config --format json");
    let json: serde_json::Value = serde_json::from_str(json.ok()).unwrap();
    assert_eq!(json["services"]["web"]["ports"][0]["published"], "8080");
    assert!(json["services"]["web"]["command"].is_null());
    let raw = sandbox.line("cais compose --profile full config --no-interpolate");
    assert!(raw.ok().contains("image: nginx:${TAG:-latest}"), "{raw}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let sandbox = Sandbox::new();
    write(&sandbox, SHOP);
    let script = "$E compose --profile full config >a.yaml 2>/dev/null; $E compose --profile full -f a.yaml config >b.yaml && cmp a.yaml b.yaml";
    let _ = sandbox.shell(script).ok();
}

#[test]
fn files_are_found_and_named() {
    let sandbox = Sandbox::new();
    sandbox.line("cais compose config").code(1).says("no configuration file provided: not found");
    let below = sandbox.work().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(sandbox.work().join("a/docker-compose.yml"), "services: {x: {image: i}}")
        .unwrap();
    std::fs::write(
        sandbox.work().join("a/docker-compose.override.yml"),
        "services: {y: {image: i}}",
    )
    .unwrap();
    sandbox.shell("cd a/b && $E compose config --services").out("x\ny\n");
    sandbox.shell("cd a/b && $E compose config | head -1").out("name: a\n");
    sandbox
        .shell("echo 'services: {z: {image: i}}' | $E compose -f - -p other config --services")
        .out("z\n");
    sandbox
        .shell(
            "COMPOSE_FILE=a/docker-compose.yml COMPOSE_PROJECT_NAME=p $E compose config | head -1",
        )
        .out("name: p\n");
    let both =
        "$E compose -f a/docker-compose.yml -f a/docker-compose.override.yml config --services";
    sandbox.shell(both).out("x\ny\n");
    std::fs::write(sandbox.work().join("my.env"), "V=7\n").unwrap();
    std::fs::write(sandbox.work().join("v.yaml"), "services: {x: {image: 'i:$V'}}").unwrap();
    sandbox.shell("$E compose -f v.yaml --env-file my.env config --images").out("i:7\n");
    sandbox.shell("V=8 $E compose -f v.yaml --env-file my.env config --images").out("i:8\n");
    sandbox
        .line("cais compose -f v.yaml --env-file no.env config")
        .code(1)
        .says("couldn't find env file");
    sandbox.line("cais compose -f v.yaml config -q").code(0).says("The \"V\" variable is not set");
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
    let sandbox = Sandbox::new();
    write(&sandbox, "version: '3'\nservices:\n  web:\n    imgae: nginx\n");
    let wrong = sandbox.line("cais compose config");
    wrong.code(1).says("compose.yaml:4:12: services.web additional properties 'imgae' not allowed");
    write(&sandbox, "services:\n  web:\n    image: nginx\n    ports: ['80:x']\n");
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("compose.yaml:4:13: services.web.ports: invalid containerPort: x");
    write(&sandbox, "services:\n  web:\n    image: nginx\n    gpus: all\n");
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("services.web.gpus is not supported")
        .says("hint:");
    write(&sandbox, "services: {web: {image: nginx}}");
    sandbox
        .line("cais compose up -d wbe")
        .code(1)
        .says("no such service: wbe")
        .says("did you mean web?");
    sandbox.line("cais compose --dry-run up").code(1).says("--dry-run is not supported");
    sandbox.line("cais compose up --watch").code(1).says("--watch is not supported");
    sandbox
        .line("cais compose up --build --no-build -d")
        .code(1)
        .says("--build and --no-build are incompatible");
    sandbox
        .line("cais compose up -d --abort-on-container-exit")
        .code(1)
        .says("--detach cannot be combined");
}
