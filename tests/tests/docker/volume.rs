//! What is mounted into containers: volumes, directories of the host, images.

use testkit::Sandbox;

/// Runs a script in a container that has these mounts, and without a network.
fn inside(sandbox: &Sandbox, flags: &str, script: &str) -> testkit::Outcome {
    sandbox.shell(&format!("$E run --rm --network none {flags} busybox sh -c '{script}'"))
}

#[test]
fn a_volume_can_be_what_mount_makes() {
    let sandbox = Sandbox::new();
    let script = "set -e; mkdir data; echo text >data/file; \
                  $E volume create -o type=none -o o=bind -o device=$PWD/data bound; \
                  $E volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=7 mem; \
                  $E volume inspect -f '{{.Options.o}} {{.Options.type}}' bound mem";
    sandbox.shell(script).code(0).out("bound\nmem\nbind none\nsize=1m,uid=7 tmpfs\n");
    inside(&sandbox, "-v bound:/b", "cat /b/file; echo more >/b/new").out("text\n");
    sandbox.shell("cat data/new").out("more\n");
    inside(&sandbox, "-v mem:/m", "stat -c %u /m; df -k /m | tail -1 | awk \"{print \\$2}\"")
        .out("7\n1024\n");
    sandbox.shell("grep -c $PWD/data /proc/self/mountinfo").out("0\n");
    for (options, part) in [
        ("-o what=1", "invalid option: \"what\""),
        ("-o type=nfs", "missing required option: \"device\""),
        ("-o o=bind", "missing required option: \"type\""),
        ("-d magic", "plugin \"magic\" not found"),
    ] {
        sandbox.shell(&format!("$E volume create {options} bad")).code(1).says(part);
    }
    sandbox.shell("$E volume create -o type=none -o o=bind -o device=/no/such gone").out("gone\n");
    inside(&sandbox, "-v gone:/x", "true").code(125).says("/no/such");
    let made =
        "--mount src=made,dst=/m,volume-label=a=b,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
    inside(&sandbox, made, "grep -c \" /m tmpfs\" /proc/mounts").out("1\n");
    sandbox.shell("$E volume inspect -f '{{.Labels.a}}' made").out("b\n");
}

#[test]
fn a_part_of_a_volume_is_mounted_and_links_stay_inside() {
    let sandbox = Sandbox::new();
    let fill = "mkdir -p /v/a/b; echo deep >/v/a/b/file; ln -s /a/b /v/link; ln -s ../../../../../etc /v/out";
    let _ = inside(&sandbox, "-v data:/v", fill).ok();
    let part = |subpath: &str| format!("--mount src=data,dst=/v,volume-subpath={subpath}");
    inside(&sandbox, &part("a/b"), "cat /v/file").out("deep\n");
    inside(&sandbox, &part("link"), "cat /v/file").out("deep\n");
    inside(&sandbox, &part("a/b/file"), "cat /v").out("deep\n");
    inside(&sandbox, &part("none"), "true").code(125).says("cannot access path `none`");
    inside(&sandbox, &part("out"), "true").code(125).says("cannot access path `out`");
    inside(&sandbox, &part("../x"), "true").code(125).says("subpath must be a relative path");
}

#[test]
fn an_image_is_mounted_and_kept() {
    let sandbox = Sandbox::new();
    let _ = sandbox.shell("mkdir -p tree/sub; echo of-image >tree/sub/file; tar -C tree -c . | $E import - files:1").ok();
    inside(
        &sandbox,
        "--mount type=image,src=files:1,dst=/i",
        "cat /i/sub/file; touch /i/x 2>/dev/null || echo ro",
    )
    .out("of-image\nro\n");
    inside(&sandbox, "--mount type=image,src=files:1,dst=/i,image-subpath=sub", "cat /i/file")
        .out("of-image\n");
    inside(&sandbox, "--mount type=image,src=none:1,dst=/i", "true").code(125).says("none:1");
    let hold = "$E create --name holds --network none --mount type=image,src=files:1,dst=/i busybox true >/dev/null; \
                $E rmi files:1; $E rmi -f files:1 >/dev/null; $E image prune -af >/dev/null; $E start -a holds; echo $?; $E rm holds";
    let _ = sandbox.shell(hold).out("0\nholds\n").says("conflict");
}

