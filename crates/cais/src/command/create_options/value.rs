//! Values of options, in Docker's spelling.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{Device, Error, Kind, LogConfig, RestartPolicy, Result, Ulimit};

pub(crate) use docker::grammar::{
    bytes, cgroup_parent, hostname, ipc_mode, pid_mode, storage, swappiness, user_namespace,
};

/// What environment files and files of labels may have, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `--log-driver` and `--log-opt`; the engine knows which options a driver has.
pub(crate) fn log(driver: &str, options: &[String]) -> LogConfig {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    LogConfig { driver: driver.to_owned(), options: options.iter().map(pair).collect() }
}

/// A decimal count of processors, in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64> {
    let bad = || {
        Error::invalid(format!("invalid argument \"{text}\" for \"--cpus\" flag: failed to parse {text} as a rational number"))
            .hint("as in 0.5 or 2")
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    if fraction.len() > 9 {
        return Err(Error::invalid("value is too precise").hint("at most 9 digits after the point"));
    }
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i64>() };
    let whole = number(whole).map_err(|_| bad())?;
    let fraction = number(&format!("{fraction:0<9}")).map_err(|_| bad())?;
    let nano = whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(fraction));
    nano.ok_or_else(bad)
}

/// `no`, `always`, `unless-stopped`, `on-failure[:MAX]` or `on-unhealthy[:MAX]`.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let bad = |message: String| Err(Error::invalid(message));
    let (name, max) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        return bad("invalid restart policy format: no policy provided before colon".into());
    }
    let max = match max {
        "" => 0,
        max => match max.parse::<i64>() {
            Err(_) => {
                return bad(
                    "invalid restart policy format: maximum retry count must be an integer".into(),
                );
            }
            Ok(max) => match u32::try_from(max) {
                Ok(max) => max,
                Err(_) => {
                    return bad(
                        "invalid restart policy: maximum retry count cannot be negative".into()
                    );
                }
            },
        },
    };
    let policy = match name {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { max },
        "on-unhealthy" => RestartPolicy::OnUnhealthy { max },
        name => {
            return Err(Error::invalid(format!("invalid restart policy: unknown policy '{name}'"))
                .hint(
                    "use one of no, always, on-failure[:MAX], on-unhealthy[:MAX] or unless-stopped",
                ));
        }
    };
    if max != policy.max() {
        return bad(
            "invalid restart policy: maximum retry count can only be used with 'on-failure' and 'on-unhealthy'".into()
        );
    }
    Ok(policy)
}

/// `type=soft[:hard]`; -1 is no limit.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = || {
        Error::invalid(format!("invalid ulimit argument: {text}"))
            .hint("as in nofile=1024:4096; -1 is no limit")
    };
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|_| bad()),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `host[:container[:permissions]]`.
pub(crate) fn device(text: &str) -> Result<Device> {
    let is_mode = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if is_mode(mode) => (host, container, mode),
        _ => {
            return Err(Error::invalid(format!("invalid device specification: {text}"))
                .hint("as in /dev/sda:/dev/xvda:rwm, where the last may be some of r, w and m"));
        }
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(Error::invalid(format!("{text} is not an absolute path")));
    }
    let path = PathBuf::from;
    Ok(Device { host: path(host), container: path(container), permissions: permissions.into() })
}

/// `-e` over `--env-file`; a name alone takes the value from our own environment, or nothing.
pub(crate) fn environment(given: &[String], files: &[PathBuf]) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for file in files {
        for (number, line) in lines(file)?.into_iter().enumerate() {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(Error::invalid(format!(
                    "poorly formatted environment: line {} of {}: variable '{name}' contains whitespaces or is empty",
                    number + 1,
                    file.display()
                )));
            }
            env.extend(variable(&line));
        }
    }
    for text in given {
        if text.is_empty() || text.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {text}")));
        }
        env.extend(variable(text));
    }
    Ok(env)
}

fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    let value = std::env::var(text).ok()?;
    Some(format!("{text}={value}"))
}

/// `-l` over `--label-file`; a key alone has an empty value.
pub(crate) fn labels(given: &[String], files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file)?);
    }
    all.extend(given.iter().cloned());
    let split = |text: String| {
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        match key.trim().is_empty() {
            true => Err(Error::invalid(format!("invalid label '{text}': empty name"))),
            false => Ok((key.to_owned(), value.to_owned())),
        }
    };
    all.into_iter().map(split).collect()
}

/// The lines of a file that are neither empty nor comments.
fn lines(file: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::caused(Kind::Invalid, format!("open {}", file.display()), error);
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Error::invalid(format!("{} is longer than 1 MiB", file.display())));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let kept = text.lines().map(str::trim_start);
    Ok(kept.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_processors() {
        assert_eq!(bytes("memory", "512m").unwrap(), 512 << 20);
        assert_eq!(bytes("memory-swap", "-1").unwrap(), -1);
        assert!(bytes("memory", "12x").is_err());
        assert_eq!(nano_cpus("1.5").unwrap(), 1_500_000_000);
        assert_eq!(nano_cpus(".25").unwrap(), 250_000_000);
        for bad in ["", ".", "x", "-1", "1e3", "99999999999999999999", "0.1234567891"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits_and_devices() {
        let limit = ulimit("nofile=1024:2048").unwrap();
        assert_eq!((limit.name.as_str(), limit.soft, limit.hard), ("nofile", 1024, 2048));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        assert!(ulimit("nofile").is_err());
        assert!(ulimit("nofile=2:1").is_err());
        assert_eq!(device("/dev/a:r").unwrap().permissions, "r");
        assert_eq!(device("/dev/a:/dev/b").unwrap().container, Path::new("/dev/b"));
        assert!(device("dev").is_err());
    }

    #[test]
    fn environment_files_and_flags() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "# no\n\nA=1\n  B=x y\nCAIS_NOT_SET_ANYWHERE\n").unwrap();
        let env = environment(&["A=2".into()], std::slice::from_ref(&file)).unwrap();
        assert_eq!(env, ["A=1", "B=x y", "A=2"]);
        std::fs::write(&file, "A B=1\n").unwrap();
        assert!(environment(&[], &[file]).is_err());
    }

    #[test]
    fn labels_have_names() {
        let own = |text: &str| labels(&[text.to_owned()], &[]);
        assert_eq!(own("a=b=c").unwrap(), BTreeMap::from([("a".into(), "b=c".into())]));
        assert_eq!(own("a").unwrap(), BTreeMap::from([("a".into(), String::new())]));
        for bad in ["", "=x", " =x"] {
            assert!(own(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn user_namespaces() {
        assert_eq!(user_namespace("100000:65536").unwrap(), Some((100_000, 65_536)));
        assert_eq!(user_namespace("host").unwrap(), None);
        for bad in ["1", "a:b", "1:0", "4294967295:2"] {
            assert!(user_namespace(bad).is_err(), "{bad}");
        }
    }
}
