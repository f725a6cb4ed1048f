//! `POST /build`: a Dockerfile and its files come as an archive, and what is said of the steps goes
//! back, as from Docker's builder before BuildKit.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use engine::{BuildJob, BuildNews, ContextArchive, Limits, Received};
use oci::Reference;
use serde::Deserialize;
use serde_json::{Value, json};

use super::buildkit;
use super::call::{Answer, Call};
use super::create::limits;
use super::failure::Failure;
use super::host_config::{Resources, Ulimit, Words};
use super::progress::Lines;
use super::pull::parse;
use super::registry_auth::{Credentials, field};
use crate::grammar;

/// Of a Dockerfile, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;
/// Digits of an image's id that are shown.
const SHORT_ID: usize = 12;

/// What is asked of a build and cannot be had.
const REFUSED: &[&str] = &["remote", "squash", "outputs", "cgroupparent", "session", "securityopt"];

pub(super) fn build(call: &mut Call<'_, '_>) -> Answer {
    if call.text("version") == "2" {
        return buildkit::post::build(call);
    }
    for name in REFUSED {
        if call.flag(name) {
            return Err(Failure::unsupported(format!("{name} of a build is not supported")));
        }
    }
    let mut job = asked(call)?;
    call.api.relieve()?;
    let engine = call.engine();
    let received = engine.receive_context(call.exchange.body())?;
    let dockerfile = call.text("dockerfile");
    // Removed at the end.
    let _context = match received {
        Received::Text(text) => {
            job.dockerfile = decoded(text)?;
            None
        }
        Received::Archive(archive) => {
            let name = if dockerfile.is_empty() { "Dockerfile" } else { dockerfile };
            take_in(&mut job, &archive, name)?;
            Some(archive)
        }
    };
    let is_quiet = call.flag("q");
    let spawner = &call.api.spawner;
    let tags = job.tags.clone();
    let mut lines = Lines::new(call);
    let nobody = |_: &str| None;
    let built = spawner.build(job, &nobody, &mut |news| {
        if let Some(text) = text(&news).filter(|_| !is_quiet) {
            lines.say(&json!({ "stream": text }));
        }
        !lines.is_gone()
    });
    let outcome = built.map(|id| {
        let Some(id) = id else { return };
        lines.say(&json!({ "aux": { "ID": id } }));
        for line in summary(&id, &tags, is_quiet) {
            lines.say(&json!({ "stream": line }));
        }
    });
    lines.end(outcome.map_err(|error| match failed_command(&error.to_string()) {
        Some((message, code)) => Failure::new(500, message).with_code(Some(code)),
        None => error.into(),
    }))
}

/// What Docker's builder says of a command that has failed, and its exit code.
fn failed_command(message: &str) -> Option<(String, i32)> {
    let (process, code) = message
        .strip_prefix("process ")?
        .rsplit_once(" did not complete successfully: exit code: ")?;
    let command: String = serde_json::from_str(process).ok()?;
    let code = code.parse().ok()?;
    Some((format!("The command '{command}' returned a non-zero code: {code}"), code))
}

fn summary(id: &str, tags: &[Reference], is_quiet: bool) -> Vec<String> {
    if is_quiet {
        return vec![format!("{id}\n")];
    }
    let short = id.strip_prefix("sha256:").unwrap_or(id);
    let built = format!("Successfully built {}\n", &short[..SHORT_ID.min(short.len())]);
    let tagged = tags.iter().map(|tag| format!("Successfully tagged {}\n", tag.familiar()));
    [built].into_iter().chain(tagged).collect()
}

/// What is shown of news, if anything is: `[2/3] RUN make` as `Step 2/3 : RUN make`.
fn text(news: &BuildNews) -> Option<String> {
    let step = |name: &str| {
        let place = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let place = place.and_then(|(place, what)| Some((place.split(' ').next_back()?, what)));
        match place.filter(|(place, _)| place.contains('/')) {
            Some((place, what)) => format!("Step {place} : {what}\n"),
            None => format!("{name}\n"),
        }
    };
    match news {
        BuildNews::Started(_, name) => Some(step(name)),
        BuildNews::Cached(_, name) => Some(step(name) + " ---> Using cache\n"),
        BuildNews::Output(_, _, line) => Some(String::from_utf8_lossy(line).into_owned() + "\n"),
        _ => None,
    }
}

