//! Pulling: every encoding that registries serve, and pulling what is already there.

use std::collections::BTreeMap;

use testkit::{Node, Sandbox, layered};

#[test]
fn the_second_pull_finds_the_image_up_to_date() {
    let sandbox = Sandbox::new();
    let first = sandbox.cais(["pull", "busybox:latest"]);
    first.code(0);
    assert!(first.stdout.contains("Status: Downloaded newer image for busybox:latest"), "{first}");
    let second = sandbox.cais(["pull", "busybox:latest"]);
    second.code(0);
    assert!(second.stdout.contains("Status: Image is up to date for busybox:latest"), "{second}");
    let digest =
        |text: &str| text.lines().find(|line| line.starts_with("Digest: ")).map(str::to_owned);
    assert!(digest(&first.stdout).is_some(), "{first}");
    assert_eq!(digest(&first.stdout), digest(&second.stdout));
    assert!(second.stdout.ends_with("docker.io/library/busybox:latest\n"), "{second}");
}

#[test]
fn a_quiet_pull_prints_the_name_alone() {
    let sandbox = Sandbox::new();
    sandbox.cais(["pull", "-q", "busybox"]).code(0).out("docker.io/library/busybox:latest\n");
}

#[test]
fn every_encoding_gives_the_same_files() {
    let sandbox = Sandbox::new();
    let listing = |tag: &str| {
        let image = format!("busybox:{tag}");
        let _ = sandbox.cais(["pull", &image]).ok();
        let script = "cd / && find bin etc home root tmp usr var | sort | xargs ls -ldn";
        let outcome =
            sandbox.cais(["run", "--rm", "--network", "none", &image, "sh", "-c", script]);
        let listing = outcome.ok().to_owned();
        assert!(listing.lines().count() > 100, "{outcome}");
        // Docker writes the host's names and addresses into these.
        let own = |line: &&str| {
            !["etc/hosts", "etc/hostname", "etc/resolv.conf", " etc"]
                .iter()
                .any(|f| line.ends_with(f))
        };
        listing.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    let latest = listing("latest");
    for tag in ["plain", "zstd", "schema2", "multi"] {
        assert_eq!(listing(tag), latest, "busybox:{tag}");
    }
}

#[test]
fn a_digest_pins_what_is_pulled() {
    let sandbox = Sandbox::new();
    let pulled = sandbox.cais(["pull", "busybox:latest"]);
    let digest = pulled.ok().lines().find_map(|line| line.strip_prefix("Digest: "));
    let pinned = format!("busybox@{}", digest.expect("a pull prints the digest"));
    let _ = sandbox.cais(["pull", &pinned]).ok();
    sandbox
        .cais(["run", "--rm", "--network", "none", &pinned, "echo", "pinned"])
        .code(0)
        .out("pinned\n");
}

#[test]
fn another_platform_can_be_asked_for() {
    let sandbox = Sandbox::new();
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let platform = format!("linux/{other}");
    let _ = sandbox.cais(["pull", "--platform", &platform, "busybox:multi"]).ok();
    let format = "{{.Os}}/{{.Architecture}}";
    let shown = sandbox.cais(["image", "inspect", "--format", format, "busybox:multi"]);
    shown.code(0).out(&format!("{platform}\n"));
    let none = sandbox.cais(["pull", "--platform", "linux/s390x", "busybox:multi"]);
    none.code(1).says("linux/s390x");
}

#[test]
fn fifty_layers_stack_as_the_model_says() {
    let sandbox = Sandbox::new();
    // One line for each: what it is, then its name with odd bytes escaped, then what it holds.
    let script = r#"cd / && find data -print0 | while IFS= read -r -d '' path; do
        name=$(printf '%s' "$path" | od -An -v -tx1 | tr -d ' \n')
        if [ -L "$path" ]; then echo "l $name $(readlink "$path")"
        elif [ -d "$path" ]; then echo "d $name"
        else echo "f $name $(cat "$path")"; fi
    done"#;
    let run = ["run", "--rm", "--network", "none", "many-layers", "sh", "-c", script];
    let outcome = sandbox.cais(run);
    let seen: BTreeMap<String, String> = outcome.ok().lines().map(split_line).collect();
    let wanted: BTreeMap<String, String> = layered::stacked().iter().map(model_line).collect();
    assert_eq!(seen, wanted);
}

fn split_line(line: &str) -> (String, String) {
    let mut words = line.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    let (kind, name, content) = (next(), next(), next());
    (name, format!("{kind} {content}"))
}

fn model_line((path, node): (&String, &Node)) -> (String, String) {
    let name = path.bytes().map(|byte| format!("{byte:02x}")).collect();
    let shown = match node {
        Node::Directory => "d ".to_owned(),
        Node::Symlink(target) => format!("l {target}"),
        Node::File(content) => format!("f {}", String::from_utf8_lossy(content).trim_end()),
        Node::Hardlink(target) => panic!("the model resolves the hard link to {target}"),
        Node::Fifo | Node::Device(..) => panic!("the pool has none of these"),
    };
    (name, shown)
}
