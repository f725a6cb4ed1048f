//! `cais bake`: builds that a file describes.

use std::fs;

use serde_json::Value;
use testkit::Sandbox;

use super::write;

const FILES: &str = r#"//- docker-bake.hcl
variable "VERSION" { default = "1" }
variable "DEBUG" { default = false }
function "name" {
  params = [what]
  result = "example.org/${what}:${VERSION}"
}
group "default" { targets = ["app", "tools"] }
target "_labels" {
  labels = { "org.opencontainers.image.version" = VERSION }
}
target "base" {
  dockerfile-inline = <<EOT
FROM busybox
RUN echo base > /base
EOT
}
target "app" {
  inherits = ["_labels"]
  context = "src"
  contexts = { parent = "target:base" }
  args = { MODE = DEBUG ? "debug" : "release" }
  tags = [name("app")]
}
target "tools" {
  name = "tool-${tool}"
  matrix = { tool = ["one", "two"] }
  inherits = ["_labels"]
  dockerfile-inline = "FROM busybox\nARG TOOL\nENV TOOL=$TOOL\n"
  args = { TOOL = upper(tool) }
  tags = [name(tool)]
  output = ["type=docker"]
}
//- src/Dockerfile
FROM parent
ARG MODE
COPY f .
RUN echo $MODE >> f
//- src/f
f
"#;

#[test]
fn targets_are_built_with_what_they_need() {
    let sandbox = Sandbox::new();
    write(&sandbox.work(), FILES);
    let _ = sandbox.shell("DEBUG=1 $E bake --set '*.network=none' --metadata-file meta.json").ok();
    let run = |image: &str, line: &str| {
        let words = ["run", "--rm", "--network", "none", image, "sh", "-c", line];
        sandbox.cais(words).code(0).stdout.clone()
    };
    assert_eq!(run("example.org/app:1", "cat /base /f"), "base\nf\ndebug\n");
    assert_eq!(run("example.org/one:1", "echo $TOOL"), "ONE\n");
    assert_eq!(run("example.org/two:1", "echo $TOOL"), "TWO\n");
    let meta: Value =
        serde_json::from_slice(&fs::read(sandbox.work().join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["app"]["image.name"], "example.org/app:1");
    assert!(meta["tool-one"]["containerimage.digest"].as_str().unwrap().starts_with("sha256:"));

    let one = ["buildx", "bake", "--var", "VERSION=2", "--set", "tool-*.args.TOOL=3", "tool-one"];
    let _ = sandbox.cais(one).ok();
    assert_eq!(run("example.org/one:2", "echo $TOOL"), "3\n");
    let absent = sandbox.cais(["image", "inspect", "example.org/two:2"]);
    absent.code(1);
}

#[test]
fn what_would_be_built_is_shown() {
    let sandbox = Sandbox::new();
    write(&sandbox.work(), FILES);
    let shown = sandbox.cais(["bake", "--print", "tool-one"]);
    let expected = r#"{
  "group": {
    "default": {
      "targets": [
        "tool-one"
      ]
    }
  },
  "target": {
    "tool-one": {
      "context": ".",
      "dockerfile": "Dockerfile",
      "dockerfile-inline": "FROM busybox\nARG TOOL\nENV TOOL=$TOOL\n",
      "args": {
        "TOOL": "ONE"
      },
      "labels": {
        "org.opencontainers.image.version": "1"
      },
      "tags": [
        "example.org/one:1"
      ],
      "output": [
        "type=docker"
      ]
    }
  }
}
"#;
    shown.code(0).out(expected);
    sandbox.cais(["bake", "--list", "variables"]).code(0).out("DEBUG\nVERSION\n");
    let json =
        r#"{"target": {"default": {"tags": ["${TAG}"]}}, "variable": {"TAG": {"default": "t"}}}"#;
    fs::write(sandbox.work().join("x.json"), json).unwrap();
    let shown = sandbox.cais(["bake", "-f", "x.json", "--print"]);
    assert!(shown.ok().contains("\"t\""), "{shown}");

    let unknown = sandbox.cais(["bake", "nothing"]);
    unknown.code(1);
    assert!(unknown.stderr.contains("failed to find target nothing"), "{unknown}");
    fs::write(sandbox.work().join("docker-bake.hcl"), "target \"default\" { oops = 1 }").unwrap();
    let wrong = sandbox.cais(["bake"]);
    wrong.code(1);
    assert!(wrong.stderr.contains("oops of target default is not supported"), "{wrong}");
}

