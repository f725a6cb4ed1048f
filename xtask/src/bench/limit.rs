//! The smallest memory limit under which an OCI runtime starts a container.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::engine::Engine;
use super::report::Section;
use super::world::World;

/// Limits to try, in KiB, ascending.
const LIMITS: [u64; 10] = [512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12_288, 16_384];
/// The one that a container must start with, in KiB.
const PROMISED: u64 = 2048;
/// How often a container must start in a row.
const TRIES: usize = 5;

/// One row for each runtime.
pub(crate) fn measure(world: &World) -> Result<Section> {
    let mut unused = Vec::new();
    let mut engines = vec![Engine::cais(world)];
    engines.extend(Engine::others(world, &mut unused)?);
    let rows = engines.iter().map(|engine| Ok((engine.name.to_owned(), row(world, engine)?)));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    Ok(Section::of_facts(
        "OCI runtime: `run true` under a memory limit",
        rows,
        vec![format!("a limit counts if a container starts under it {TRIES} times in a row")],
    ))
}

fn row(world: &World, engine: &Engine) -> Result<String> {
    let mut complaint = String::new();
    for limit in LIMITS {
        match starts(world, engine, limit)? {
            None => return Ok(said(limit)),
            Some(why) => complaint = why,
        }
    }
    Ok(format!("starts under none: {complaint}"))
}

fn said(smallest: u64) -> String {
    let promised = if smallest <= PROMISED { "starts" } else { "does not start" };
    format!("{promised} with {} MiB; the smallest is {smallest} KiB", PROMISED / 1024)
}

/// What kept a container from starting, if anything.
fn starts(world: &World, engine: &Engine, limit_kib: u64) -> Result<Option<String>> {
    let bundle = engine.bundle(world, "limit", &|spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": limit_kib * 1024}});
    })?;
    let bundle = bundle.display().to_string();
    for _ in 0..TRIES {
        let ended = run(engine.command(&["run", "--bundle", &bundle, "bench-limit"]))?;
        if ended.is_some() {
            run(engine.command(&["delete", "--force", "bench-limit"]))?;
            return Ok(ended);
        }
    }
    Ok(None)
}

/// The last line of what a command complains about when it fails.
fn run(mut command: Command) -> Result<Option<String>> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it is killed").replace('|', "/");
    Ok((!output.status.success()).then_some(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_the_promise_is_kept() {
        assert_eq!(said(512), "starts with 2 MiB; the smallest is 512 KiB");
        assert_eq!(said(3072), "does not start with 2 MiB; the smallest is 3072 KiB");
    }
}
