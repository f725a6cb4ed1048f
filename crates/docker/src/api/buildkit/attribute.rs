//! The attributes of `dockerfile.v0` (buildx's options, in BuildKit's words) become a job of ours.

use engine::BuildJob;
use serde_json::Value;

use super::cache::{sources, targets};
use super::export::names_and_notes;
use super::solve::{Attributes, Solve};
use super::{Outcome, failed, invalid, is_true, unsupported};
use crate::api::create::limits;
use crate::api::host_config::{Resources, Ulimit};
use crate::grammar;

/// What says where files come from, which [`super::input`] reads; and what only tells about where the
/// client is, for attestations.
const ELSEWHERE: [&str; 4] = ["filename", "context", "contextkey", "dockerfilekey"];
const ELSEWHERE_BEGINNINGS: [&str; 4] = ["context:", "local-sessionid:", "sharedkey:", "vcs:"];
/// Rights of commands.
const RIGHTS: [&str; 2] = ["network.host", "security.insecure"];

/// What is built, without files, secrets and agents.
pub(super) fn job(solve: &Solve, attributes: &Attributes) -> Outcome<BuildJob> {
    let mut job = BuildJob { network: "default".to_owned(), ..BuildJob::default() };
    let mut resources = Resources::default();
    for (name, value) in attributes {
        if let Some(name) = name.strip_prefix("build-arg:") {
            job.args.insert(name.to_owned(), value.clone());
        } else if let Some(name) = name.strip_prefix("label:") {
            job.labels.insert(name.to_owned(), value.clone());
        } else if !is_resource(&mut resources, name, value)? {
            attribute(&mut job, name, value)?;
        }
    }
    job.limits = limits(&resources).map_err(|error| failed(&error))?;
    for right in &solve.entitlements {
        if !RIGHTS.contains(&right.as_str()) {
            return Err(unsupported(format!("the entitlement {right} is not supported")));
        }
        job.allow.insert(right.clone());
    }
    if let Some(time) = job.args.get("SOURCE_DATE_EPOCH").filter(|time| !time.is_empty()) {
        let time = time.parse();
        job.epoch_s = Some(time.map_err(|_| invalid("invalid SOURCE_DATE_EPOCH"))?);
    }
    (job.tags, job.annotations) = names_and_notes(&solve.exporters)?;
    job.cache_from = sources(solve, attributes)?;
    job.cache_to = targets(solve)?;
    let tag = job.tags.first().map(ToString::to_string).unwrap_or_default();
    job.name = format!("api {tag}");
    Ok(job)
}