const PROJECT: &str = r#"//- compose.yaml
name: p
services:
  web.front:
    image: example.org/web:${TAG:-1}
    build:
      context: src
      args: { MODE: "$${not}", HERE: }
      labels: { a: b }
      tags: [more]
      additional_contexts: { parent: "service:base" }
      x-bake: { tags: [more, most], output: type=docker, platforms: [linux/amd64] }
  base:
    build:
      dockerfile_inline: |
        FROM busybox
        RUN --network=none echo base > /base
  other:
    image: busybox
//- docker-bake.hcl
target "base" {
  labels = { c = "d" }
}
//- src/Dockerfile
FROM parent
ARG MODE
RUN --network=none echo "$MODE" > /mode
"#;

#[test]
fn services_are_targets() {
    let sandbox = Sandbox::new();
    write(&sandbox.work(), PROJECT);
    let shown = sandbox.shell("HERE=now $E bake --print");
    let shown: Value = serde_json::from_str(shown.ok()).unwrap();
    assert_eq!(shown["group"]["default"]["targets"], serde_json::json!(["base", "web_front"]));
    let mut web = shown["target"]["web_front"].clone();
    let context = web["context"].as_str().unwrap().to_owned();
    assert!(context.ends_with("/src"), "{context}");
    web["context"] = "src".into();
    let expected = serde_json::json!({
        "context": "src",
        "contexts": {"parent": "target:base"},
        "dockerfile": "Dockerfile",
        "args": {"MODE": "${not}", "HERE": "now"},
        "labels": {"a": "b"},
        "tags": ["example.org/web:1", "more", "most"],
        "platforms": ["linux/amd64"],
        "output": ["type=docker"],
    });
    assert_eq!(web, expected);
    assert_eq!(shown["target"]["base"]["labels"]["c"], "d", "files go on top of each other");
    let _ = sandbox.line("cais bake --set web_front.platforms=local").ok();
    let words = ["run", "--rm", "--network", "none", "most", "cat", "/base", "/mode"];
    sandbox.cais(words).code(0).out("base\n${not}\n");
    let script = "printf 'services: {a: {build: {context: ., ssh: [default]}}}' | $E bake -f - --print; \
        printf 'services: {a: {build: {context: ., ssh: [default]}}}' > x.yml; $E bake -f x.yml --print";
    sandbox.shell(script).code(1).says("services.a.build.ssh is not supported by bake");
}

#[test]
fn files_elsewhere_are_granted_one_by_one() {
    let sandbox = Sandbox::new();
    write(
        &sandbox.work(),
        "//- here/docker-bake.hcl
target \"default\" {
  context = \"../there\"
  output = [\"type=local,dest=../out\"]
}
//- there/Dockerfile
FROM busybox
",
    );
    let bake = |flags: &str| sandbox.shell(&format!("cd here && $E bake {flags}"));
    bake("").code(1).says("hint: --allow fs.read=../there grants it");
    bake("--allow fs.read=../there").code(1).says("hint: --allow fs.write=../out grants it");
    bake("--allow fs.read=../there --allow fs.write=../other").code(1);
    let _ = bake("--allow fs.read=../there --allow fs.write=..").ok();
    assert!(sandbox.work().join("out/bin").exists());
    let _ = bake("--allow fs=..").ok();
}
