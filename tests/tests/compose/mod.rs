//! `cais compose`: projects as people write them, through the binary, with real containers.

mod config;
mod life;
mod log;
mod parts;
mod update;

use testkit::Sandbox;

/// Writes the project's file.
fn write(sandbox: &Sandbox, text: &str) {
    std::fs::write(sandbox.work().join("compose.yaml"), text)
        .expect("the work directory takes files");
}

/// Takes the project down, with all that it has, and demands that nothing of it is left.
fn down(sandbox: &Sandbox) {
    let _ = sandbox.line("cais compose down -v -t 0 --remove-orphans").ok();
    sandbox.line("cais ps -aq").out("");
    sandbox.line("cais volume ls -q").out("");
    let networks = sandbox.shell("$E network ls --format '{{.Name}}'");
    assert_eq!(networks.ok(), "bridge\nhost\nnone", "{networks}");
}
