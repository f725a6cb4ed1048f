//! Containers that start before their layers are here.

use testkit::{Entry, Running, Sandbox};

/// A registry of one image in an OCI layout. Parts of layers are served at once; whole ones when
/// there is a file `go`. In the mode `wrong` parts have a wrong byte, in `whole` there are none.
const SERVER: &str = r#"
import http.server, json, os, re, sys, threading
mode, layout, port = sys.argv[1:]
top = json.load(open(f"{layout}/index.json"))["manifests"][0]["digest"]
blob = lambda digest: open(f"{layout}/blobs/sha256/" + digest.split(":")[1], "rb").read()
layers = json.loads(blob(top))["layers"]
tables = [int(v.split(":")[0]) for l in layers for k, v in l.get("annotations", {}).items() if "position" in k]
class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def answer(self, status, body, fields={}):
        self.send_response(status)
        for field in fields.items(): self.send_header(*field)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        if "/manifests/" in self.path:
            return self.answer(200, blob(top), {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        if "/blobs/" not in self.path:
            return self.answer(200, b"{}")
        body = blob(name)
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part and mode != "whole":
            start, last = int(part[1]), int(part[2])
            some = bytearray(body[start:last + 1])
            if mode == "wrong" and start not in tables: some[len(some) // 2] ^= 1
            return self.answer(206, bytes(some), {"Content-Range": f"bytes {start}-{last}/{len(body)}"})
        while mode != "whole" and name in [l["digest"] for l in layers] and not os.path.exists("go"):
            threading.Event().wait(0.01)
        self.answer(200, body)
http.server.ThreadingHTTPServer.daemon_threads = True
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Registry)
print("ready", flush=True)
server.serve_forever()
"#;

/// Makes eStargz of the layers of the layout (containerd/stargz-snapshotter, docs/estargz.md).
const STARGZ: &str = r#"
import base64, datetime, gzip, hashlib, io, json, tarfile
CHUNK = 300_000
KINDS = {b"0": "reg", b"\0": "reg", b"1": "hardlink", b"2": "symlink", b"5": "dir"}
sha = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
pack = lambda data: gzip.compress(data, mtime=0)
blob = lambda digest: open(f"layout/blobs/sha256/{digest[7:]}", "rb").read()
def put(data):
    open(f"layout/blobs/sha256/{sha(data)[7:]}", "wb").write(data)
    return {"digest": sha(data), "size": len(data)}
def stargz(tar):
    out, rows, plain, pending = b"", [], b"", b""
    for member in tarfile.open(fileobj=io.BytesIO(tar)):
        pending += tar[member.offset:member.offset_data]
        row = {"name": member.name + "/" * member.isdir(), "type": KINDS[member.type], "mode": member.mode,
               "uid": member.uid, "gid": member.gid, "size": member.size, "linkName": member.linkname,
               "modtime": datetime.datetime.utcfromtimestamp(member.mtime).isoformat() + "Z"}
        data = tar[member.offset_data:][:member.size] if member.isreg() else b""
        row |= {"digest": sha(data)} if member.isreg() else {}
        for at in range(0, len(data), CHUNK):
            chunk = data[at:at + CHUNK]
            out, plain, pending = out + pack(pending), plain + pending, chunk
            row |= {"offset": len(out), "chunkOffset": at, "chunkDigest": sha(chunk)}
            row |= {"chunkSize": CHUNK} if at + CHUNK < len(data) else {}
            rows.append(row)
            row = {"name": member.name, "type": "chunk"}
        rows += [] if data else [row]
        pending += bytes(-len(data) % 512)
    table = json.dumps({"version": 1, "entries": rows}).encode()
    own = tarfile.TarInfo("stargz.index.json")
    own.size = len(table)
    end = own.tobuf() + table + bytes(-len(table) % 512) + bytes(1024)
    place = len(out := out + pack(pending))
    footer = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x1a\0SG\x16\0%016xSTARGZ\x01\0\0\xff\xff" % place
    layer = put(out + pack(end) + footer + bytes(8))
    return layer | {"annotations": {"containerd.io/snapshot/stargz/toc.digest": sha(table)}}, sha(plain + pending + end)
index = json.load(open("layout/index.json"))
manifest = json.loads(blob(index["manifests"][0]["digest"]))
config = json.loads(blob(manifest["config"]["digest"]))
made = [stargz(gzip.decompress(blob(layer["digest"]))) for layer in manifest["layers"]]
manifest["layers"] = [old | new for old, (new, _) in zip(manifest["layers"], made)]
config["rootfs"]["diff_ids"] = [digest for _, digest in made]
manifest["config"] |= put(json.dumps(config).encode())
index["manifests"][0] |= put(json.dumps(manifest).encode())
json.dump(index, open("layout/index.json", "w"))
"#;

const IMAGE: &str = "127.0.0.1:8399/lazy:1";

/// Serves an image of busybox and two layers, compressed in `format`.
fn serve(sandbox: &Sandbox, format: &str, mode: &str) -> Running {
    let noise: Vec<u8> =
        (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let lower = vec![
        Entry::directory("data"),
        Entry::file("data/large", noise).mode(0o640).owner(3, 4),
        Entry::file("data/zeros", vec![0; 300_000]),
        Entry::file("data/gone", "gone"),
        Entry::file("data/small", "small\n").mode(0o4755),
        Entry::hardlink("data/other", "data/small").mode(0o4755),
        Entry::symlink("data/link", "small"),
        Entry::directory("hidden"),
        Entry::file("hidden/f", "f"),
    ];
    let upper = vec![
        Entry::directory("data"),
        Entry::whiteout("data/gone"),
        Entry::directory("hidden"),
        Entry::opaque("hidden"),
    ];
    sandbox.save_image("image.tar", "lazy:1", &[lower, upper], |_| ());
    std::fs::write(sandbox.work().join("server.py"), SERVER).unwrap();
    std::fs::write(sandbox.work().join("stargz.py"), STARGZ).unwrap();
    let (format, then) = match format {
        "estargz" => ("gzip", "&& python3 stargz.py"),
        format => (format, ""),
    };
    let copy = format!(
        "skopeo --insecure-policy copy -q --dest-compress-format {format} \
         docker-archive:image.tar oci:layout:1 {then}"
    );
    let _ = sandbox.shell(&copy).ok();
    serve_layout(sandbox, mode, "layout", 8399)
}

fn serve_layout(sandbox: &Sandbox, mode: &str, layout: &str, port: u16) -> Running {
    let line = format!("exec python3 server.py {mode} {layout} {port}");
    let server = sandbox.start_script(&line);
    server.wait_for("ready");
    server
}

/// Makes the layout `forged`: an image with the configuration of that in `layout`, and so with its id
/// and the digests of its layers, whose layers are others.
const FORGE: &str = r#"
import hashlib, json, shutil
def blob(layout, digest): return open(f"{layout}/blobs/sha256/{digest[7:]}", "rb").read()
def index(layout): return json.load(open(f"{layout}/index.json"))
def manifest(layout): return json.loads(blob(layout, index(layout)["manifests"][0]["digest"]))
config = manifest("layout")["config"]
shutil.copy(f"layout/blobs/sha256/{config['digest'][7:]}", "forged/blobs/sha256/")
text = json.dumps(manifest("forged") | {"config": config}).encode()
digest = hashlib.sha256(text).hexdigest()
open(f"forged/blobs/sha256/{digest}", "wb").write(text)
top = index("forged")
top["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(text)}
json.dump(top, open("forged/index.json", "w"))
"#;

const FORGED: &str = "127.0.0.1:8398/lazy:1";

/// Serves an image that claims to be the one that [`serve`] serves.
fn serve_forged(sandbox: &Sandbox) -> Running {
    let small = vec![Entry::directory("data"), Entry::file("data/small", "forged\n")];
    let more = vec![Entry::file("more", "more")];
    sandbox.save_image("forged.tar", "lazy:1", &[small, more], |_| ());
    std::fs::write(sandbox.work().join("forge.py"), FORGE).unwrap();
    let copy = "skopeo --insecure-policy copy -q --dest-compress-format zstd:chunked \
                docker-archive:forged.tar oci:forged:1 && python3 forge.py";
    let _ = sandbox.shell(copy).ok();
    serve_layout(sandbox, "parts", "forged", 8398)
}

/// Waits until the image is here and nothing serves its layers any more.
fn arrive(sandbox: &Sandbox) {
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    wait(sandbox, "$E images -q 127.0.0.1:8399/lazy | grep -q .");
    wait(sandbox, "[ -z \"$(ls $CAIS_ROOT/arriving)\" ]");
}

fn wait(sandbox: &Sandbox, condition: &str) {
    let line = format!(
        "end=$(($(date +%s)+120)); until {condition}; do [ $(date +%s) -lt $end ] || exit 9; done"
    );
    let _ = sandbox.shell(&line).ok();
}

#[test]
fn a_container_runs_while_its_layers_arrive() {
    runs_while_they_arrive("zstd:chunked");
    runs_while_they_arrive("estargz");
}

#[track_caller]
fn runs_while_they_arrive(format: &str) {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox, format, "parts");
    let look = "cd /; find data hidden bin stargz* | sort | while read f; do \
        stat -c '%n %A %u %g %s %h %Y' $f; done; md5sum data/* bin/busybox stargz*; ls -A hidden";
    let run = ["run", "--rm", "--network", "none", "--pull", "lazy", IMAGE, "sh", "-c", look];
    let early = sandbox.cais(run);
    let text = early.ok();
    assert!(text.contains("data/other -rwsr-xr-x"), "{early}");
    assert!(text.contains("data/large -rw-r----- 3 4 2000000"), "{early}");
    assert!(!text.contains("gone") && !text.contains("hidden/f"), "{early}");
    early.says("3 layers are arriving");
    sandbox.cais(["images", "-q"]).out("");
    arrive(&sandbox);
    let mut late = run;
    late[5] = "never";
    assert_eq!(sandbox.cais(late).ok(), text);
    let _ = sandbox.cais(["rmi", IMAGE]).ok();
}

#[test]
fn it_starts_again_before_and_after_they_have_arrived() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox, "zstd:chunked", "parts");
    let script = "echo x >>/data/small; cat /data/small";
    let create = [
        "create",
        "--name",
        "early",
        "--network",
        "none",
        "--pull",
        "lazy",
        IMAGE,
        "sh",
        "-c",
        script,
    ];
    let _ = sandbox.cais(create).ok();
    sandbox.cais(["start", "-a", "early"]).out("small\nx\n");
    sandbox.cais(["start", "-a", "early"]).out("small\nx\nx\n");
    sandbox.cais(["system", "fsck"]).code(0);
    // What reads layers as a whole says that they are not here.
    sandbox.cais(["commit", "early"]).code(1).says("still arriving");
    arrive(&sandbox);
    sandbox.cais(["start", "-a", "early"]).out("small\nx\nx\nx\n");
    sandbox.cais(["diff", "early"]).out("C /data\nC /data/small\n");
    let _ = sandbox.cais(["rm", "early"]).ok();
    let _ = sandbox.cais(["rmi", IMAGE]).ok();
}

#[test]
fn a_container_keeps_what_it_was_started_with() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox, "zstd:chunked", "parts");
    let run = [
        "run",
        "-d",
        "--name",
        "early",
        "--network",
        "none",
        "--pull",
        "lazy",
        IMAGE,
        "sleep",
        "1000",
    ];
    let _ = sandbox.cais(run).ok();
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    wait(&sandbox, "$E images -q 127.0.0.1:8399/lazy | grep -q .");
    wait(&sandbox, "! ls $CAIS_ROOT/arriving/*/arrival.json 2>/dev/null");
    drop(server);
    let _ = sandbox.cais(["rmi", "-f", IMAGE]).ok();
    // Neither the registry nor the image is there any more.
    sandbox.cais(["exec", "early", "sh", "-c", "wc -c </data/large"]).out("2000000\n");
    sandbox.cais(["exec", "early", "md5sum", "/data/zeros"]).code(0);
    sandbox.cais(["exec", "early", "cat", "/data/small"]).out("small\n");
    let _ = sandbox.cais(["rm", "-f", "early"]).ok();
    wait(&sandbox, "[ -z \"$(ls $CAIS_ROOT/arriving)\" ]");
}