/// What the parameters say.
fn asked(call: &Call<'_, '_>) -> Result<BuildJob, Failure> {
    let tags = call.exchange.head().parameters("t").filter(|text| !text.is_empty());
    let tags = tags.map(parse).collect::<Result<Vec<_>, _>>()?;
    if let Some(tag) = tags.iter().find(|tag| tag.digest().is_some()) {
        let message = format!("refusing to create a tag with a digest reference: {tag}");
        return Err(Failure::bad(message));
    }
    let hosts = call.exchange.head().parameters("extrahosts").flat_map(|text| text.split(','));
    let hosts = hosts.filter(|text| !text.is_empty()).map(grammar::host);
    let network = match call.text("networkmode") {
        "" | "default" | "bridge" => "default",
        mode @ ("none" | "host") => mode,
        mode => {
            let message = format!("network mode {mode:?} is not supported by a build");
            return Err(Failure::unsupported(message));
        }
    };
    let optional = |name: &str| Some(call.text(name).to_owned()).filter(|text| !text.is_empty());
    Ok(BuildJob {
        name: format!("api {}", optional("t").unwrap_or_default()),
        args: arguments(call.text("buildargs"))?,
        target: optional("target"),
        platform: optional("platform"),
        labels: document::<Words>("labels", call.text("labels"))?,
        no_cache: call.flag("nocache"),
        network: network.to_owned(),
        hosts: hosts.collect::<engine::Result<_>>()?,
        limits: asked_limits(call)?,
        shm_bytes: call.number("shmsize")?.unwrap_or(0),
        pull: call.flag("pull"),
        tags,
        logins: logins(call)?,
        ..BuildJob::default()
    })
}

pub(super) fn document<T: serde::de::DeserializeOwned + Default>(
    name: &str,
    text: &str,
) -> Result<T, Failure> {
    if text.is_empty() {
        return Ok(T::default());
    }
    let read: Result<Option<T>, _> = serde_json::from_str(text);
    let read = read.map_err(|error| Failure::bad(format!("invalid {name}: {error}")))?;
    Ok(read.unwrap_or_default())
}

/// An argument without a value has that of the client's environment, which had none.
pub(super) fn arguments(text: &str) -> Result<Words, Failure> {
    let all: BTreeMap<String, Option<String>> = document("buildargs", text)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn asked_limits(call: &Call<'_, '_>) -> Result<Limits, Failure> {
    let number = |name: &str| call.number::<i64>(name).map(Option::unwrap_or_default);
    let ulimits: Vec<Value> = document("ulimits", call.text("ulimits"))?;
    let ulimits = ulimits.into_iter().map(Ulimit::deserialize).collect::<Result<_, _>>();
    Ok(limits(&Resources {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: call.text("cpusetcpus").to_owned(),
        cpuset_mems: call.text("cpusetmems").to_owned(),
        ulimits: ulimits.map_err(|error| Failure::bad(format!("invalid ulimits: {error}")))?,
        ..Resources::default()
    })?)
}

/// Who the client is for each registry: `X-Registry-Config`.
fn logins(call: &Call<'_, '_>) -> Result<Vec<(String, String, String)>, Failure> {
    let all: Option<BTreeMap<String, Credentials>> = field(call, "x-registry-config")?;
    let known = all.unwrap_or_default().into_iter().filter_map(|(address, credentials)| {
        let (user, password) = credentials.login()?;
        Some((registry::registry_name(&address), user, password))
    });
    Ok(known.collect())
}

/// Takes the Dockerfile out of the files that came, and what of them is out of sight.
fn take_in(job: &mut BuildJob, archive: &ContextArchive, name: &str) -> Result<(), Failure> {
    let missing = || {
        let message = format!("Cannot locate specified Dockerfile: {name}");
        Failure::bad(message)
    };
    let place = archive.path().join(name.trim_start_matches('/'));
    job.dockerfile = decoded(read(archive, &place)?.ok_or_else(missing)?)?;
    let mut own = place.into_os_string();
    own.push(".dockerignore");
    for ignore in [own.into(), archive.path().join(".dockerignore")] {
        if let Some(text) = read(archive, &ignore)? {
            job.ignore = String::from_utf8_lossy(&text).into_owned();
            break;
        }
    }
    job.context = Some(archive.path().to_owned());
    Ok(())
}

/// A file of the context; `None` where there is none.
pub(super) fn read(archive: &ContextArchive, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let file = match archive.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(DOCKERFILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}

pub(super) fn decoded(text: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(text).map_err(|_| Failure::bad("the Dockerfile is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_as_docker_numbers_them() {
        let started = |name: &str| text(&BuildNews::Started(0, name.to_owned())).unwrap();
        assert_eq!(started("[2/3] RUN make"), "Step 2/3 : RUN make\n");
        assert_eq!(started("exporting"), "exporting\n");
        let cached = text(&BuildNews::Cached(0, "[web 1/2] RUN x".to_owned())).unwrap();
        assert_eq!(cached, "Step 1/2 : RUN x\n ---> Using cache\n");
        assert_eq!(text(&BuildNews::Tick), None);
        let failed = "process \"sh -c \\\"x\\\"\" did not complete successfully: exit code: 3";
        let told = "The command 'sh -c \"x\"' returned a non-zero code: 3".to_owned();
        assert_eq!(failed_command(failed), Some((told, 3)));
    }
}