/// Takes what limits commands: whether this does.
fn is_resource(resources: &mut Resources, name: &str, value: &str) -> Outcome<bool> {
    let number = || value.parse::<i64>().map_err(|_| invalid(format!("invalid {name}: {value}")));
    match name {
        "memory" => resources.memory = number()?,
        "memswap" => resources.memory_swap = number()?,
        "cpushares" => resources.cpu_shares = number()?,
        "cpuperiod" => resources.cpu_period = number()?,
        "cpuquota" => resources.cpu_quota = number()?,
        "cpusetcpus" => value.clone_into(&mut resources.cpuset_cpus),
        "cpusetmems" => value.clone_into(&mut resources.cpuset_mems),
        "ulimit" => {
            resources.ulimits =
                value.split(',').map(|text| ulimit(text.trim())).collect::<Outcome<_>>()?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `name=soft:hard`
fn ulimit(text: &str) -> Outcome<Ulimit> {
    let wrong = || invalid(format!("invalid ulimit: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let ulimit = serde_json::json!({"Name": name, "Soft": number(soft)?, "Hard": number(hard)?});
    serde_json::from_value(ulimit).map_err(|_| wrong())
}

fn attribute(job: &mut BuildJob, name: &str, value: &str) -> Outcome {
    match name {
        "target" => job.target = Some(value.to_owned()).filter(|target| !target.is_empty()),
        "no-cache" if value.is_empty() => job.no_cache = true,
        "no-cache" => job.no_cache_stages = value.split(',').map(str::to_owned).collect(),
        "platform" => job.platform = platform(value)?,
        "multi-platform" if !is_true(value) => {}
        "multi-platform" => return Err(no_index()),
        // `local` and `default`: what is here is used.
        "image-resolve-mode" => job.pull = value == "pull",
        "force-network-mode" => job.network = network(value)?.to_owned(),
        "add-hosts" => {
            let hosts = value.split(',').filter(|host| !host.is_empty()).map(grammar::host);
            job.hosts = hosts.collect::<engine::Result<_>>().map_err(|error| failed(&error))?;
        }
        "shm-size" => {
            let bytes = value.parse();
            job.shm_bytes = bytes.map_err(|_| invalid(format!("invalid shm-size: {value}")))?;
        }
        "cgroup-parent" => value.clone_into(&mut job.cgroup_parent),
        // Read with the caches; and what the frontend must know, which is ours.
        "cache-imports" | "cache-from" | "frontend.caps" => {}
        name if ELSEWHERE.contains(&name) => {}
        name if ELSEWHERE_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) => {}
        name if name.starts_with("attest:") => {
            return Err(unsupported(
                "attestations by the API are not supported: `cais build --attest` makes them",
            ));
        }
        name if name.starts_with("input") => {
            return Err(unsupported(
                "targets whose files are those of others are not supported: \
                                    `cais bake` builds them",
            ));
        }
        name => {
            return Err(unsupported(format!("the attribute {name} of a build is not supported")));
        }
    }
    Ok(())
}

fn no_index() -> grpc::Status {
    unsupported(
        "several platforms at once are not supported by the API: build one after the other, or use \
         `cais build`",
    )
}

fn platform(text: &str) -> Outcome<Option<String>> {
    match text.contains(',') {
        true => Err(no_index()),
        false => Ok(Some(text.to_owned()).filter(|platform| !platform.is_empty())),
    }
}

fn network(mode: &str) -> Outcome<&str> {
    match mode {
        "" | "default" | "sandbox" => Ok("default"),
        "none" | "host" => Ok(mode),
        mode => {
            let message = format!("network mode {mode:?} is not supported by a build");
            Err(unsupported(message))
        }
    }
}

/// The caches in the attribute `cache-imports`.
pub(super) fn imports(text: &str) -> Outcome<Vec<(String, Attributes)>> {
    let wrong = || invalid("invalid cache-imports");
    let all: Vec<Value> = serde_json::from_str(text).map_err(|_| wrong())?;
    let one = |value: Value| {
        let kind = value["Type"].as_str().ok_or_else(wrong)?.to_owned();
        let attributes: Option<Attributes> =
            serde_json::from_value(value["Attrs"].clone()).map_err(|_| wrong())?;
        Ok((kind, attributes.unwrap_or_default()))
    };
    all.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Outcome<BuildJob> {
        let all = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        job(&Solve::default(), &all.collect())
    }

    #[test]
    fn attributes_are_a_job() {
        let job = read(&[
            ("add-hosts", "a=10.0.0.1,b=::1"),
            ("build-arg:X", "1"),
            ("build-arg:SOURCE_DATE_EPOCH", "7"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"localhost:5000/c"}}]"#),
            ("context:x", "docker-image://b"),
            ("filename", "Dockerfile"),
            ("force-network-mode", "none"),
            ("image-resolve-mode", "pull"),
            ("label:l", "v"),
            ("memory", "4096"),
            ("no-cache", "a,b"),
            ("platform", "linux/arm64"),
            ("target", "t"),
            ("ulimit", "nofile=1:2,core=0"),
        ])
        .unwrap();
        let text = |text: &str| text.to_owned();
        assert_eq!(job.hosts, [(text("a"), text("10.0.0.1")), (text("b"), text("::1"))]);
        assert_eq!(job.args["X"], "1");
        assert_eq!(job.epoch_s, Some(7));
        assert_eq!(job.cache_from, ["localhost:5000/c"]);
        assert_eq!((job.network.as_str(), job.pull, job.no_cache), ("none", true, false));
        assert_eq!(job.labels["l"], "v");
        assert_eq!(job.limits.memory, Some(4096));
        assert_eq!(job.limits.ulimits.len(), 2);
        assert!(job.no_cache_stages.contains("b"));
        assert_eq!(
            (job.target.as_deref(), job.platform.as_deref()),
            (Some("t"), Some("linux/arm64"))
        );
        assert!(read(&[("no-cache", "")]).unwrap().no_cache);
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (name, value) in [
            ("attest:sbom", ""),
            ("cache-imports", r#"[{"Type":"local","Attrs":{"src":"x"}}]"#),
            ("cache-imports", "{"),
            ("force-network-mode", "bridge2"),
            ("input:x", "y"),
            ("memory", "much"),
            ("multi-platform", "true"),
            ("nobody-knows", ""),
            ("platform", "linux/amd64,linux/arm64"),
            ("ulimit", "nofile"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
