//! What `--log-driver` and `--log-opt` ask for, checked.

use std::collections::BTreeMap;

use crate::container::{Record, SHORT_ID_LENGTH};
use crate::error::{Error, Kind, Result};
use crate::settings::LogConfig;

use super::file::Bounds;
use super::syslog::Syslog;

/// What is kept of a container that says nothing about its log; as the daemon-wide options of
/// Docker's, these hold as long as a container does not say otherwise.
pub const DEFAULT_OPTIONS: [(&str, &str); 3] =
    [("max-size", "20m"), ("max-file", "5"), ("compress", "true")];
/// What waits for a slow driver with `mode=non-blocking`, in bytes; Docker's default.
const BUFFER_BYTES: u64 = 1 << 20;
/// Options that every driver takes.
const EVERYWHERE: &[&str] = &["mode", "max-buffer-size", "max-rate"];
/// Options about what is said of a container beside its lines.
const ATTRIBUTES: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];
const FILES: &[&str] = &["max-size", "max-file", "compress"];
/// Options of drivers whose lines cannot be read back, for the files that they are read from.
const CACHE: &[&str] = &["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
const SYSLOG: &[&str] = &["syslog-address", "syslog-facility", "syslog-format"];
/// Options of Docker's that are known, and not supported.
const UNSUPPORTED: &[&str] = &[
    "labels-regex",
    "env-regex",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];
/// Drivers of Docker's that are known, and not supported.
const FOREIGN: &[&str] =
    &["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "logentries", "splunk"];

/// Where the lines of a container go.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// The files that they are kept in, and read from.
    pub(crate) files: Option<Bounds>,
    /// Who else gets them.
    pub(crate) remote: Option<Remote>,
    /// What is said of the container with each line.
    pub(crate) attrs: BTreeMap<String, String>,
    /// The container's name in its lines.
    pub(crate) tag: String,
    /// Bytes that wait for a slow driver, so that the container does not.
    pub(crate) buffer: Option<u64>,
    /// Bytes a second.
    pub(crate) max_rate: Option<u64>,
}

/// A service of the host's, or elsewhere, that takes lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    Journald,
    Syslog(Syslog),
}

impl Plan {
    /// What a container's record asks for.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for options that the driver has not got, or values that make no sense;
    /// [`Kind::Unsupported`] for those of Docker's that we lack.
    pub(crate) fn of(record: &Record) -> Result<Self> {
        let config = &record.settings.log;
        let driver = config.driver();
        let mut known = EVERYWHERE.to_vec();
        known.extend(match driver {
            "json-file" => [FILES, ATTRIBUTES].concat(),
            "local" => FILES.to_vec(),
            "journald" => [ATTRIBUTES, CACHE].concat(),
            "syslog" => [ATTRIBUTES, CACHE, SYSLOG].concat(),
            "none" => Vec::new(),
            other => return Err(no_driver(other)),
        });
        check_options(config, &known)?;
        let options = Options(&config.options);
        let files = match driver {
            "none" => None,
            "json-file" | "local" => Some(options.bounds("")?),
            _ if options.flag("cache-disabled")?.unwrap_or(false) => None,
            _ => Some(options.bounds("cache-")?),
        };
        let tag = config.options.get("tag").filter(|tag| !tag.is_empty());
        let shown = expand(tag.map_or("{{.ID}}", String::as_str), record)?;
        let mut attrs = attributes(config, record);
        if driver == "json-file" && tag.is_some() {
            attrs.insert("tag".into(), shown.clone());
        }
        let remote = match driver {
            "journald" => Some(Remote::Journald),
            "syslog" => Some(Remote::Syslog(Syslog::of(&config.options)?)),
            _ => None,
        };
        let max_rate = options.bytes("max-rate", 1000)?;
        Ok(Self { files, remote, attrs, tag: shown, buffer: options.buffer()?, max_rate })
    }
}

