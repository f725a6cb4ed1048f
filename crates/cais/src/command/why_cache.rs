//! `cais why cache`

use engine::{Result, Verdict};

use super::build;
use crate::session::Session;

/// What `why cache` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The Dockerfile that was built, if it was named
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// The context that was built
    #[arg(default_value = ".")]
    path: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let name = build::name(&args.path, args.file.as_deref());
    let mut text = String::new();
    for step in session.engine()?.why_cache(&name)? {
        text = format!("{text}{}\n", step.name);
        text.push_str(&explain(&step.verdict));
    }
    session.print(&crate::output::printable(&text)).map(|()| 0)
}

fn explain(verdict: &Verdict) -> String {
    let Verdict::Changed { field, before, after, files } = verdict else {
        let words = match verdict {
            Verdict::Cached => "cached",
            Verdict::Asked => "done: it was asked for without cache",
            Verdict::Removed => "done: what it left before was removed",
            Verdict::First | Verdict::Changed { .. } => {
                "done: there is no earlier build to compare with"
            }
        };
        return format!("    {words}\n");
    };
    let mut text = match field.as_str() {
        "base" => "    done: the step before it left other files\n".to_owned(),
        field if field.starts_with("content.") || field.starts_with("mount.") => {
            "    done: its files have changed\n".to_owned()
        }
        field => {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            format!("    done: {field} was {:?}, and is {:?}\n", shown(before), shown(after))
        }
    };
    for file in files {
        text = format!("{text}      {file}\n");
    }
    text
}
