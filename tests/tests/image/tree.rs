//! `cais image tree`.

use testkit::{Entry, Sandbox};

#[test]
fn layers_say_what_made_them_and_what_they_hide() {
    let sandbox = Sandbox::new();
    let below = vec![
        Entry::file("big", vec![b'x'; 70_000]),
        Entry::file("small", "1234"),
        Entry::file("seen", "1"),
    ];
    let above = vec![Entry::whiteout("big"), Entry::file("small", "12")];
    sandbox.save_image("one.tar", "one:latest", std::slice::from_ref(&below), |_| {});
    sandbox.save_image("two.tar", "two:latest", &[below, above], |_| {});
    for file in ["one.tar", "two.tar"] {
        let _ = sandbox.cais(["load", "-qi", file]).ok();
    }
    let tree = sandbox.line("cais image tree two");
    for part in [
        "LAYER     SIZE      HIDDEN",
        "70kB of layer 2, deleted by layer 3: /big\n4B of layer 2, replaced by layer 3: /small\n",
        " in 3 layers, 70kB of it hidden in 2 files\n",
    ] {
        assert!(tree.ok().to_owned().contains(part.trim_end()), "{part:?} is not in {tree}");
    }
    let json = sandbox.line("cais image tree --format json two");
    let lines: Vec<serde_json::Value> =
        json.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[1]["Layer"], &lines[1]["Wasted"]), (&2.into(), &70_004.into()));
    assert_eq!(lines[1]["Hidden"][0]["Path"], "/big");
    sandbox.cais(["image", "tree", "--format", "{{.Layer}}", "two"]).code(0).out("3\n2\n1\n");
    sandbox.line("cais image tree nothing").code(1).says("No such image");

    let all = sandbox.line("cais image tree");
    let lines: Vec<&str> = all.ok().lines().collect();
    assert_eq!(lines.len(), 2, "{all}");
    assert!(lines[0].ends_with(" in 2 layers  one:latest"), "{all}");
    assert!(
        lines[1].starts_with("└─ ") && lines[1].ends_with("2B in 1 layer  two:latest"),
        "{all}"
    );
    let json = sandbox.line("cais image tree --format json");
    let forest: serde_json::Value = serde_json::from_str(json.ok()).unwrap();
    assert_eq!(forest[0]["Above"][0]["Above"][0]["Images"][0], "two:latest");
    sandbox.line("cais image tree --format x").code(1).says("invalid format");
}
