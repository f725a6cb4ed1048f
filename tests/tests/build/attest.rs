//! Provenance and bills of materials, where BuildKit has them.

use serde_json::Value;
use testkit::Sandbox;

use super::{again, build};

const FILES: &str = "//- node_modules/left-pad/package.json
{\"name\": \"left-pad\", \"version\": \"1.3.0\", \"license\": \"WTFPL\"}
//- Dockerfile
FROM debian
ARG SECRET_PLAN=none
COPY node_modules /app/node_modules
";

fn statement(sandbox: &Sandbox, file: &str) -> Value {
    let text = std::fs::read_to_string(sandbox.work().join("out").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn statements_lie_beside_the_files() {
    let sandbox = Sandbox::new();
    let flags = ["--sbom", "--provenance=mode=max", "--build-arg", "SECRET_PLAN=x", "-o", "out"];
    let _ = build(&sandbox, FILES, &flags).ok();
    let sbom = statement(&sandbox, "sbom.spdx.json");
    assert_eq!(sbom["predicateType"], "https://spdx.dev/Document");
    assert_eq!(sbom["predicate"]["spdxVersion"], "SPDX-2.3");
    let packages = sbom["predicate"]["packages"].as_array().unwrap();
    let urls: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    assert!(urls.contains(&"pkg:npm/left-pad@1.3.0"), "{urls:?}");
    let dpkg = sandbox.shell("grep -c '^Status: install ok installed' out/var/lib/dpkg/status");
    let installed: usize = dpkg.ok().trim().parse().unwrap();
    assert_eq!(urls.iter().filter(|url| url.starts_with("pkg:deb/")).count(), installed);

    let provenance = statement(&sandbox, "provenance.json");
    assert_eq!(provenance["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    let definition = &provenance["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:SECRET_PLAN"], "x");
    let uri = definition["resolvedDependencies"][0]["uri"].as_str().unwrap();
    assert!(uri.starts_with("pkg:docker/debian@latest?platform=linux%2F"), "{uri}");

    let _ = again(&sandbox, &["--provenance", "--build-arg", "SECRET_PLAN=x", "-o", "out"]).ok();
    let provenance = statement(&sandbox, "provenance.json").to_string();
    assert!(!provenance.contains("SECRET_PLAN"), "{provenance}");
}

#[test]
fn statements_go_with_the_image() {
    let sandbox = Sandbox::new();
    let _server = sandbox.start_script("exec $E registry serve --addr 127.0.0.1:5001 2>&1");
    let deadline =
        "for i in $(seq 200); do curl -sf http://127.0.0.1:5001/v2/ && exit 0; done; exit 1";
    let _ = sandbox.shell(deadline).ok();
    let name = "127.0.0.1:5001/app:1";
    let flags = ["-t", name, "--attest", "type=sbom", "--attest", "type=provenance", "--push"];
    super::write(&sandbox.work().join("ctx"), FILES);
    let push =
        |further: &[&str]| sandbox.words(&[&["build"][..], further, &flags, &["ctx"]].concat());
    let _ = push(&[]).ok();
    let raw = sandbox.shell("curl -sf http://127.0.0.1:5001/v2/app/manifests/1");
    let index: Value = serde_json::from_str(raw.ok()).unwrap();
    let [image, about] = [0, 1].map(|at| &index["manifests"][at]);
    assert_eq!(image["platform"]["os"], "linux");
    assert_eq!(about["platform"], serde_json::json!({"architecture": "unknown", "os": "unknown"}));
    let notes = &about["annotations"];
    assert_eq!(notes["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(notes["vnd.docker.reference.digest"], image["digest"]);
    let digest = image["digest"].as_str().unwrap();
    let referrers =
        sandbox.shell(&format!("curl -sf http://127.0.0.1:5001/v2/app/referrers/{digest}"));
    let referrers: Value = serde_json::from_str(referrers.ok()).unwrap();
    assert_eq!(referrers["manifests"][0]["digest"], about["digest"]);

    // Others see an image and skip what is about it; the same build makes the same statements.
    let _ = sandbox.shell("$E rmi -f $($E images -q)").ok();
    let ran = sandbox.cais(["run", "--rm", "--network", "none", name, "ls", "/app/node_modules"]);
    ran.code(0).out("left-pad\n");
    let inspect = "skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://";
    let first = sandbox.shell(&format!("{inspect}{name}")).ok().to_owned();
    let _ = push(&["--no-cache"]).ok();
    assert_eq!(sandbox.shell(&format!("{inspect}{name}")).ok(), first);

    let _ = again(&sandbox, &["--sbom", "-o", "type=oci,dest=app.tar"]).ok();
    let _ = sandbox.shell("skopeo inspect oci-archive:app.tar").ok();
    for wrong in [&["--sbom"][..], &["--sbom", "-o", "type=docker,dest=x.tar"]] {
        let refused = again(&sandbox, wrong);
        refused.code(1);
        assert!(refused.stderr.contains("cannot have attestations with it"), "{refused}");
    }
}
