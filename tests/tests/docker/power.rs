//! A machine that loses its power: what is on its disk at that moment, and nothing else.

use testkit::{Entry, Sandbox};

/// An image of many small files and a large one, in a store on a disk of its own; the disk is
/// copied when the last command has ended, as it is.
const LOSE: &str = "set -e; mkdir -p tree/bin tree/many before after; \
     cp $(command -v busybox) tree/bin/busybox; ln -s busybox tree/bin/sh; \
     ln -s busybox tree/bin/md5sum; ln -s busybox tree/bin/cat; \
     head -c 3000000 /dev/urandom >tree/big; seq 300 | while read n; do echo $n >tree/many/$n; done; \
     tar -C tree -c . >tree.tar; (cd tree; cat big many/* | md5sum) >sum; \
     truncate -s 128M disk; mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 disk; \
     mount -o loop disk before; export CAIS_ROOT=$PWD/before/root; \
     $E --storage-driver $DRIVER import tree.tar one:1 >/dev/null; $E tag one:1 two:1; \
     $E save -o saved.tar one:1; \
     $E create --name stays --network none one:1 true >/dev/null; $E commit stays three:1 >/dev/null; \
     cp disk lost; umount before; mount -o loop lost after; CAIS_ROOT=$PWD/after/root; \
     for image in one:1 two:1 three:1; do \
       $E run --rm --network none $image sh -c 'cd /; cat big many/* | md5sum' | cmp - sum; \
     done; $E rmi -f two:1 three:1 >/dev/null; $E images -q | wc -l; umount after";

#[track_caller]
fn lose(driver: &str) {
    let sandbox = Sandbox::new();
    sandbox.shell(&LOSE.replace("$DRIVER", driver)).code(0).out("1\n");
}

/// As [`LOSE`], with an image that was pulled.
const PULL: &str = "set -e; mkdir before after; truncate -s 128M disk; \
     mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 disk; mount -o loop disk before; \
     CAIS_ROOT=$PWD/before/root $E --storage-driver $DRIVER pull -q 127.0.0.1:5001/many:1 >/dev/null; \
     cp disk lost; umount before; mount -o loop lost after; CAIS_ROOT=$PWD/after/root; \
     $E run --rm --network none 127.0.0.1:5001/many:1 sh -c 'cd /data; md5sum *' | cmp - sums; \
     umount after";

/// A pull of which the last layer cannot be had; then the power is lost, of what was not synced
/// nothing is on the disk, and the machine starts anew; then the whole image can be had.
const BREAK: &str = "set -e; layer=$(skopeo inspect --tls-verify=false --raw \
     docker://127.0.0.1:5001/many:1 | python3 -c \
     'import json, sys; print(json.load(sys.stdin)[\"layers\"][-1][\"digest\"][7:])'); \
     mv hub/blobs/sha256/$layer aside; \
     ! $E --storage-driver $DRIVER pull 127.0.0.1:5001/many:1 >/dev/null 2>&1; cd $CAIS_ROOT; \
     test $(ls layers | wc -l) = 2; test $(ls unsynced | grep -c layer) = 2; \
     for note in $(ls unsynced); do of=${note#*.}; \
       find layers/${of#layer.} blobs/sha256/${of#blob.} -type f -exec truncate -s 0 {} + 2>/dev/null || :; \
       mv unsynced/$note unsynced/00000000-0000-0000-0000-000000000000.$of; done; \
     cd - >/dev/null; mv aside hub/blobs/sha256/$layer; \
     $E pull -q 127.0.0.1:5001/many:1 >/dev/null; test -z \"$(ls $CAIS_ROOT/unsynced)\"; \
     $E run --rm --network none 127.0.0.1:5001/many:1 sh -c 'cd /data; md5sum *' | cmp - sums";

/// Does what `script` says beside a registry that has an image.
#[track_caller]
fn with_registry(driver: &str, script: &str) {
    let sandbox = Sandbox::new();
    sandbox.configure("[registry]\nmax_concurrent_downloads = 1");
    let noise = |seed: u32| {
        (0..400_000_u32)
            .map(move |n| (n.wrapping_mul(seed).wrapping_mul(2_654_435_761) >> 13) as u8)
    };
    let layer = |name: &str, seed| Entry::file(name, noise(seed).collect::<Vec<u8>>());
    let lower = vec![Entry::directory("data"), layer("data/low", 1)];
    sandbox.save_image("image.tar", "many:1", &[lower, vec![layer("data/high", 3)]], |_| ());
    let registry = "CAIS_ROOT=$PWD/hub exec $E registry serve --addr 127.0.0.1:5001 2>&1";
    let server = sandbox.start_script(registry);
    server.wait_for("127.0.0.1:5001");
    let push = "set -e; export CAIS_ROOT=$PWD/origin; $E load -qi image.tar; \
                $E tag many:1 127.0.0.1:5001/many:1; $E push -q 127.0.0.1:5001/many:1; \
                $E run --rm --network none many:1 sh -c 'cd /data; md5sum *' >sums";
    let _ = sandbox.shell(push).ok();
    let _ = sandbox.shell(&script.replace("$DRIVER", driver)).ok();
}

#[test]
fn an_image_that_was_pulled_is_on_disk() {
    for driver in ["erofs", "dir"] {
        with_registry(driver, PULL);
    }
}

#[test]
fn what_a_broken_pull_lost_with_the_power_is_got_again() {
    for driver in ["erofs", "dir"] {
        with_registry(driver, BREAK);
    }
}

#[test]
fn what_was_acknowledged_is_on_disk_as_images() {
    lose("erofs");
}

#[test]
fn what_was_acknowledged_is_on_disk_as_trees() {
    lose("dir");
}
