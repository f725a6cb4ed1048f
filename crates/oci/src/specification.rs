//! The runtime specification as engines write it (runtime-spec, config.md).
//!
//! `oci-spec` refuses what its types have no word for. Some of that the specification asks to pass
//! over with a warning, some of it is spelled otherwise there, and an error should name the field.

use oci_spec::runtime::{
    Capability, ExecCPUAffinity, LinuxDevice, LinuxMemoryPolicy, LinuxNamespace, LinuxPersonality,
    LinuxResources, LinuxSeccomp, MemoryPolicyFlagType, MemoryPolicyModeType, Mount, PosixRlimit,
    Process, Scheduler, Spec,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Something that was read, and what in it has no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// What was read.
    pub value: T,
    /// A sentence for each part that is passed over, for whoever started the runtime.
    pub warnings: Vec<String>,
}

/// Why a specification cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SpecificationError {
    /// It is not JSON, or not an object of that kind.
    #[error("read the specification")]
    Json(#[from] serde_json::Error),
    /// One field is wrong.
    #[error("invalid {what}: `{field}`")]
    Field {
        /// The field in words.
        what: &'static str,
        /// Its place, as `linux.memoryPolicy.mode`.
        field: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// Names the field that is wrong where it can.
pub fn parse_spec(json: &[u8]) -> Result<Parsed<Spec>, SpecificationError> {
    parse(json, "/process", &FIELDS)
}

/// Reads a process alone, as `runc exec --process` takes it.
///
/// # Errors
/// As [`parse_spec`].
pub fn parse_process(json: &[u8]) -> Result<Parsed<Process>, SpecificationError> {
    parse(json, "", &[])
}

/// The ordinary specification is read at once; the slow way is for what the types refuse.
fn parse<T: DeserializeOwned>(
    json: &[u8],
    process: &str,
    fields: &[Field],
) -> Result<Parsed<T>, SpecificationError> {
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(Parsed { value, warnings: Vec::new() });
    }
    let mut document: Value = serde_json::from_slice(json)?;
    let mut warnings = Vec::new();
    if let Some(process) = document.pointer_mut(process) {
        respell(process, &mut warnings);
    }
    for field in fields {
        field.check(&document)?;
    }
    Ok(Parsed { value: serde_json::from_value(document)?, warnings })
}

/// A field whose content is checked on its own, so that an error can name it.
struct Field {
    pointer: &'static str,
    what: &'static str,
    check: fn(Value) -> Result<(), serde_json::Error>,
    /// Whether the field holds a list of such values.
    list: bool,
}

const fn one<T: DeserializeOwned>(pointer: &'static str, what: &'static str) -> Field {
    Field { pointer, what, check: is::<T>, list: false }
}

const fn many<T: DeserializeOwned>(pointer: &'static str, what: &'static str) -> Field {
    Field { pointer, what, check: is::<T>, list: true }
}

fn is<T: DeserializeOwned>(value: Value) -> Result<(), serde_json::Error> {
    serde_json::from_value::<T>(value).map(drop)
}

/// The deepest first.
const FIELDS: [Field; 14] = [
    one::<MemoryPolicyModeType>("/linux/memoryPolicy/mode", "memory policy mode"),
    many::<MemoryPolicyFlagType>("/linux/memoryPolicy/flags", "memory policy flag"),
    one::<LinuxMemoryPolicy>("/linux/memoryPolicy", "memory policy mode"),
    many::<LinuxNamespace>("/linux/namespaces", "namespace"),
    many::<LinuxDevice>("/linux/devices", "device"),
    one::<LinuxPersonality>("/linux/personality", "personality"),
    one::<LinuxResources>("/linux/resources", "resources"),
    one::<LinuxSeccomp>("/linux/seccomp", "seccomp profile"),
    many::<PosixRlimit>("/process/rlimits", "resource limit"),
    one::<Scheduler>("/process/scheduler", "scheduler"),
    one::<ExecCPUAffinity>("/process/execCPUAffinity", "processor affinity"),
    one::<Value>("/process/ioPriority", "I/O priority"),
    one::<Process>("/process", "process"),
    many::<Mount>("/mounts", "mount"),
];

impl Field {
    fn check(&self, document: &Value) -> Result<(), SpecificationError> {
        let Some(value) = document.pointer(self.pointer).filter(|value| !value.is_null()) else {
            return Ok(());
        };
        let values = match value {
            Value::Array(values) if self.list => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for (at, value) in values.iter().enumerate() {
            (self.check)(value.clone()).map_err(|source| {
                let mut field = self.pointer.trim_start_matches('/').replace('/', ".");
                if self.list {
                    field = format!("{field}[{at}]");
                }
                SpecificationError::Field { what: self.what, field, source }
            })?;
        }
        Ok(())
    }
}

/// Puts into the types' words what the specification spells otherwise or lets be passed over.
fn respell(process: &mut Value, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else { return };
    // Go's encoder writes it always, Go's decoder does not ask for it.
    if process.get("user").is_none_or(Value::is_null) {
        process.insert("user".into(), json!({}));
    }
    for set in process.get_mut("capabilities").and_then(Value::as_object_mut).into_iter().flatten()
    {
        if let Value::Array(names) = set.1 {
            names.retain(|name| is_known(name, warnings));
        }
    }
    for flag in strings(process.get_mut("scheduler").and_then(|s| s.get_mut("flags"))) {
        let spelled = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = json!(spelled);
    }
    if let Some(Value::Object(affinity)) = process.get_mut("execCPUAffinity") {
        affinity.retain(|_, list| list != "");
    }
}

fn strings(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

/// A capability that cannot be mapped to one of the kernel's must be told of, and is not granted
/// ("Linux Process", `capabilities`).
fn is_known(name: &Value, warnings: &mut Vec<String>) -> bool {
    if !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok() {
        return true;
    }
    let warning = format!("ignoring unknown or unavailable capabilities: [{name}]");
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
    false
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxSchedulerFlag;

    use super::*;

    fn spec(process: &Value, linux: &Value) -> Result<Parsed<Spec>, SpecificationError> {
        let text = json!({"ociVersion": "1.3.0", "process": process, "linux": linux}).to_string();
        parse_spec(text.as_bytes())
    }

    #[test]
    fn unknown_capabilities_are_told_of() {
        let process = json!({
            "cwd": "/", "user": {"uid": 0, "gid": 0},
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_UNKNOWN"], "permitted": ["CAP_UNKNOWN"],
            },
        });
        let parsed = spec(&process, &json!({})).unwrap();
        assert_eq!(parsed.warnings.len(), 1);
        assert!(parsed.warnings[0].contains("CAP_UNKNOWN"), "{:?}", parsed.warnings);
        let process = parsed.value.process().clone().unwrap();
        let bounding = process.capabilities().clone().unwrap().bounding().clone().unwrap();
        assert_eq!(bounding, [Capability::Kill].into());
    }

    #[test]
    fn the_specifications_spelling_is_understood() {
        let process = json!({
            "cwd": "/",
            "scheduler": {
                "policy": "SCHED_DEADLINE",
                "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"],
            },
            "execCPUAffinity": {"initial": "0-1", "final": ""},
        });
        let parsed = parse_process(process.to_string().as_bytes()).unwrap();
        assert!(parsed.warnings.is_empty());
        let flags = parsed.value.scheduler().clone().unwrap().flags().clone().unwrap();
        use LinuxSchedulerFlag::{SchedFlagDLOverrun, SchedFlagReclaim, SchedResetOnFork};
        assert_eq!(flags, [SchedResetOnFork, SchedFlagDLOverrun, SchedFlagReclaim]);
        let affinity = parsed.value.exec_cpu_affinity().clone().unwrap();
        assert_eq!(affinity.initial().as_deref(), Some("0-1"));
        assert_eq!(affinity.cpu_affinity_final().as_deref(), None);
    }

    #[test]
    fn an_error_names_the_field() {
        let process = json!({"cwd": "/", "user": {}});
        let cases = [
            (
                json!({"memoryPolicy": {"mode": "INTERLEAVE"}}),
                "invalid memory policy mode: `linux.memoryPolicy.mode`",
            ),
            (json!({"memoryPolicy": {}}), "invalid memory policy mode: `linux.memoryPolicy`"),
            (
                json!({"memoryPolicy": {"mode": "MPOL_DEFAULT", "flags": ["bad"]}}),
                "invalid memory policy flag: `linux.memoryPolicy.flags[0]`",
            ),
            (
                json!({"namespaces": [{"type": "pid"}, {"type": "x"}]}),
                "invalid namespace: `linux.namespaces[1]`",
            ),
            (json!({"personality": {"domain": "BSD"}}), "invalid personality: `linux.personality`"),
        ];
        for (linux, expected) in cases {
            assert_eq!(spec(&process, &linux).unwrap_err().to_string(), expected);
        }
        let limits = json!({"cwd": "/", "user": {}, "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]});
        let error = spec(&limits, &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "invalid resource limit: `process.rlimits[0]`");
        assert!(parse_spec(b"{").is_err());
    }
}
