//! `cais info`

use engine::{Error, Result};
use serde_json::{Value, json};

use crate::output;
use crate::session::Session;
use crate::template::{Mode, Template};

/// What `info` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json', 'TEMPLATE'
    #[arg(short, long)]
    pub(super) format: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let info = docker::info(session.engine()?, env!("CARGO_PKG_VERSION"))?;
    print(session, args.format.as_deref(), info, "default")
}

/// Shows what is known of an engine that a context names, as `--format` says.
pub(super) fn print(
    session: &Session,
    format: Option<&str>,
    mut info: Value,
    context: &str,
) -> Result<i32> {
    let client = json!({ "Debug": false, "Context": context, "Plugins": [], "Warnings": null,
        "Version": env!("CARGO_PKG_VERSION"), "Platform": { "Name": "Cais" } });
    if let Some(info) = info.as_object_mut() {
        info.insert("ClientInfo".to_owned(), client);
        if !matches!(format, None | Some("" | "json")) {
            // Templates know these by the names of Go's fields.
            for name in ["CfsPeriod", "CfsQuota"] {
                let value = info.get(&format!("Cpu{name}")).cloned().unwrap_or(Value::Null);
                info.insert(format!("CPU{name}"), value);
            }
        }
    }
    let text = formatted(format, &info)?.unwrap_or_else(|| text(&info));
    session.print(&text)?;
    for warning in list(&info["Warnings"]) {
        crate::progress::note(&warning);
    }
    Ok(0)
}

/// A whole object through `--format`; `None` where the text is wanted.
pub(super) fn formatted(format: Option<&str>, value: &Value) -> Result<Option<String>> {
    let unfit = |error: crate::template::Error| Error::invalid(error.to_string());
    let mut text = match format.map(str::trim) {
        None | Some("") => return Ok(None),
        Some("json") => value.to_string(),
        Some(template) => {
            let template = Template::parse(template).map_err(unfit)?.mode(Mode::Strict);
            let mut text = String::new();
            template.execute(value, &mut text).map_err(unfit)?;
            text
        }
    };
    text.push('\n');
    Ok(Some(output::printable(&text).into_owned()))
}

fn list(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// One field as text.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The lines that Docker prints, of what there is here.
const LINES: &[(&str, &str)] = &[
    (" Containers", "Containers"),
    ("  Running", "ContainersRunning"),
    ("  Paused", "ContainersPaused"),
    ("  Stopped", "ContainersStopped"),
    (" Images", "Images"),
    (" Server Version", "ServerVersion"),
    (" Storage Driver", "Driver"),
];

const LATER_LINES: &[(&str, &str)] = &[
    (" Kernel Version", "KernelVersion"),
    (" Operating System", "OperatingSystem"),
    (" OSType", "OSType"),
    (" Architecture", "Architecture"),
    (" CPUs", "NCPU"),
    (" Total Memory", "MemTotal"),
    (" Name", "Name"),
    (" ID", "ID"),
    (" Docker Root Dir", "DockerRootDir"),
    (" Debug Mode", "Debug"),
    (" Experimental", "ExperimentalBuild"),
    (" Live Restore Enabled", "LiveRestoreEnabled"),
];

fn text(info: &Value) -> String {
    let mut text = format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: false\n\nServer:\n",
        word(&info["ClientInfo"]["Version"]),
        word(&info["ClientInfo"]["Context"]),
    );
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    for (name, key) in LINES {
        line(name, &word(&info[*key]));
    }
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(&format!("  {}", word(&pair[0])), &word(&pair[1]));
    }
    line(" Logging Driver", &word(&info["LoggingDriver"]));
    line(" Cgroup Driver", &word(&info["CgroupDriver"]));
    line(" Cgroup Version", &word(&info["CgroupVersion"]));
    text.push_str(" Plugins:\n");
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
    for kind in ["Volume", "Network", "Log"] {
        line(&format!("  {kind}"), &list(&info["Plugins"][kind]).join(" "));
    }
    line(" Swarm", &word(&info["Swarm"]["LocalNodeState"]));
    let runtimes = info["Runtimes"].as_object().into_iter().flatten();
    let runtimes: Vec<&str> = runtimes.map(|(name, _)| name.as_str()).collect();
    line(" Runtimes", &runtimes.join(" "));
    line(" Default Runtime", &word(&info["DefaultRuntime"]));
    line(" Init Binary", &word(&info["InitBinary"]));
    security(&mut text, &info["SecurityOptions"]);
    for (name, key) in LATER_LINES {
        let value = match *key {
            "MemTotal" => output::binary_size(info[*key].as_u64().unwrap_or(0)),
            key => word(&info[key]),
        };
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    output::printable(&text).into_owned()
}

