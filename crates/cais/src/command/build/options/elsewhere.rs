//! What a build asks of an engine elsewhere: the parameters of `POST /build`.

use engine::{Error, Kind, Result};
use serde_json::json;

use super::{Args, pairs};
use crate::command::build::attest;
use crate::command::create_options::value;

impl Args {
    /// Refuses what the classic way of building has no word for.
    pub(in crate::command) fn refuse_elsewhere(&self) -> Result<()> {
        self.refuse_unsupported()?;
        let given = [
            ("--annotation", !self.annotation.is_empty()),
            ("--attest", !attest::asked(self)?.is_empty()),
            ("--build-context", !self.build_context.is_empty()),
            ("--cache-to", !self.cache_to.is_empty()),
            ("--call", self.only_checks()?),
            ("--cpus", self.cpus.is_some()),
            ("--locked", self.locked),
            ("--metadata-file", self.metadata_file.is_some()),
            ("--no-cache-filter", !self.no_cache_filter.is_empty()),
            ("--no-normalize", !self.no_normalize.is_empty()),
            ("--output", !self.output.is_empty()),
            ("--push", self.push),
            ("--secret", !self.secret.is_empty()),
            ("--shell-on-error", self.shell_on_error),
            ("--ssh", !self.ssh.is_empty()),
            ("--update-lock", self.update_lock),
            ("--verify", self.verify),
            ("several of --platform", self.platforms()?.len() > 1),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => {
                let message = format!("{flag} is not supported for an engine elsewhere");
                Err(Error::new(Kind::Unsupported, message)
                    .hint("without -H, --context and DOCKER_HOST it is built here"))
            }
        }
    }

    /// The parameters, but for the names and the Dockerfile.
    pub(in crate::command) fn asked_elsewhere(&self) -> Result<Vec<(&'static str, String)>> {
        let flag = |is_set: bool| if is_set { "1".to_owned() } else { String::new() };
        let number = |number: Option<String>| number.unwrap_or_default();
        let bytes = |name: &str, text: &Option<String>| -> Result<String> {
            match text.as_deref() {
                None => Ok(String::new()),
                Some("-1") => Ok("-1".to_owned()),
                Some(text) => value::bytes(name, text).map(|bytes| bytes.to_string()),
            }
        };
        let platform = match self.platform.is_empty() {
            true => String::new(),
            false => self.platforms()?[0].to_string(),
        };
        let ulimits = self.ulimit.iter().map(|text| value::ulimit(text));
        let ulimits = ulimits.collect::<Result<Vec<_>>>()?;
        let ulimits: Vec<_> = ulimits
            .iter()
            .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft.cast_signed(), "Hard": limit.hard.cast_signed() }))
            .collect();
        let cache_from = match self.cache_from.is_empty() {
            true => String::new(),
            false => json!(self.cache_from).to_string(),
        };
        Ok(vec![
            ("buildargs", json!(pairs("build-arg", &self.build_arg)?).to_string()),
            ("labels", json!(value::labels(&self.label, &[])?).to_string()),
            ("target", self.target.clone().unwrap_or_default()),
            ("platform", platform),
            ("networkmode", self.network.clone()),
            ("extrahosts", self.add_host.join(",")),
            ("nocache", flag(self.no_cache)),
            ("pull", flag(self.pull)),
            ("q", flag(self.quiet)),
            ("forcerm", flag(self.force_rm)),
            ("cachefrom", cache_from),
            ("cgroupparent", self.cgroup_parent.clone().unwrap_or_default()),
            ("cpuperiod", number(self.cpu_period.map(|number| number.to_string()))),
            ("cpuquota", number(self.cpu_quota.map(|number| number.to_string()))),
            ("cpushares", number(self.cpu_shares.map(|number| number.to_string()))),
            ("cpusetcpus", self.cpuset_cpus.clone()),
            ("cpusetmems", self.cpuset_mems.clone()),
            ("memory", bytes("memory", &self.memory)?),
            ("memswap", bytes("memory-swap", &self.memory_swap)?),
            ("shmsize", bytes("shm-size", &self.shm_size)?),
            (
                "ulimits",
                if ulimits.is_empty() { String::new() } else { json!(ulimits).to_string() },
            ),
        ])
    }
}
