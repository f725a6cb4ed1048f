//! Pulls from Debian's docker-registry, filled by skopeo.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use oci::Digest;
use registry::{Auth, Client, Config, Error, HostConfig};
use serde_json::json;

use super::place::{Fixture, GZIP, Place, ZSTD, client, descriptor, noise};

/// `secret`, by bcrypt, the only method that docker-registry knows.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A running docker-registry; ends with its value.
struct Server {
    child: Child,
    log: Option<JoinHandle<()>>,
    host: String,
}

impl Server {
    /// Starts one with its content below `folder`; `None`, with a word to the reader, where it is
    /// not installed. `more` is put into the `http` and `auth` parts of its configuration.
    fn start(folder: &Path, http: &str, auth: &str) -> Option<Self> {
        for tool in ["docker-registry", "skopeo", "openssl"] {
            let found = Command::new(tool).arg("--version").output().is_ok();
            if !found {
                eprintln!("skipped: {tool} is not installed");
                return None;
            }
        }
        let config = folder.join("config.yml");
        let content = folder.join("content");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{auth}",
            content.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let rest = line.split_once("listening on 127.0.0.1:")?.1.to_owned();
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            Some(rest[..end].to_owned())
        });
        let log = std::thread::spawn(move || lines.for_each(drop));
        let port = port.expect("docker-registry says where it listens");
        Some(Self { child, log: Some(log), host: format!("127.0.0.1:{port}") })
    }

    /// Puts `fixture` here as `app:latest`.
    fn fill(&self, folder: &Path, fixture: &Fixture, more: &[&str]) {
        let layout = folder.join("layout");
        write_layout(&layout, fixture);
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .args(more)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}/app:latest", self.host))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn name(&self) -> String {
        format!("{}/app", self.host)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.take().unwrap().join().unwrap();
    }
}