fn no_driver(name: &str) -> Error {
    let drivers = "drivers are json-file, local, journald, syslog and none";
    match FOREIGN.contains(&name) {
        true => {
            Error::new(Kind::Unsupported, format!("log driver \"{name}\" is not supported yet"))
        }
        false => Error::invalid(format!("logger: no log driver named '{name}' is registered")),
    }
    .hint(drivers)
}

fn check_options(config: &LogConfig, known: &[&str]) -> Result<()> {
    let driver = config.driver();
    if driver == "none" && !config.options.is_empty() {
        return Err(Error::invalid("invalid logging opts for driver none"));
    }
    for name in config.options.keys().map(String::as_str) {
        let is_foreign = UNSUPPORTED.contains(&name);
        if is_foreign && (known.contains(&name) || driver == "syslog") {
            let text = format!("log opt '{name}' of driver {driver} is not supported yet");
            return Err(Error::new(Kind::Unsupported, text));
        }
        if !known.contains(&name) {
            let known = known.iter().filter(|name| !UNSUPPORTED.contains(name));
            let known = known.copied().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!(
                "unknown log opt '{name}' for {driver} log driver"
            ))
            .hint(format!("options are {known}")));
        }
    }
    Ok(())
}

/// The options as they were written.
struct Options<'a>(&'a BTreeMap<String, String>);

impl Options<'_> {
    /// The bounds of files, whose options have a common beginning.
    fn bounds(&self, prefix: &str) -> Result<Bounds> {
        let name = |name: &str| format!("{prefix}{name}");
        let [(_, size), (_, files), (_, compress)] = DEFAULT_OPTIONS;
        let size = self.0.get(&name("max-size")).map_or(size, String::as_str);
        let file_bytes = match size {
            "-1" => None,
            size => Some(parse_bytes(&name("max-size"), size, 1000)?),
        };
        let text = self.0.get(&name("max-file")).map_or(files, String::as_str);
        let files = text.parse::<u64>().map_err(|error| {
            Error::caused(
                Kind::Invalid,
                format!("invalid value for {}: {text}", name("max-file")),
                error,
            )
        })?;
        if files == 0 {
            return Err(Error::invalid(format!("{} cannot be less than 1", name("max-file"))));
        }
        let rotates = files > 1 && file_bytes.is_some();
        let asked = self.flag(&name("compress"))?;
        if asked == Some(true) && !rotates {
            return Err(Error::invalid(format!(
                "{} cannot be true when {} is less than 2 or {} is not set",
                name("compress"),
                name("max-file"),
                name("max-size")
            )));
        }
        let compress = asked.unwrap_or(rotates && compress == "true");
        Ok(Bounds { file_bytes, files, compress })
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("invalid value for log opt {name}: {text}"))
                .hint("true or false")),
        }
    }

    fn bytes(&self, name: &str, thousand: u64) -> Result<Option<u64>> {
        self.0.get(name).map(|text| parse_bytes(name, text, thousand)).transpose()
    }

    /// The room for lines that wait, if the container is not to wait for them.
    fn buffer(&self) -> Result<Option<u64>> {
        let size = self.bytes("max-buffer-size", 1024)?;
        match self.0.get("mode").map_or("", String::as_str) {
            "" | "blocking" if size.is_some() => Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            )),
            "" | "blocking" => Ok(None),
            "non-blocking" => Ok(Some(size.unwrap_or(BUFFER_BYTES))),
            mode => Err(Error::invalid(format!("logger: logging mode not supported: {mode}"))
                .hint("modes are blocking and non-blocking")),
        }
    }
}

/// A size as Docker has it: a number, and perhaps a unit of `thousand` bytes or a power of it.
fn parse_bytes(name: &str, text: &str, thousand: u64) -> Result<u64> {
    let bad = || {
        Error::invalid(format!("invalid value for log opt {name}: '{text}'"))
            .hint("a positive number with b, k, m or g behind it: 20m")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = lower[digits.len()..].trim();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let factor = thousand.pow(power);
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| bad())?;
    // A fraction of a factor is less than the factor.
    let part = (fraction * factor as f64) as u64;
    let bytes = whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(bad)
}

