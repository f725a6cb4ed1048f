//! Tables of situations and steps.

use super::*;

/// A pod in a line: a container each, as `kind restart state`. Kinds are i, s, r, e; restarts a, f, n;
/// states `-` (never ran), `+` (runs, started), `~` (runs, not started), `!` (runs, must end), `.`
/// (is ending), a code with which it has ended, and `code@time`, not to be started before.
fn pod(line: &str, sandbox: Sandbox) -> (Observed, Desired) {
    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
    for words in line.split(", ") {
        let words: Vec<&str> = words.split(' ').collect();
        let kind = match words[0] {
            "i" => Kind::Init,
            "s" => Kind::Sidecar,
            "r" => Kind::Regular,
            _ => Kind::Ephemeral,
        };
        let restart = match words[1] {
            "a" => Restart::Always,
            "f" => Restart::OnFailure,
            _ => Restart::Never,
        };
        let run = |end| Some(Run { end, sandbox: "s".into() });
        let one = match words[2] {
            "-" => Seen::default(),
            "+" => Seen { run: run(None), is_started: true, ..Seen::default() },
            "~" => Seen { run: run(None), ..Seen::default() },
            "!" => Seen { run: run(None), must_end: true, ..Seen::default() },
            "." => Seen { run: run(None), is_ending: true, ..Seen::default() },
            end => {
                let (code, time) = end.split_once('@').unwrap_or((end, "0"));
                let (code, not_before) = (code.parse().unwrap(), time.parse().unwrap());
                Seen { run: run(Some(code)), not_before, ..Seen::default() }
            }
        };
        seen.push(one);
        wanted.push(Wanted { kind, restart });
    }
    let desired = Desired { ends: None, is_deleted: false, parts: wanted };
    (Observed { sandbox, parts: seen }, desired)
}

fn here() -> Sandbox {
    Sandbox::Running("s".into())
}

fn check(line: &str, phase: Phase, steps: &[Action]) {
    let (observed, desired) = pod(line, here());
    assert_eq!(super::phase(&observed, &desired), phase, "{line}");
    assert_eq!(plan(&observed, &desired, 100), steps, "{line}");
}

#[test]
fn containers_begin_in_their_order() {
    use Action::{End, LookAt, Start};
    use Phase::{Pending, Running};
    check("i f -, i f -, r a -", Pending, &[Start(0)]);
    check("i f +, i f -, r a -", Pending, &[]);
    check("i f 0, i f -, r a -", Pending, &[Start(1)]);
    check("i f 1, r a -", Pending, &[Start(0)]);
    check("i f 1@150, r a -", Pending, &[LookAt(150)]);
    check("i f 0, s a -, r a -", Pending, &[Start(1)]);
    check("i f 0, s a ~, r a -", Pending, &[]);
    check("i f 0, s a +, r a -, r a -", Pending, &[Start(2), Start(3)]);
    check("s a 1@200, i f -, r a -", Pending, &[LookAt(200)]);
    check("r a +, r a -", Pending, &[Start(1)]);
    check("r a +, r a 0", Running, &[Start(1)]);
    check("r a +, r a 3@101", Running, &[LookAt(101)]);
    check("r a !, e n -", Running, &[End(0), Start(1)]);
    check("r a ., e n 7", Running, &[]);
}

#[test]
fn what_has_ended_for_good_lets_go_of_its_namespaces() {
    use Action::{End, EndSandbox};
    use Phase::{Failed, Running, Succeeded};
    check("r n 0, r f 0", Succeeded, &[EndSandbox]);
    check("r n 0, r n 1", Failed, &[EndSandbox]);
    check("r n 0, r f 1", Running, &[Action::Start(1)]);
    check("i n 1, r n -", Failed, &[EndSandbox]);
    check("s a +, s a +, r n 0", Succeeded, &[End(1)]);
    check("s a +, s a 137, r n 0", Succeeded, &[End(0)]);
    check("s a ., s a 137, r n 0", Succeeded, &[]);
    let (observed, desired) = pod("r n 0", Sandbox::None);
    assert_eq!(plan(&observed, &desired, 0), []);
}

#[test]
fn who_is_deleted_ends_with_its_sidecars_last() {
    use Action::{End, Forget, Kill, LookAt};
    let check = |line: &str, now: i64, steps: &[Action]| {
        let (observed, mut desired) = pod(line, here());
        (desired.ends, desired.is_deleted) = (Some(200), true);
        assert_eq!(plan(&observed, &desired, now), steps, "{line} at {now}");
    };
    check("s a +, s a +, r a +, r a +", 100, &[End(2), End(3), LookAt(200)]);
    check("s a +, s a +, r a ., r a +", 100, &[End(3), LookAt(200)]);
    check("s a +, s a +, r a 0, r a 0", 100, &[End(1), LookAt(200)]);
    check("s a +, s a 0, r a 0, r a 0", 100, &[End(0), LookAt(200)]);
    check("s a ., s a 0, r a 0", 200, &[Kill(0)]);
    check("s a +, r a .", 200, &[Kill(0), Kill(1)]);
    check("s a 0, r a 0", 100, &[Forget]);
    check("r a -", 100, &[Forget]);
}

#[test]
fn who_loses_its_namespaces_begins_anew() {
    let (observed, desired) = pod("i f 0, r a +, r a 1", Sandbox::Ended);
    assert_eq!(plan(&observed, &desired, 0), [Action::Kill(1)]);
    let (observed, desired) = pod("i f 0, r a 137, r a 1", Sandbox::Ended);
    assert_eq!(plan(&observed, &desired, 0), [Action::StartSandbox]);
    // What has initialized other namespaces does it again.
    let (observed, desired) = pod("i f 0, r a 137", Sandbox::Running("new".into()));
    assert_eq!(plan(&observed, &desired, 0), [Action::Start(0)]);
}
