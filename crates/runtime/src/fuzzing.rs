//! What must hold of every input from outside, for the targets in `fuzz/` and for short tests.

use std::collections::HashSet;

use oci::Parsed;

use crate::mount::option::Options;
use crate::namespace::Plan;
use crate::parent;
use crate::seccomp::machine::{self, Call};
use crate::seccomp::{compile, docker_profile};

/// A profile in Docker's format is refused, or becomes a program that the kernel would load and
/// that answers every call.
///
/// # Panics
/// If it does not hold.
pub fn seccomp(json: &[u8]) {
    let Ok(profile) = docker_profile(json, &HashSet::new()) else { return };
    let Ok(filter) = compile(&profile) else { return };
    let code = filter.instructions();
    machine::verify(code).expect("the kernel loads what was compiled");
    // x86_64, x86, aarch64, none.
    for arch in [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0] {
        for number in [0, 1, 56, 231, 469, 0x4000_0001, 0xf_0001, u32::MAX] {
            for args in [[0; 6], [u64::MAX; 6]] {
                let call = Call { arch, number, args, big_endian: false };
                let (answer, _) = machine::run(code, &call);
                let constant = machine::constant(code, arch, number);
                assert!(constant.is_none_or(|constant| constant == answer), "{call:?}");
            }
        }
    }
}

/// A specification is refused, or passes through every check that precedes the first process.
///
/// # Panics
/// If it does not hold.
pub fn config(json: &[u8]) {
    let Ok(Parsed { value: spec, .. }) = oci::parse_spec(json) else { return };
    for mount in spec.mounts().iter().flatten() {
        let _ = Options::parse(mount.options().as_deref().unwrap_or_default());
    }
    let linux = spec.linux().as_ref();
    let _ = parent::compile(linux.and_then(|linux| linux.seccomp().as_ref()));
    let (Some(process), Ok(plan)) = (spec.process(), Plan::new(&spec)) else { return };
    let _ = parent::check(&spec, process, &plan);
    let _ = crate::program::Program::new(process, "/root");
}

/// The options of a mount, one word a line, are refused, or each is understood or kept for the
/// file system; the order of reading them twice changes nothing.
///
/// # Panics
/// If it does not hold.
pub fn mount_options(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    let options = Options::parse(&words);
    let kept: Vec<&str> = options.parameters.iter().map(|(key, _)| key.as_str()).collect();
    assert!(kept.len() <= words.len(), "{words:?} became {kept:?}");
    let attr = options.attr();
    assert_eq!(attr.set & attr.clear & !ATIME, 0, "{words:?}");
    assert_eq!(options.recursive.set & options.recursive.clear & !ATIME, 0, "{words:?}");
}

/// The bits of the access-time mode: it is one value, cleared before it is set.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;

#[cfg(test)]
mod tests {
    use oci::runtime::Spec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Numbers at the edges, words that mean something, and words that do not.
    fn any_leaf() -> impl Strategy<Value = Value> {
        let words = [
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_S390X",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_GT",
            "SECCOMP_FILTER_FLAG_LOG",
            "read",
            "clone",
            "socket",
            "write",
            "mount",
            "user",
            "time",
            "/proc/self/ns/net",
            "rbind",
            "ro",
            "",
            "1",
            "../..",
            "a\u{0}b",
        ];
        prop_oneof![
            4 => prop::sample::select(words.to_vec()).prop_map(|word| json!(word)),
            2 => prop::sample::select(vec![0, 1, 5, 6, 4095, 4096, u64::MAX]).prop_map(|n| json!(n)),
            1 => any::<i64>().prop_map(|n| json!(n)),
            1 => any::<bool>().prop_map(|b| json!(b)),
            1 => Just(Value::Null),
        ]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let keys = [
            "defaultAction",
            "defaultErrnoRet",
            "architectures",
            "syscalls",
            "names",
            "action",
            "args",
            "index",
            "value",
            "valueTwo",
            "op",
            "flags",
            "listenerPath",
            "errnoRet",
            "ociVersion",
            "process",
            "linux",
            "seccomp",
            "namespaces",
            "type",
            "path",
            "mounts",
            "options",
            "destination",
            "user",
            "uid",
            "gid",
            "cwd",
            "env",
            "rlimits",
            "sysctl",
            "uidMappings",
            "gidMappings",
            "containerID",
            "hostID",
            "size",
            "capabilities",
            "timeOffsets",
            "hooks",
            "scheduler",
            "root",
            "devices",
            "resources",
        ];
        any_leaf().prop_recursive(5, 48, 6, move |inner| {
            let object = (prop::sample::select(keys.to_vec()), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
                prop::collection::vec(object, 0..8).prop_map(|entries| {
                    Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
                }),
            ]
        })
    }

    /// A document that is right, with one part replaced by anything.
    fn any_mutation(document: Value) -> impl Strategy<Value = Value> {
        let paths = paths(&document);
        let change = (prop::sample::select(paths), any_value());
        prop::collection::vec(change, 1..4).prop_map(move |changes| {
            let mut document = document.clone();
            for (path, value) in changes {
                if let Some(part) = document.pointer_mut(&path) {
                    *part = value;
                }
            }
            document
        })
    }

    fn paths(value: &Value) -> Vec<String> {
        let below = |key: &str, value: &Value| {
            let own = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            let inner = paths(value).into_iter().map(|path| format!("{own}{path}"));
            std::iter::once(own.clone()).chain(inner).collect::<Vec<_>>()
        };
        match value {
            Value::Array(list) => list
                .iter()
                .enumerate()
                .flat_map(|(index, value)| below(&index.to_string(), value))
                .collect(),
            Value::Object(map) => map.iter().flat_map(|(key, value)| below(key, value)).collect(),
            _ => Vec::new(),
        }
    }

    fn profile() -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": [],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket", "clone"], "action": "SCMP_ACT_TRACE", "errnoRet": 3, "args": [
                    {"index": 0, "value": 40, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                    {"index": 1, "value": 7, "op": "SCMP_CMP_GT"}]}],
        })
    }

    fn specification() -> Value {
        let mut spec = serde_json::to_value(Spec::default()).unwrap();
        spec["linux"]["seccomp"] = profile();
        spec
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn profiles(document in any_mutation(profile())) {
            seccomp(document.to_string().as_bytes());
        }

        #[test]
        fn specifications(document in any_mutation(specification())) {
            config(document.to_string().as_bytes());
        }

        #[test]
        fn options(words in prop::collection::vec("(r?(ro|rw|suid|nosuid|atime|noatime|relatime|strictatime|private|slave|bind|idmap)|[a-z]{0,4}=?[a-z]{0,3}|\\PC{0,6})", 0..8)) {
            mount_options(words.join("\n").as_bytes());
        }
    }

    /// The mutations start from documents that pass.
    #[test]
    fn what_is_mutated_is_right() {
        docker_profile(profile().to_string().as_bytes(), &HashSet::new())
            .and_then(|profile| compile(&profile))
            .unwrap();
        oci::parse_spec(specification().to_string().as_bytes()).unwrap();
    }
}
