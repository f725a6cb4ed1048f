//! Where outcomes of steps are brought and had from: `--cache-to` and `--cache-from`.

use engine::JobCache;

use super::attribute::imports;
use super::solve::{Attributes, Solve};
use super::{Outcome, invalid, is_true, unsupported};

const INSTEAD: &str = "there are registry and inline; `cais build` has local directories, too";

/// The names of the caches that are used.
pub(super) fn sources(solve: &Solve, attributes: &Attributes) -> Outcome<Vec<String>> {
    let mut all = solve.cache_from.clone();
    if let Some(text) = attributes.get("cache-imports") {
        all.extend(imports(text)?);
    }
    let mut names: Vec<String> = attributes
        .get("cache-from")
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    for (kind, mut attributes) in all {
        let name = name(&kind, &mut attributes)?;
        end(&kind, &attributes)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Those that are made.
pub(super) fn targets(solve: &Solve) -> Outcome<Vec<JobCache>> {
    let target = |(kind, attributes): &(String, Attributes)| {
        let mut attributes = attributes.clone();
        let name = match kind.as_str() {
            "inline" => None,
            kind => Some(name(kind, &mut attributes)?),
        };
        let is_max = match attributes.remove("mode").as_deref() {
            None | Some("" | "min") => false,
            Some("max") if name.is_some() => true,
            Some(mode) => {
                return Err(unsupported(format!(
                    "mode={mode} of a cache of type={kind} is not supported"
                )));
            }
        };
        let may_fail = attributes.remove("ignore-error").is_some_and(|value| is_true(&value));
        // An OCI manifest with gzip is the one form there is.
        for form in ["oci-mediatypes", "image-manifest"] {
            if attributes.remove(form).is_some_and(|value| !is_true(&value)) {
                return Err(unsupported(format!("{form}=false of a cache is not supported")));
            }
        }
        end(kind, &attributes)?;
        Ok(JobCache { name, is_max, may_fail })
    };
    solve.cache_to.iter().map(target).collect()
}

fn name(kind: &str, attributes: &mut Attributes) -> Outcome<String> {
    if kind != "registry" {
        return Err(unsupported(format!("a cache of type={kind} is not supported: {INSTEAD}")));
    }
    let name = attributes.remove("ref").filter(|name| !name.is_empty());
    name.ok_or_else(|| invalid("a cache of type=registry needs a ref"))
}

/// What is left is not known.
fn end(kind: &str, attributes: &Attributes) -> Outcome {
    match attributes.keys().next() {
        None => Ok(()),
        Some(key) => Err(unsupported(format!("{key} of a cache of type={kind} is not supported"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solve(kind: &str, pairs: &[(&str, &str)]) -> Solve {
        let all = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let cache = (kind.to_owned(), all.collect());
        Solve { cache_to: vec![cache], ..Solve::default() }
    }

    #[test]
    fn caches_are_in_registries_or_images() {
        let target = |kind, pairs| targets(&solve(kind, pairs)).map(|mut all| all.remove(0));
        let made = target("registry", &[("ref", "r/c"), ("mode", "max"), ("ignore-error", "true")]);
        let name = Some("r/c".to_owned());
        assert_eq!(made, Ok(JobCache { name, is_max: true, may_fail: true }));
        assert_eq!(
            target("inline", &[]),
            Ok(JobCache { name: None, is_max: false, may_fail: false })
        );
        for (kind, pairs) in [
            ("local", &[("dest", "x")][..]),
            ("registry", &[]),
            ("inline", &[("mode", "max")]),
            ("registry", &[("ref", "r/c"), ("compression", "zstd")]),
            ("registry", &[("ref", "r/c"), ("image-manifest", "false")]),
        ] {
            assert!(target(kind, pairs).is_err(), "{kind} {pairs:?}");
        }
    }
}