/// An OCI image layout (image-spec, image-layout.md).
fn write_layout(folder: &Path, fixture: &Fixture) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    put(&fixture.bytes());
    put(fixture.config.to_string().as_bytes());
    fixture.blobs.iter().for_each(|blob| put(blob));
    let mut manifest = descriptor(fixture.kind(), &fixture.bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn nobody() -> Client {
    client(&Config::default(), Auth::anonymous())
}

#[test]
fn what_skopeo_pushed_is_what_is_pulled() {
    let big = noise(3, 2 << 20);
    let contents: [&[u8]; 4] = [b"one", &big, b"three", b""];
    for (packing, more) in [
        (GZIP, &[][..]),
        (ZSTD, &[]),
        (GZIP, &["--format", "v2s2"]),
        (GZIP, &["--dest-compress-format", "zstd"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let Some(server) = Server::start(folder.path(), "", "") else { return };
        let fixture = Fixture::new(packing, &contents);
        server.fill(folder.path(), &fixture, more);
        let (place, name) = (Place::new(), server.name());
        let pulled = place.pull_with(&nobody(), &name).unwrap();
        place.check(&name, &fixture, &contents);
        if more.is_empty() {
            assert_eq!(pulled.digest, Digest::of(&fixture.bytes()));
        }
        assert!(place.pull_with(&nobody(), &name).unwrap().up_to_date);
        let error = place.pull_with(&nobody(), &format!("{name}:absent")).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
}

#[test]
fn a_password_opens_what_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, HTPASSWD).unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: x\n    path: {}\n", file.display());
    let Some(server) = Server::start(folder.path(), "", &auth) else { return };
    let fixture = Fixture::noisy(1000);
    server.fill(folder.path(), &fixture, &["--dest-creds", "me:secret"]);
    let place = Place::new();
    let as_me = |password| {
        let auth = Auth::anonymous().with_password(&server.host, "me", password);
        client(&Config::default(), auth)
    };
    for refused in [nobody(), as_me("wrong")] {
        let error = place.pull_with(&refused, &server.name()).unwrap_err();
        assert!(matches!(error, Error::Denied { .. }), "{error}");
    }
    place.pull_with(&as_me("secret"), &server.name()).unwrap();
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn openssl(folder: &Path, arguments: &str) {
    let output =
        Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority `ca.crt` and, signed by it, `server.crt` with `server.key`.
fn certify(folder: &Path) {
    let new = format!("req {NEW_KEY} -days 2");
    openssl(folder, &format!("{new} -x509 -keyout ca.key -out ca.crt -subj /CN=authority"));
    openssl(folder, &format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=server"));
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
         -extfile names -out server.crt",
    );
}

/// The `http` part of a configuration with this certificate and its key.
fn with_tls(folder: &Path, name: &str) -> String {
    let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    format!("  tls:\n    certificate: {}\n    key: {}\n", path("crt"), path("key"))
}

/// A client for `server` alone, with these settings.
fn told(server: &Server, host: HostConfig) -> Client {
    let mut config = Config::default();
    config.hosts.insert(server.host.clone(), host);
    client(&config, Auth::anonymous())
}

fn trusting(server: &Server, ca: PathBuf) -> Client {
    told(server, HostConfig { ca: Some(ca), ..HostConfig::default() })
}

#[test]
fn a_self_signed_server_is_trusted_by_name() {
    for (address, expected) in [("127.0.0.1", Ok(())), ("127.0.0.9", Err("not valid for name"))] {
        let folder = tempfile::tempdir().unwrap();
        // As Docker's documentation has it, which makes it an authority as well.
        let names = format!("-subj /CN=server -addext subjectAltName=IP:{address}");
        let command = format!("req {NEW_KEY} -x509 -days 2 -keyout own.key -out own.crt {names}");
        openssl(folder.path(), &command);
        let http = with_tls(folder.path(), "own");
        let Some(server) = Server::start(folder.path(), &http, "") else { return };
        let fixture = Fixture::noisy(1000);
        server.fill(folder.path(), &fixture, &[]);
        let error = Place::new().pull_with(&nobody(), &server.name()).unwrap_err();
        assert!(error.to_string().contains("is self-signed; to trust it, set ca"), "{error}");
        let trusting = trusting(&server, folder.path().join("own.crt"));
        let outcome = Place::new().pull_with(&trusting, &server.name());
        match expected {
            Ok(()) => drop(outcome.unwrap()),
            Err(why) => {
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains(why), "{error}");
            }
        }
    }
}

#[test]
fn a_server_that_wants_to_know_us_is_shown_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let ca = folder.path().join("ca.crt");
    let http =
        format!("{}    clientcas:\n      - {}\n", with_tls(folder.path(), "server"), ca.display());
    let Some(server) = Server::start(folder.path(), &http, "") else { return };
    let certs = folder.path().join("certs.d");
    let own = certs.join(&server.host);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(&ca, own.join("ca.crt")).unwrap();
    let config = Config { certs_dirs: vec![certs], ..Config::default() };
    let pull = || {
        let client = Client::new(&config, Auth::anonymous()).with_backoff(Duration::ZERO);
        Place::new().pull_with(&client, &server.name()).unwrap_err()
    };
    assert!(matches!(pull(), Error::Unreachable { .. }));
    std::fs::copy(folder.path().join("server.crt"), own.join("client.cert")).unwrap();
    std::fs::copy(folder.path().join("server.key"), own.join("client.key")).unwrap();
    assert!(matches!(pull(), Error::NotFound { .. }));
}

#[test]
fn certificates_are_verified_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let ca = folder.path().join("ca.crt");
    let http = with_tls(folder.path(), "server");
    let Some(server) = Server::start(folder.path(), &http, "") else { return };
    let fixture = Fixture::noisy(1 << 20);
    server.fill(folder.path(), &fixture, &[]);
    let place = Place::new();
    let error = place.pull_with(&nobody(), &server.name()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.to_string().contains("signed by an unknown authority"), "{error}");
    assert!(error.to_string().contains("certs.d"), "{error}");

    let name = server.name();
    Place::new().pull_with(&trusting(&server, ca.clone()), &name).unwrap();
    let careless = told(&server, HostConfig { insecure: true, ..HostConfig::default() });
    Place::new().pull_with(&careless, &name).unwrap();
    let mistaken = trusting(&server, "/nowhere/ca.crt".into());
    let error = Place::new().pull_with(&mistaken, &name).unwrap_err();
    assert!(error.to_string().contains("read `/nowhere/ca.crt`"), "{error}");

    let certs = folder.path().join("certs.d");
    std::fs::create_dir_all(certs.join(&server.host)).unwrap();
    std::fs::copy(&ca, certs.join(&server.host).join("ca.crt")).unwrap();
    let config = Config { certs_dirs: vec![certs], ..Config::default() };
    let as_docker = Client::new(&config, Auth::anonymous());
    Place::new().pull_with(&as_docker, &name).unwrap();
}