#[test]
fn wrong_bytes_are_an_error_and_never_content() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox, "zstd:chunked", "wrong");
    let run = sandbox.cais(["run", "--rm", "--network", "none", "--pull", "lazy", IMAGE, "true"]);
    assert_ne!(run.code, 0, "{run}");
    arrive(&sandbox);
    let _ = sandbox.cais(["run", "--rm", "--network", "none", IMAGE, "true"]).ok();
}

#[test]
fn without_parts_it_starts_when_all_is_here_and_says_so() {
    for (format, mode, why) in [
        ("zstd:chunked", "whole", "cannot be read in parts: "),
        ("gzip", "whole", "none of them can be read in parts"),
    ] {
        let sandbox = Sandbox::new();
        let _server = serve(&sandbox, format, mode);
        let run =
            ["run", "--rm", "--network", "none", "--pull", "lazy", IMAGE, "cat", "/data/small"];
        let outcome = sandbox.cais(run);
        assert_eq!(outcome.ok(), "small");
        outcome.says(why).says("Starting when all layers are here");
    }
}

#[test]
fn a_server_that_is_killed_leaves_errors_and_no_files() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox, "zstd:chunked", "parts");
    let run = [
        "run",
        "-d",
        "--name",
        "early",
        "--network",
        "none",
        "--pull",
        "lazy",
        IMAGE,
        "sleep",
        "1000",
    ];
    let _ = sandbox.cais(run).ok();
    let kill =
        "kill -9 $(grep -o '\"pid\":[0-9]*' $CAIS_ROOT/arriving/*/arrival.json | cut -d: -f2)";
    let _ = sandbox.shell(kill).ok();
    // Its program may have missed a page of its own, too.
    let read = sandbox.cais(["exec", "early", "cat", "/data/large"]);
    assert!(read.code != 0 && read.stdout.is_empty(), "{read}");
    let _ = sandbox.cais(["rm", "-f", "early"]).ok();
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let _ = sandbox.cais(["run", "--rm", "--network", "none", IMAGE, "true"]).ok();
    let _ = sandbox.cais(["system", "prune", "-af"]).ok();
    sandbox.shell("ls $CAIS_ROOT/arriving $CAIS_ROOT/layers").code(0);
    sandbox.shell("ls $CAIS_ROOT/arriving").out("");
}

