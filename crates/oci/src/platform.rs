//! Platforms of images: `os/architecture[/variant]` (image-spec, image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, processor architecture and its variant, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, as `GOOS` spells it.
    pub os: String,
    /// `amd64`, `arm64`, …, as `GOARCH` spells it.
    pub architecture: String,
    /// `v7`, `v8`, …: a refinement of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a string is not a [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid platform `{0}`: expected os/architecture or os/architecture/variant, for example linux/arm64"
)]
pub struct PlatformError(String);

impl Platform {
    /// The platform this binary was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = normal(std::env::consts::ARCH, None);
        Self { os: "linux".into(), architecture, variant }
    }

    /// Whether an image for `offered` runs where `self` is wanted.
    ///
    /// A missing variant on either side matches any.
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        let (architecture, variant) = normal(&offered.architecture, offered.variant.as_deref());
        let (wanted, wanted_variant) = normal(&self.architecture, self.variant.as_deref());
        self.os == offered.os
            && wanted == architecture
            && (wanted_variant.is_none() || variant.is_none() || wanted_variant == variant)
    }
}

/// Spells an architecture the way Go does; `arm64`'s only variant is implied.
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armhf" => "arm",
        "powerpc64le" => "ppc64le",
        other => other,
    };
    let variant = variant.filter(|v| !(v.is_empty() || architecture == "arm64" && *v == "v8"));
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError(text.to_owned())),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(PlatformError(text.to_owned()));
        }
        let (architecture, variant) = normal(&architecture.to_lowercase(), variant);
        Ok(Self { os: os.to_lowercase(), architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(out, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_are_normalised() {
        assert_eq!(platform("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(platform("Linux/aarch64").to_string(), "linux/arm64");
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux//".parse::<Platform>().is_err());
    }

    #[test]
    fn variants_narrow_only_where_both_have_one() {
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/arm/v7").accepts(&platform("linux/arm/v6")));
        assert!(!platform("linux/amd64").accepts(&platform("linux/arm64")));
    }
}