#[test]
fn mounts_are_borrowed() {
    let sandbox = Sandbox::new();
    let script = "set -e; mkdir host; echo h >host/file; \
        $E create --name lender --network none -v $PWD/host:/host -v /anon -v named:/named --tmpfs /mem busybox true >/dev/null; \
        $E run --rm --network none --volumes-from lender busybox sh -c 'cat /host/file; echo a >/anon/x; ls -d /mem 2>/dev/null || echo no memory'; \
        $E run --rm --network none --volumes-from lender:ro -v other:/named busybox sh -c 'cat /anon/x; touch /anon/y 2>/dev/null || echo ro; touch /named/y'; \
        $E create --name borrower --network none --volumes-from lender busybox cat /anon/x >/dev/null; \
        $E rm -v lender; $E start -a borrower; $E rm -v borrower; $E volume ls -q";
    sandbox.shell(script).code(0).out("h\nno memory\na\nro\nlender\na\nborrower\nnamed\nother\n");
    sandbox
        .shell("$E run --rm --volumes-from nobody busybox true")
        .code(125)
        .says("No such container");
    sandbox
        .shell("$E run --rm --volumes-from nobody:xx busybox true")
        .code(125)
        .says("invalid mode: xx");
}

#[test]
fn files_belong_to_whom_the_host_says() {
    let sandbox = Sandbox::new();
    let prepare = "mkdir app; echo x >app/old; chown -R 1234:4321 app";
    let _ = sandbox.shell(prepare).ok();
    let look = "stat -c \"%u %g\" /app/old; touch /app/new";
    let run = |flags: &str, script: &str| {
        sandbox.shell(&format!("$E run --rm --network none {flags} busybox sh -c '{script}'; stat -c '%u %g' app/new; rm -f app/new"))
    };
    run("-u nobody -v ./app:/app:user=nobody", look).out("65534 65534\n1234 4321\n");
    run("-v ./app:/app:user=root", look).out("0 0\n1234 4321\n");
    run("-u 5:6 --mount type=bind,src=./app,dst=/app,user=5:6", look).out("5 6\n1234 4321\n");
    run("-u 5:6 --userns 100000:65536 --mount type=bind,src=./app,dst=/app,user=5:6", look)
        .out("5 6\n1234 4321\n");
    // Nobody else can make files there, root neither.
    let refused = "touch /app/new 2>/dev/null || echo refused";
    run("-v ./app:/app:user=nobody", refused).out("refused\n").says("app/new");
    run("-v ./app:/app:user=whoever", "true").says("whoever");
    inside(&sandbox, "--mount type=tmpfs,dst=/t,user=1", "true")
        .code(125)
        .says("user is for bind mounts");
}

#[test]
fn what_lies_below_is_read_only_too() {
    let sandbox = Sandbox::new();
    let script = "mkdir -p top/below; mount -t tmpfs tmpfs top/below; \
        look() { $E run --rm --network none --mount type=bind,src=$PWD/top,dst=/t,ro$1 busybox sh -c 'touch /t/below/x 2>/dev/null && echo rw || echo ro'; }; \
        look; look ,bind-recursive=writable; look ,bind-recursive=disabled; \
        look ,bind-recursive=readonly,bind-propagation=rprivate; look ,bind-recursive=readonly; umount top/below";
    let _ =
        sandbox.shell(script).out("ro\nrw\nro\nro\n").says("requires 'bind-propagation=rprivate'");
}