/// What of a container's labels and environment its lines carry.
fn attributes(config: &LogConfig, record: &Record) -> BTreeMap<String, String> {
    let names = |option: &str| {
        let text = config.options.get(option).map_or("", String::as_str);
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut attrs = BTreeMap::new();
    for name in names("labels") {
        if let Some(value) = record.config.labels.get(&name) {
            attrs.insert(name, value.clone());
        }
    }
    let variables = names("env");
    for (name, value) in record.config.env.iter().filter_map(|text| text.split_once('=')) {
        if variables.iter().any(|wanted| wanted == name) {
            attrs.insert(name.to_owned(), value.to_owned());
        }
    }
    attrs
}

/// A tag with the container's own words in the place of `{{.Name}}` and its like.
fn expand(tag: &str, record: &Record) -> Result<String> {
    let mut expanded = String::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("{{") {
        expanded += before;
        let bad = || {
            Error::invalid(format!("invalid log tag '{tag}'"))
                .hint("fields are .ID, .FullID, .Name, .ImageID, .ImageFullID, .ImageName and .DaemonName")
        };
        let (field, after) = after.split_once("}}").ok_or_else(bad)?;
        let hex = record.image_id.to_string();
        let hex = hex.rsplit(':').next().unwrap_or_default();
        expanded += match field.trim() {
            ".ID" => &record.id[..SHORT_ID_LENGTH],
            ".FullID" => &record.id,
            ".Name" => &record.name,
            ".ImageID" => &hex[..hex.len().min(SHORT_ID_LENGTH)],
            ".ImageFullID" => hex,
            ".ImageName" => &record.settings.image,
            ".DaemonName" => "cais",
            _ => return Err(bad()),
        };
        rest = after;
    }
    Ok(expanded + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_positive_numbers_with_units() {
        let size = |text: &str| parse_bytes("max-size", text, 1000).ok();
        assert_eq!(size("10m"), Some(10_000_000));
        assert_eq!(size("1.5k"), Some(1500));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("1GB"), Some(1_000_000_000));
        for bad in ["", "0", "-1", "m", "1x", "99999999999t"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(parse_bytes("max-buffer-size", "1m", 1024).ok(), Some(1 << 20));
    }

    fn bounds(options: &[(&str, &str)]) -> std::result::Result<(Option<u64>, u64, bool), String> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let options: BTreeMap<_, _> = options.iter().map(own).collect();
        let bounds = Options(&options).bounds("").map_err(|error| error.to_string())?;
        Ok((bounds.file_bytes, bounds.files, bounds.compress))
    }

    #[test]
    fn bounds_hold_unless_said_otherwise() {
        assert_eq!(bounds(&[]), Ok((Some(20_000_000), 5, true)));
        assert_eq!(bounds(&[("max-size", "1k")]), Ok((Some(1000), 5, true)));
        assert_eq!(bounds(&[("max-file", "1")]), Ok((Some(20_000_000), 1, false)));
        assert_eq!(bounds(&[("max-size", "-1")]), Ok((None, 5, false)));
        assert!(bounds(&[("max-file", "0")]).unwrap_err().contains("less than 1"));
        assert!(bounds(&[("max-file", "x")]).is_err());
        let error = bounds(&[("max-file", "1"), ("compress", "true")]).unwrap_err();
        assert!(error.contains("compress cannot be true"), "{error}");
        assert!(bounds(&[("compress", "maybe")]).is_err());
    }

    #[test]
    fn modes_are_docker_s() {
        let buffer = |options: &[(&str, &str)]| {
            let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            Options(&options.iter().map(own).collect()).buffer().map_err(|error| error.to_string())
        };
        assert_eq!(buffer(&[]), Ok(None));
        assert_eq!(buffer(&[("mode", "non-blocking")]), Ok(Some(1 << 20)));
        let sized = [("mode", "non-blocking"), ("max-buffer-size", "4m")];
        assert_eq!(buffer(&sized), Ok(Some(4 << 20)));
        assert!(buffer(&sized[1..]).unwrap_err().contains("only supported with"));
        assert!(buffer(&[("mode", "fast")]).unwrap_err().contains("not supported: fast"));
    }
}
