//! Tries every attack on several runtimes and prints what becomes of it, as a table in Markdown.
//!
//! `attack-table NAME=PROGRAM…` takes programs with runc's command line; our driver, as it is and
//! without the defence in question, comes by itself. What was seen goes to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a terminal")]

use std::path::Path;
use std::process::ExitCode;

use attack::{ATTACKS, Outcome, Runtime};

fn cell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Held(_) => "holds".into(),
        Outcome::Broke(what) => format!("**{what}**"),
        Outcome::NotTried(why) => format!("– ({why})"),
    }
}

fn main() -> ExitCode {
    let own = std::env::current_exe().expect("a program has a path");
    let driver = |name: &str| Runtime::driver(&own.with_file_name(name));
    let mut runtimes = Vec::new();
    for arg in std::env::args().skip(1) {
        let Some((name, program)) = arg.split_once('=') else {
            eprintln!("usage: attack-table NAME=PROGRAM…");
            return ExitCode::from(2);
        };
        runtimes.push((name.to_owned(), Runtime::oci(Path::new(program))));
    }
    runtimes.push(("Cais".into(), driver("attack-sound")));
    for (name, runtime) in &runtimes {
        if let Err(complaint) = runtime.works() {
            eprintln!("{name} runs no container: {complaint}");
            return ExitCode::FAILURE;
        }
    }
    let weakened = driver("attack-weakened");
    let names: Vec<&str> = runtimes.iter().map(|(name, _)| name.as_str()).collect();
    println!(
        "| attack | class | what is tried | {} | Cais without it | the defence |",
        names.join(" | ")
    );
    println!("|---|---|---|{}---|---|", "---|".repeat(names.len()));
    let only = std::env::var("ATTACK").unwrap_or_default();
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(&only)) {
        let mut cells = Vec::new();
        for (name, runtime) in &runtimes {
            let outcome = attack.run(runtime);
            eprintln!("{}: {name}: {outcome:?}", attack.name);
            cells.push(cell(&outcome));
        }
        let outcome = attack.run(&weakened.without(attack.defence));
        eprintln!("{}: weakened: {outcome:?}", attack.name);
        cells.push(cell(&outcome));
        let (name, class, tried) = (attack.name, attack.class, attack.tried);
        println!("| `{name}` | {class} | {tried} | {} | `{}` |", cells.join(" | "), attack.defence);
    }
    ExitCode::SUCCESS
}