#[test]
fn the_first_use_of_a_volume_copies_what_the_image_has() {
    let sandbox = Sandbox::new();
    let make = "mkdir -p tree/bin tree/data/sub; cp $(command -v busybox) tree/bin/busybox; for n in sh cat stat ls touch rm; do ln -s busybox tree/bin/$n; done; \
        echo image >tree/data/file; chown -R 33:44 tree/data; chmod 2750 tree/data; \
        tar -C tree -c . | $E import -c 'VOLUME /data' - seeded:1 >/dev/null";
    let _ = sandbox.shell(make).ok();
    let run = |flags: &str, script: &str| {
        sandbox.shell(&format!("$E run --rm --network none {flags} seeded:1 sh -c '{script}'"))
    };
    run("-v vol:/data", "stat -c \"%a %u %g\" /data; cat /data/file; echo changed >/data/file")
        .out("2750 33 44\nimage\n");
    run("-v vol:/data", "cat /data/file").out("changed\n");
    run("", "cat /data/file").out("image\n");
    // A volume that has something of its own stays as it is, and an empty one that forbids it too.
    run("-v own:/elsewhere", "touch /elsewhere/mine").code(0);
    run("-v own:/data", "ls /data; stat -c \"%u\" /data").out("mine\n0\n");
    run("-v bare:/data:nocopy", "ls /data; stat -c \"%u %a\" /data").out("0 755\n");
    sandbox.shell("$E volume ls -q").out("bare\nown\nvol\n");
}

/// A volume with everything that files can have.
fn odd(sandbox: &Sandbox, name: &str) {
    let script = "cd /v; echo one >one; ln one two; ln -s one link; mkdir -p dir/deep; \
        chown 5:6 dir; chmod 2710 dir; chmod 4755 one; mkfifo pipe; mknod dev c 1 3; \
        dd if=/dev/zero of=hole bs=1 count=1 seek=5000000 2>/dev/null; chmod 1777 /v; touch -d 2001-02-03 dir";
    let _ = inside(sandbox, &format!("--cap-add MKNOD -v {name}:/v"), script).ok();
}

/// What can be seen of a volume from within.
const LOOK: &str = "cd /v; find . | sort | while read f; do stat -c \"%n %a %u %g %F %s %h %Y\" \"$f\"; done; \
    md5sum one two hole; readlink link; stat -c %t:%T dev; [ $(stat -c %b hole) -lt 100 ] && echo sparse";

#[test]
fn a_volume_is_copied_kept_put_back_and_moved() {
    let sandbox = Sandbox::new();
    odd(&sandbox, "data");
    let look = |name: &str| {
        let outcome = inside(&sandbox, &format!("-v {name}:/v"), LOOK);
        outcome.ok().to_owned()
    };
    let before = look("data");
    assert!(before.contains("sparse") && before.contains("4755"), "{before}");
    sandbox.shell("$E volume cp data copy; $E volume snapshot data first").out("copy\nfirst\n");
    assert_eq!(look("copy"), before);
    sandbox.shell("$E volume export data | gzip | $E volume import - back").out("back\n");
    assert_eq!(look("back"), before);
    let change = "cd /v; echo changed >one; rm -r dir; touch new";
    let _ = inside(&sandbox, "-v data:/v", change).ok();
    sandbox
        .shell("$E volume diff data@first; $E volume diff copy data@first")
        .out("D /dir\nC /new\nC /one\nC /two\n".replace("C /new", "A /new").as_str());
    sandbox
        .shell("$E volume snapshot data second; $E volume snapshot -l data")
        .out("second\nfirst\nsecond\n");
    sandbox.shell("$E volume restore data first").out("data\n");
    assert_eq!(look("data"), before);
    sandbox.shell("$E volume export data@second | tar -t | grep -c '^new$'").out("1\n");
    sandbox.shell("$E volume mv data moved; $E volume snapshot --rm moved second; $E volume snapshot -l moved; $E volume ls -q")
        .out("second\nfirst\nback\ncopy\nmoved\n");
    assert_eq!(look("moved"), before);
    for (command, part) in [
        ("cp moved copy", "there is a volume copy already"),
        ("cp none other", "No such volume: none"),
        ("mv moved copy", "there is a volume copy already"),
        ("snapshot moved first", "has a snapshot first already"),
        ("restore moved none", "has no snapshot none"),
        ("diff moved@none", "has no snapshot none"),
        ("import /dev/null copy", "there is a volume copy already"),
        ("snapshot moved ../x", "invalid characters"),
    ] {
        sandbox.shell(&format!("$E volume {command}")).code(1).says(part);
    }
    sandbox
        .shell("echo no archive | $E volume import - bad; $E volume ls -q")
        .says("archive")
        .out("back\ncopy\nmoved\n");
    sandbox.shell("ls -A $CAIS_ROOT/volumes").out("back\ncopy\nmoved\n");
}

