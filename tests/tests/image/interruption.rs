//! kill -9 at every step that changes the disk: what is referenced is whole, and the next
//! collection leaves nothing that is not.
//!
//! strace(1) kills the command as it makes its n-th call that creates, moves or removes something,
//! for every n.

use testkit::{Entry, Sandbox};

/// Calls that change what a directory holds; the many of them that unpack files, and are all below
/// one hidden name, are left out.
const STEPS: &str = "rename,renameat,renameat2,mkdir,unlink,rmdir";
/// More than any command here makes.
const STEPS_MAX: usize = 200;

fn make(sandbox: &Sandbox) {
    let below = vec![Entry::file("kept", "kept")];
    let above = vec![Entry::file("new", "new")];
    sandbox.save_image("kept.tar", "kept:latest", std::slice::from_ref(&below), |_| {});
    sandbox.save_image("new.tar", "new:latest", &[below, above], |_| {});
    let _ = sandbox
        .shell("$E load -qi kept.tar && $E create --network none --name user kept true")
        .ok();
}

/// Runs `command` and kills it at step `n`: whether it came so far.
fn killed(sandbox: &Sandbox, command: &str, n: usize) -> bool {
    let script = format!(
        "strace -qq -f -o /dev/null -e trace={STEPS} -e signal=none -e inject={STEPS}:signal=KILL:when={n} $E {command} >/dev/null 2>&1; echo $?"
    );
    match sandbox.shell(&script).ok() {
        "0" => false,
        "137" => true,
        other => panic!("{command} ended with {other} at step {n}"),
    }
}

/// Nothing that is referenced is lost; after a collection nothing is left that is not.
#[track_caller]
fn check(sandbox: &Sandbox, command: &str, n: usize) {
    let place = format!("{command}, killed at step {n}");
    let well = sandbox.line("cais system fsck --deep");
    assert_eq!(well.stdout, "Everything is as it should be\n", "{place}: {well}");
    let kept = sandbox.line("cais diff user");
    assert_eq!(kept.code(0).stdout, "", "{place}");
    let _ = sandbox.line("cais image prune -f").ok();
    let held =
        sandbox.cais(["system", "df", "--why", "--format", "{{.Type}} {{.Name}} {{.HeldBy}}"]);
    // The base of a chain may outlive its containers, as long as its layers are there.
    let lost: Vec<&str> = held
        .ok()
        .lines()
        .filter(|line| line.ends_with(" nobody") && !line.starts_with("mount points "))
        .collect();
    assert!(lost.is_empty(), "{place}: {lost:?} are left");
}

/// Kills `command` at each of its steps, each time after `before`.
fn at_every_step(before: &str, command: &str) {
    let sandbox = Sandbox::new();
    make(&sandbox);
    for n in 1..STEPS_MAX {
        let _ = sandbox.shell(before).ok();
        let was_killed = killed(&sandbox, command, n);
        check(&sandbox, command, n);
        if !was_killed {
            assert!(n > 3, "{command} has fewer steps than it can have");
            let _ = sandbox.shell("$E rm user && $E rmi kept").ok();
            return;
        }
    }
    panic!("{command} has more than {STEPS_MAX} steps");
}

#[test]
fn load_is_killed() {
    at_every_step("$E rmi -f new >/dev/null 2>&1; true", "load -qi new.tar");
}

#[test]
fn rmi_is_killed() {
    at_every_step("$E load -qi new.tar", "rmi new");
}

#[test]
fn prune_is_killed() {
    // The image loses its name, and nobody made a container from it.
    at_every_step("$E load -qi new.tar && $E tag kept new", "image prune -f");
}
