//! Images for other machines, and for several of them.

use std::fs;

use testkit::Sandbox;

use super::{build, run};

const CROSS: &str = "//- Dockerfile
FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETPLATFORM TARGETARCH BUILDARCH
RUN --network=none uname -m > /ran && echo $BUILDARCH to $TARGETARCH > /out
FROM scratch
COPY --from=build /out /out
";

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

#[test]
fn several_platforms_make_an_index() {
    let sandbox = Sandbox::new();
    let outputs = ["-o", "type=oci,dest=both.tar", "-o", "out", "--metadata-file", "m.json"];
    let annotations = ["--annotation", "index:a=i", "--annotation", "b=m"];
    let flags = [&BOTH[..], &outputs, &annotations].concat();
    let built = build(&sandbox, CROSS, &flags);
    let _ = built.ok();
    let read = |name: &str| fs::read_to_string(sandbox.work().join(name)).unwrap();
    assert_eq!(read("out/linux_amd64/out"), "amd64 to amd64\n");
    assert_eq!(read("out/linux_arm64/out"), "amd64 to arm64\n");
    let index = sandbox.host(["skopeo", "inspect", "--raw", "oci-archive:both.tar"]);
    let index: serde_json::Value = serde_json::from_str(index.ok()).unwrap();
    let platforms: Vec<String> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(index["annotations"]["a"], "i");
    let arm = ["skopeo", "inspect", "--override-arch", "arm64", "--raw", "oci-archive:both.tar"];
    let _ = sandbox.host(arm).ok();
    let metadata: serde_json::Value = serde_json::from_str(&read("m.json")).unwrap();
    let kind = &metadata["containerimage.descriptor"]["mediaType"];
    assert_eq!(kind, "application/vnd.oci.image.index.v1+json");
    let own = super::inspect(&sandbox, "{{.Architecture}}");
    assert_eq!(own, "amd64", "the name is of the image for this machine");
}

#[test]
fn an_index_is_pushed() {
    let sandbox = Sandbox::new();
    let storage = sandbox.work().join("hub");
    fs::create_dir(&storage).unwrap();
    let _hub = sandbox.registry(5001, &storage);
    super::write(&sandbox.work().join("ctx"), CROSS);
    let words = [&["build", "-q", "-t", "127.0.0.1:5001/both:1", "--push"], &BOTH[..], &["ctx"]];
    let id = sandbox.words(&words.concat()).code(0).stdout.trim().to_owned();
    let place = "docker://127.0.0.1:5001/both:1";
    let inspect = ["skopeo", "inspect", "--tls-verify=false", "--raw", place];
    let index = sandbox.host(inspect).code(0).stdout.clone();
    assert_eq!(index.matches("\"architecture\"").count(), 2, "{index}");
    assert_eq!(oci::Digest::of(index.as_bytes()).to_string(), id);
    let arm = ["skopeo", "--override-arch", "arm64", "inspect", "--tls-verify=false", place];
    assert!(sandbox.host(arm).ok().contains("\"arm64\""));
}

#[test]
fn a_command_for_another_machine_says_so() {
    let sandbox = Sandbox::new();
    // The head of a program for arm64 (elf(5)).
    let mut head = vec![0; 4096];
    head[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0");
    let context = sandbox.work().join("ctx");
    super::write(&context, "//- Dockerfile\nFROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n");
    fs::write(context.join("sh"), head).unwrap();
    let built = super::again(&sandbox, &["--platform", "linux/arm64"]);
    built.code(1);
    let expected = "a command for linux/arm64 cannot be executed on linux/amd64";
    assert!(built.stderr.contains(expected), "{built}");
    assert!(built.stderr.contains("hint: register an interpreter with binfmt_misc"), "{built}");
}

#[test]
fn annotations_are_the_manifests() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nLABEL a=b\n";
    let flags = ["--annotation", "org.example=x", "-o", "type=oci,dest=a.tar"];
    let _ = build(&sandbox, files, &flags).ok();
    let raw = sandbox.host(["skopeo", "inspect", "--raw", "oci-archive:a.tar"]);
    assert!(raw.ok().contains("\"org.example\":\"x\""), "{raw}");
    assert_eq!(run(&sandbox, "echo runs"), "runs\n");
    let refused = build(&sandbox, files, &["--annotation", "index:a=b"]);
    refused.code(1);
    assert!(refused.stderr.contains("not supported for single platform"), "{refused}");
}