#[test]
fn what_another_registry_calls_by_the_same_digests_is_not_taken_for_it() {
    let sandbox = Sandbox::new();
    let _good = serve(&sandbox, "zstd:chunked", "parts");
    let _forged = serve_forged(&sandbox);
    let create = ["create", "--name", "good", "--network", "none", "--pull", "lazy", IMAGE];
    let words: Vec<&str> = create.into_iter().chain(["cat", "/data/small"]).collect();
    let _ = sandbox.words(&words).ok();
    let kill =
        "kill -9 $(grep -o '\"pid\":[0-9]*' $CAIS_ROOT/arriving/*/arrival.json | cut -d: -f2)";
    let _ = sandbox.shell(kill).ok();
    let run = |image| {
        let run = ["run", "--rm", "--network", "none", "--pull", "lazy", image];
        let words: Vec<&str> = run.into_iter().chain(["cat", "/data/small"]).collect();
        sandbox.words(&words)
    };
    // Its own manifest vouches for it.
    assert_eq!(run(FORGED).ok(), "forged");
    let stranger = sandbox.cais(["start", "-a", "good"]);
    assert!(stranger.code != 0 && stranger.stdout.is_empty(), "{stranger}");
    let fsck = sandbox.cais(["system", "fsck"]);
    assert!(fsck.stdout.contains("it lacks the layer"), "{fsck}");
    assert_eq!(run(IMAGE).ok(), "small");
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    wait(&sandbox, "$E images -q 127.0.0.1:8399/lazy | grep -q .");
    // What the killed process left goes with a collection, when nobody adds anything.
    wait(&sandbox, "$E image prune -f >/dev/null; [ -z \"$(ls $CAIS_ROOT/arriving)\" ]");
    // Its layers are not what their digests say.
    sandbox.cais(["images", "-q", "127.0.0.1:8398/lazy"]).out("");
    sandbox.cais(["start", "-a", "good"]).out("small\n");
    let _ = sandbox.cais(["rm", "good"]).ok();
}

#[test]
fn the_name_of_a_container_that_was_not_made_to_the_end_is_free() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox, "zstd:chunked", "parts");
    let half = "id=$(printf 'a%.0s' $(seq 64)); mkdir -p $CAIS_ROOT/containers/$id $CAIS_ROOT/names; \
                ln -s $id $CAIS_ROOT/names/early";
    let _ = sandbox.shell(half).ok();
    let create = ["create", "--name", "early", "--network", "none", "--pull", "lazy", IMAGE];
    let _ = sandbox.cais(create).ok();
    let _ = sandbox.cais(["rm", "early"]).ok();
    arrive(&sandbox);
}
