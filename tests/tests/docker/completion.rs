//! What a shell offers behind the words of a command, and what is said about wrong ones.

use testkit::Sandbox;

/// The words that bash offers for the last of `words`.
fn offered(sandbox: &Sandbox, words: &str) -> Vec<String> {
    let script = format!(
        "ln -sf $E cais; PATH=$PWD:$PATH; export PATH; cais completion bash >script; \
         bash -c '. ./script; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         COMP_LINE=\"${{COMP_WORDS[*]}}\"; _cais_names cais \"${{COMP_WORDS[COMP_CWORD]}}\" \
         \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf \"%s\\n\" \"${{COMPREPLY[@]}}\"'"
    );
    let outcome = sandbox.shell(&script);
    outcome.ok().lines().filter(|l| !l.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn names_of_what_is_there_are_offered() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    for name in ["first", "second"] {
        let _ = sandbox.cais(["create", "--name", name, "--network", "none", "busybox"]).ok();
    }
    let _ = sandbox.cais(["volume", "create", "data"]).ok();
    let _ = sandbox.cais(["network", "create", "own"]).ok();
    assert_eq!(offered(&sandbox, "cais stop f"), ["first"]);
    assert_eq!(offered(&sandbox, "cais start first \"\""), ["second"]);
    assert_eq!(offered(&sandbox, "cais container inspect s"), ["second"]);
    assert_eq!(offered(&sandbox, "cais rmi b"), ["busybox:latest"]);
    assert_eq!(offered(&sandbox, "cais volume rm d"), ["data"]);
    assert!(offered(&sandbox, "cais run --network o").contains(&"own".to_owned()));
    // A command in a container is no container.
    sandbox.cais(["__complete", "exec", "first"]).code(0).out("");
    sandbox.cais(["__complete", "logs"]).code(0).out("first\nsecond\n");
    for shell in ["zsh", "fish"] {
        let script = sandbox.cais(["completion", shell]);
        assert!(script.ok().contains("cais __complete"), "{shell}");
    }
    let _ = sandbox.shell("$E rm first second; $E volume rm data; $E network rm own").ok();
}

#[test]
fn a_usage_line_does_not_demand_what_was_given() {
    let sandbox = Sandbox::new();
    let wrong = sandbox.cais(["rmi", "--force"]);
    wrong.code(2).says("Usage: cais rmi [OPTIONS] <IMAGES>...");
    let inner = sandbox.cais(["volume", "rm", "--force"]);
    inner.code(2).says("Usage: cais volume rm [OPTIONS]");
}

#[test]
fn a_container_that_is_named_twice_is_killed_once() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    for options in ["", "--rm"] {
        let run = format!("$E run -d {options} --name twice --network none busybox sleep 1000");
        let _ = sandbox.shell(&run).ok();
        sandbox.cais(["kill", "twice", "twice"]).code(0).out("twice\ntwice\n");
        let _ = sandbox.cais(["rm", "-f", "twice"]).ok();
    }
}
