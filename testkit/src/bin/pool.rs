//! The pool of images, for people and scripts: `pool make [FAMILY…]`, `pool serve`, `pool path`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use testkit::{IMAGES, Pool, RegistryServer};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("pool: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    let pool = Pool::open();
    match words {
        ["make"] => make(&pool, IMAGES),
        ["make", families @ ..] => make(&pool, families),
        ["serve"] => serve(&pool),
        ["path"] => print(&format!("{}\n", pool.path().display())),
        _ => bail!("usage: pool make [{}] | pool serve | pool path", IMAGES.join("|")),
    }
}

fn make(pool: &Pool, families: &[&str]) -> Result<()> {
    let start = Instant::now();
    pool.make(families, &|family| {
        say(&format!("pool: {family} made after {:.1} s", start.elapsed().as_secs_f64()));
    })?;
    say(&format!("pool: complete after {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Prints a configuration for cais, then an empty line, and serves until it is killed or its
/// standard input ends.
fn serve(pool: &Pool) -> Result<()> {
    let server = RegistryServer::start(pool)?;
    print(&format!("{}\n", server.mirror_configuration()))?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
