//! `build --verify`

use engine::{BuildOptions, Deviation, Result, Verified};

use super::context::Input;
use super::events::Show;
use super::{Args, explain};
use crate::session::Session;

/// Does all steps again; what differs is said on standard output, and is the exit code.
pub(super) fn run(
    session: &Session,
    args: &Args,
    input: &Input,
    options: &BuildOptions,
) -> Result<i32> {
    let mut show = Show::new(args)?;
    let verified = session
        .engine()?
        .verify_build(options, &mut |event| show.event(&event))
        .map_err(|failed| explain(&mut show, input, options, failed))?;
    show.finish();
    let text = report(&verified, &input.dockerfile_name, &options.dockerfile);
    // Names and contents of files may be somebody else's.
    session.print(&crate::output::printable(&text))?;
    Ok(i32::from(!verified.deviations.is_empty()))
}

fn report(verified: &Verified, file: &str, dockerfile: &str) -> String {
    let steps = |count: usize| if count == 1 { "1 step".into() } else { format!("{count} steps") };
    let done = steps(verified.steps);
    if verified.deviations.is_empty() {
        return format!("Reproducible: {done} done again left the same layers.\n");
    }
    let mut text = String::new();
    for Deviation { step, span, files, omitted } in &verified.deviations {
        let (line, _) = build::position(dockerfile, span.start);
        text += &format!("{file}:{line} {step}\n");
        text.extend(files.iter().map(|(path, how)| format!("  {path}: {how}\n")));
        if *omitted > 0 {
            text += &format!("  and {omitted} more\n");
        }
    }
    let count = verified.deviations.len();
    format!("{text}Not reproducible: {count} of {done} left something else.\n")
}