#[test]
fn a_copy_is_of_one_moment() {
    let sandbox = Sandbox::new();
    let _ = sandbox
        .shell(
            "$E run -d --name writer --network none -v data:/v busybox sh -c \
        'i=0; while :; do i=$((i+1)); echo $i >/v/.a; mv /v/.a /v/a; echo $i >/v/.b; mv /v/.b /v/b; done' >/dev/null; \
        until [ -s $CAIS_ROOT/volumes/data/_data/b ]; do :; done",
        )
        .ok();
    let pairs = "for n in 1 2 3 4 5 6 7 8; do $E volume cp data c$n >/dev/null; \
        echo $(($(cat $CAIS_ROOT/volumes/c$n/_data/a) - $(cat $CAIS_ROOT/volumes/c$n/_data/b))); done | sort -u";
    let outcome = sandbox.shell(pairs);
    let apart: Vec<&str> = outcome.ok().lines().collect();
    assert!(apart.iter().all(|apart| matches!(*apart, "0" | "1")), "{apart:?}");
    sandbox
        .shell(
            "$E volume restore data none; $E volume snapshot data now; $E volume restore data now",
        )
        .code(1)
        .says("volume is in use by writer");
    sandbox
        .shell("$E inspect -f '{{.State.Status}}' writer; $E volume mv data other")
        .out("running\n")
        .says("in use");
    let _ = sandbox.shell("$E rm -f writer").ok();
}

#[test]
fn sizes_hold_where_the_file_system_can_and_are_refused_elsewhere() {
    let sandbox = Sandbox::new();
    let refused = "mkdir plain; mount -t tmpfs tmpfs plain; export CAIS_ROOT=$PWD/plain; \
        $E volume create -o size=1m small; $E volume ls -q; \
        tar -cf - -T /dev/null | $E import - none:1 >/dev/null; \
        $E create --storage-opt size=1m --network none none:1 true; $E ps -aq; umount plain";
    let _ = sandbox.shell(refused).out("").says("has no project quotas").says("prjquota");
    sandbox
        .shell("$E create --storage-opt what=1 busybox true")
        .code(125)
        .says("Unknown option what");
    if !std::path::Path::new("/sbin/mkfs.ext4").exists()
        && !std::path::Path::new("/usr/sbin/mkfs.ext4").exists()
    {
        return;
    }
    let make = "set -e; truncate -s 200M disk; mkfs.ext4 -q -O project,quota disk; mkdir mnt; \
        mount -o loop,prjquota disk mnt && echo mounted || echo none";
    if sandbox.shell(make).stdout != "mounted\n" {
        return;
    }
    let script = "export CAIS_ROOT=$PWD/mnt; $E volume create -o size=2m small >/dev/null; \
        fill() { sh -c 'head -c 5000000 /dev/zero >$0/big 2>/dev/null; s=$(stat -c %s $0/big); [ $s -gt 1500000 ] && [ $s -lt 2200000 ] && echo full' $1; }; \
        $E run --rm --network none -v small:/v busybox sh -c 'head -c 5000000 /dev/zero >/v/big 2>/dev/null; s=$(stat -c %s /v/big); [ $s -gt 1500000 ] && [ $s -lt 2200000 ] && echo full'; \
        $E run --network none --name layer --storage-opt size=2m busybox sh -c 'head -c 5000000 /dev/zero >/big 2>/dev/null; s=$(stat -c %s /big); [ $s -gt 1500000 ] && [ $s -lt 2200000 ] && echo full; mkdir /a && mv /etc/passwd /a/ && echo moved'; \
        $E volume cp small again; $E run --rm --network none -v again:/v busybox sh -c 'echo x >/v/more 2>/dev/null || echo full'; \
        $E run --rm --network none busybox sh -c 'head -c 5000000 /dev/zero >/big && echo free'; \
        $E rm layer; $E volume rm small again; umount mnt";
    let outcome = sandbox.shell(script);
    let text = outcome.stdout.replace("moved\n", "");
    assert_eq!(text, "full\nfull\nagain\nfull\nfree\nlayer\nsmall\nagain\n", "{}", outcome.stderr);
}