/// ` Security Options:`, each with what belongs to it below.
fn security(text: &mut String, options: &Value) {
    text.push_str(" Security Options:\n");
    for option in list(options) {
        for part in option.split(',') {
            text.push_str(&match part.split_once('=') {
                Some(("name", name)) => format!("  {name}\n"),
                Some(("profile", profile)) => format!("   Profile: {profile}\n"),
                _ => format!("   {part}\n"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_docker_s() {
        let info = json!({
            "Containers": 3, "ContainersRunning": 1, "ContainersPaused": 0, "ContainersStopped": 2,
            "Images": 4, "ServerVersion": "0.1.0", "Driver": "erofs",
            "DriverStatus": [["Backing Filesystem", "extfs"]],
            "LoggingDriver": "json-file", "CgroupDriver": "cgroupfs", "CgroupVersion": "2",
            "Plugins": { "Volume": ["local"], "Network": ["bridge", "host"], "Log": ["json-file"] },
            "Swarm": { "LocalNodeState": "inactive" }, "Runtimes": { "cais": {} },
            "DefaultRuntime": "cais", "InitBinary": "cais",
            "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
            "KernelVersion": "6.1", "OperatingSystem": "Debian", "OSType": "linux",
            "Architecture": "x86_64", "NCPU": 2, "MemTotal": 2_147_483_648_u64, "Name": "host",
            "ID": "a-b", "DockerRootDir": "/var/lib/cais", "Debug": false,
            "ExperimentalBuild": false, "LiveRestoreEnabled": true,
            "ClientInfo": { "Version": "0.1.0", "Context": "default" },
        });
        let expected = "Client:\n Version:    0.1.0\n Context:    default\n Debug Mode: false\n\n\
            Server:\n Containers: 3\n  Running: 1\n  Paused: 0\n  Stopped: 2\n Images: 4\n \
            Server Version: 0.1.0\n Storage Driver: erofs\n  Backing Filesystem: extfs\n \
            Logging Driver: json-file\n Cgroup Driver: cgroupfs\n Cgroup Version: 2\n Plugins:\n  \
            Volume: local\n  Network: bridge host\n  Log: json-file\n Swarm: inactive\n \
            Runtimes: cais\n Default Runtime: cais\n Init Binary: cais\n Security Options:\n  \
            apparmor\n  seccomp\n   Profile: default\n Kernel Version: 6.1\n \
            Operating System: Debian\n OSType: linux\n Architecture: x86_64\n CPUs: 2\n \
            Total Memory: 2GiB\n Name: host\n ID: a-b\n Docker Root Dir: /var/lib/cais\n \
            Debug Mode: false\n Experimental: false\n Live Restore Enabled: true\n\n";
        assert_eq!(text(&info), expected);
    }

    #[test]
    fn a_template_asks_for_what_there_is() {
        let info = json!({ "NCPU": 2 });
        assert_eq!(formatted(Some("{{.NCPU}}"), &info).unwrap().unwrap(), "2\n");
        assert_eq!(formatted(Some("json"), &info).unwrap().unwrap(), "{\"NCPU\":2}\n");
        assert!(formatted(Some("{{.None}}"), &info).is_err());
        assert!(formatted(None, &info).unwrap().is_none());
    }
}
