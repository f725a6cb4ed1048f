//! `cais version`

use engine::Result;
use serde_json::Value;

use super::info::formatted;
use crate::session::Session;

/// What `version` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json', 'TEMPLATE'
    #[arg(short, long)]
    pub(super) format: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let version = docker::version(env!("CARGO_PKG_VERSION"));
    print(session, args.format.as_deref(), &version)
}

/// Shows versions as `--format` says.
pub(super) fn print(session: &Session, format: Option<&str>, version: &Value) -> Result<i32> {
    let text = formatted(format, version)?.unwrap_or_else(|| text(version));
    session.print(&text).map(|()| 0)
}

/// As Docker prints it, without the lines about Go and about builds, which say nothing here.
fn text(version: &Value) -> String {
    let of = |side: &str, key: &str| version[side][key].as_str().unwrap_or_default().to_owned();
    let platform = |side: &str| format!("{}/{}", of(side, "Os"), of(side, "Arch"));
    let server = |key: &str| of("Server", key);
    let api = format!("{} (minimum version {})", server("ApiVersion"), server("MinAPIVersion"));
    let experimental = version["Server"]["Experimental"].to_string();
    [
        "Client: Cais\n".to_owned(),
        line(" ", "Version", &of("Client", "Version")),
        line(" ", "API version", &of("Client", "ApiVersion")),
        line(" ", "OS/Arch", &platform("Client")),
        line(" ", "Context", &of("Client", "Context")),
        format!("\nServer: {}\n Engine:\n", engine_name(&version["Server"])),
        line("  ", "Version", &server("Version")),
        line("  ", "API version", &api),
        line("  ", "OS/Arch", &platform("Server")),
        line("  ", "Kernel version", &server("KernelVersion")),
        line("  ", "Experimental", &experimental),
    ]
    .concat()
}

/// What an engine calls itself.
fn engine_name(server: &Value) -> &str {
    match server["Platform"]["Name"].as_str() {
        None | Some("") => "Docker Engine",
        Some(name) => name,
    }
}

/// Values begin in the same column, whatever the indent.
fn line(indent: &str, name: &str, value: &str) -> String {
    let width = 20 - indent.len();
    format!("{indent}{:<width$}{value}\n", format!("{name}:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_docker_s() {
        let shown = text(&docker::version("0.1.0"));
        let start = "Client: Cais\n Version:           0.1.0\n API version:       1.50\n OS/Arch:           linux/";
        assert!(shown.starts_with(start), "{shown}");
        let server = "\n\nServer: Cais\n Engine:\n  Version:          0.1.0\n  API version:      1.50 (minimum version 1.24)\n  OS/Arch:          linux/";
        assert!(shown.contains(server), "{shown}");
        assert!(shown.ends_with("\n  Experimental:     false\n"), "{shown}");
    }
}
