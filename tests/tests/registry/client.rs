//! The clients that people use push to the registry in the box and pull from it: anonymously, with
//! a password, and over TLS.

use std::path::Path;

use testkit::{Dockerd, Pool, Running, Sandbox};

use super::server::certificate;

const ADDRESS: &str = "127.0.0.1:5002";
/// `secret`, by bcrypt at nearly its lowest cost.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// How a registry is protected.
#[derive(Clone, Copy, PartialEq)]
enum Guard {
    None,
    Password,
    PasswordAndTls,
}

/// A registry in a fake host, and how clients reach it.
struct Served<'a> {
    sandbox: &'a Sandbox,
    guard: Guard,
    _server: Running,
}

impl<'a> Served<'a> {
    fn start(sandbox: &'a Sandbox, guard: Guard) -> Self {
        let work = sandbox.work();
        let mut words = vec!["registry", "serve", "--addr", ADDRESS, "--storage", "storage"];
        std::fs::write(work.join("users"), HTPASSWD).unwrap();
        if guard != Guard::None {
            words.extend(["--htpasswd", "users"]);
        }
        let (site, key) = certificate(&work);
        if guard == Guard::PasswordAndTls {
            words.extend(["--tls-cert", &site, "--tls-key", &key]);
        }
        std::fs::create_dir(work.join("certs")).unwrap();
        std::fs::copy(&site, work.join("certs/ca.crt")).unwrap();
        std::fs::write(
            work.join("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let server = sandbox.start_line(&words);
        server.wait_for("Push to it with");
        Self { sandbox, guard, _server: server }
    }

    /// The flag `name`, where a password is asked for.
    fn credentials(&self, name: &str) -> String {
        if self.guard == Guard::None { String::new() } else { format!("{name} me:secret") }
    }

    /// How TLS is done or done without, by flags that start with `side`.
    fn tls(&self, side: &str) -> String {
        match self.guard {
            Guard::PasswordAndTls => format!("--{side}cert-dir certs"),
            _ => format!("--{side}tls-verify=false"),
        }
    }

    #[track_caller]
    fn shell(&self, script: &str) -> String {
        self.sandbox.shell(&format!("set -e; {script}")).ok().to_owned()
    }
}

const GUARDS: [Guard; 3] = [Guard::None, Guard::Password, Guard::PasswordAndTls];

#[test]
fn skopeo_pushes_and_pulls_whole_indexes() {
    for guard in GUARDS {
        let sandbox = Sandbox::new();
        let served = Served::start(&sandbox, guard);
        let layout = Pool::open().layout();
        let skopeo = "skopeo --policy policy.json";
        let (to, from) = (served.tls("dest-"), served.tls("src-"));
        let (write, read) = (served.credentials("--dest-creds"), served.credentials("--src-creds"));
        served.shell(&format!(
            "{skopeo} copy -q --all {to} {write} oci:{}:busybox:multi docker://{ADDRESS}/a/box:multi
             {skopeo} copy -q --all {from} {read} docker://{ADDRESS}/a/box:multi oci:back:multi
             {skopeo} copy -q {from} {read} --dest-tls-verify=false {to} {write} \
                docker://{ADDRESS}/a/box:multi docker://{ADDRESS}/b/box:one",
            layout.display()
        ));
        let digest = |index: &str| {
            let text = std::fs::read_to_string(index).unwrap();
            let index: serde_json::Value = serde_json::from_str(&text).unwrap();
            let entries = index["manifests"].as_array().expect("a list of images");
            let is_ours = |entry: &&serde_json::Value| {
                let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
                name == "busybox:multi" || name == "multi"
            };
            entries.iter().find(is_ours).expect("the image is there")["digest"].clone()
        };
        let back = sandbox.work().join("back/index.json");
        let source = layout.join("index.json");
        assert_eq!(digest(back.to_str().unwrap()), digest(source.to_str().unwrap()));
        if guard != Guard::None {
            let refused = sandbox.shell(&format!(
                "{skopeo} inspect {} docker://{ADDRESS}/a/box:multi",
                served.tls("")
            ));
            refused.code(1).says("unauthorized: ");
        }
    }
}

#[test]
fn podman_and_buildah_push_and_pull() {
    let missing = ["podman", "buildah"].map(|name| !Path::new("/usr/bin").join(name).exists());
    if missing.contains(&true) {
        eprintln!("skipped: podman or buildah is not installed");
        return;
    }
    for guard in GUARDS {
        let sandbox = Sandbox::new();
        let served = Served::start(&sandbox, guard);
        let (tls, credentials) = (served.tls(""), served.credentials("--creds"));
        let stores = "--root store --runroot store-run --storage-driver vfs";
        let podman = format!("podman {stores} --cgroup-manager cgroupfs");
        let buildah = format!("buildah {stores}");
        let shown = served.shell(&format!(
            "echo hello >hello
             container=$({buildah} from scratch)
             {buildah} copy -q $container hello / >/dev/null
             {buildah} commit -q --signature-policy policy.json $container mine >/dev/null
             {buildah} rm $container >/dev/null
             {buildah} push -q --signature-policy policy.json {tls} {credentials} mine docker://{ADDRESS}/team/mine:1
             {podman} rmi -f mine >/dev/null
             {podman} pull -q --signature-policy policy.json {tls} {credentials} {ADDRESS}/team/mine:1 >/dev/null
             {podman} push -q --signature-policy policy.json {tls} {credentials} {ADDRESS}/team/mine:1 {ADDRESS}/other/mine:2
             {podman} image inspect -f '{{{{.RepoDigests}}}}' {ADDRESS}/team/mine:1"
        ));
        assert!(shown.contains(&format!("{ADDRESS}/team/mine@sha256:")), "{shown}");
        let tags = served
            .shell(&format!("skopeo list-tags {tls} {credentials} docker://{ADDRESS}/other/mine"));
        assert!(tags.contains("\"2\""), "{tags}");
    }
}

#[test]
fn docker_pushes_and_pulls() {
    for guard in GUARDS {
        let sandbox = Sandbox::new();
        let served = Served::start(&sandbox, guard);
        let daemon = Dockerd::start(&sandbox);
        let login = match guard {
            Guard::None => "true".to_owned(),
            _ => format!("echo secret | docker login -u me --password-stdin {ADDRESS}"),
        };
        let layout = Pool::open().layout();
        let outcome = daemon.shell(&format!(
            "set -e; export DOCKER_CONFIG=$PWD/docker-config
             skopeo --policy policy.json copy -q oci:{}:busybox:latest docker-archive:box.tar:{ADDRESS}/a/box:1
             docker load -q -i box.tar
             {login}
             docker push -q {ADDRESS}/a/box:1
             docker rmi {ADDRESS}/a/box:1 >/dev/null
             docker pull -q {ADDRESS}/a/box:1
             docker tag {ADDRESS}/a/box:1 {ADDRESS}/b/box:1
             docker push {ADDRESS}/b/box:1",
            layout.display()
        ));
        let said = outcome.ok();
        assert!(said.contains("Mounted from a/box"), "{outcome}");
        drop(daemon);
        drop(served);
    }
}

#[test]
fn cais_pulls() {
    for guard in GUARDS {
        let sandbox = Sandbox::new();
        let served = Served::start(&sandbox, guard);
        let layout = Pool::open().layout();
        served.shell(&format!(
            "skopeo --policy policy.json copy -q --all {} {} oci:{}:busybox:multi docker://{ADDRESS}/a/box:1",
            served.tls("dest-"),
            served.credentials("--dest-creds"),
            layout.display()
        ));
        let ca = sandbox.work().join("certs/ca.crt");
        sandbox.configure(&format!("[registry.\"{ADDRESS}\"]\nca = \"{}\"\n", ca.display()));
        let image = format!("{ADDRESS}/a/box:1");
        if guard != Guard::None {
            sandbox.cais(["pull", &image]).code(1).says("no basic auth credentials");
            // me:secret
            let file = format!(r#"{{"auths":{{"{ADDRESS}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
            let folder = sandbox.work().with_file_name("home").join(".docker");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("config.json"), file).unwrap();
        }
        let _ = sandbox.cais(["pull", &image]).ok();
        let run = ["run", "--rm", "--network", "none", &image, "echo", "well"];
        sandbox.cais(run).code(0).out("well\n");
    }
}
