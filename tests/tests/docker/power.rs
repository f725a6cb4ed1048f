//! A machine that loses its power: what is on its disk at that moment, and nothing else.

use testkit::Sandbox;

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

#[test]
fn what_was_acknowledged_is_on_disk_as_images() {
    lose("erofs");
}

#[test]
fn what_was_acknowledged_is_on_disk_as_trees() {
    lose("dir");
}
