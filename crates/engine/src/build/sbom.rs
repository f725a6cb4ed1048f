//! What software is in an image, from the data bases of package managers, as SPDX 2.3.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use build::Ignore;
use jiff::Timestamp;
use oci::Digest;
use serde_json::{Value, json};

use super::source::{Source, Wanted};
use crate::error::{Doing, Result};

/// Of one data base or description of a package, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Of all packages.
const PACKAGES_MAX: usize = 1_000_000;
const NOTHING: &str = "NOASSERTION";

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    /// As package URLs call it: `deb`, `apk`, `pypi`, `npm`.
    kind: &'static str,
    name: String,
    version: String,
    /// `arch=amd64` and the like.
    qualifier: String,
    license: String,
    supplier: String,
}

/// Where a package is described.
#[derive(Clone, Copy)]
enum Database {
    Dpkg,
    Apk,
    Python,
    Npm,
}

/// The document about an image whose files are `files`.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn spdx(files: &Source, name: &str, image: &Digest, epoch_s: i64) -> Result<Value> {
    let all = Wanted { path: "/", parents: None, exclude: &Ignore::default() };
    let mut packages = BTreeSet::new();
    let mut distribution = "linux".to_owned();
    for entry in files.pick(&all)?.iter().flat_map(|picked| &picked.entries) {
        let path = entry.path.to_string_lossy();
        let read = || -> Result<String> {
            let mut bytes = Vec::new();
            let file = files.open_file(&entry.path)?;
            file.take(FILE_BYTES_MAX)
                .read_to_end(&mut bytes)
                .doing(|| format!("read {}", entry.path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        if rustix::fs::FileType::from_raw_mode(entry.stat.st_mode)
            != rustix::fs::FileType::RegularFile
        {
            continue;
        }
        if matches!(&*path, "etc/os-release" | "usr/lib/os-release") {
            let id = read()?.lines().find_map(|line| line.strip_prefix("ID=").map(str::to_owned));
            distribution = id.map_or(distribution, |id| id.trim_matches('"').to_owned());
        }
        let Some(database) = database(&path) else { continue };
        packages.extend(installed(database, &read()?));
        if packages.len() > PACKAGES_MAX {
            return Err(crate::Error::invalid(format!("more than {PACKAGES_MAX} packages")));
        }
    }
    Ok(document(&packages, &distribution, name, image, epoch_s))
}

fn database(path: &str) -> Option<Database> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let parts = || path.rsplit('/');
    match file {
        "status" if path == "var/lib/dpkg/status" => Some(Database::Dpkg),
        _ if path.starts_with("var/lib/dpkg/status.d/") && !file.ends_with(".md5sums") => {
            Some(Database::Dpkg)
        }
        "installed" if matches!(path, "lib/apk/db/installed" | "usr/lib/apk/db/installed") => {
            Some(Database::Apk)
        }
        "METADATA" if parts().nth(1).is_some_and(|above| above.ends_with(".dist-info")) => {
            Some(Database::Python)
        }
        "PKG-INFO" if parts().nth(1).is_some_and(|above| above.ends_with(".egg-info")) => {
            Some(Database::Python)
        }
        "package.json" => {
            let is_scoped = parts().nth(2).is_some_and(|above| above.starts_with('@'));
            let above = parts().nth(if is_scoped { 3 } else { 2 });
            (above == Some("node_modules")).then_some(Database::Npm)
        }
        _ => None,
    }
}

fn installed(database: Database, text: &str) -> Vec<Package> {
    match database {
        Database::Dpkg => text.split("\n\n").filter_map(dpkg).collect(),
        Database::Apk => text.split("\n\n").filter_map(apk).collect(),
        Database::Python => python(text).into_iter().collect(),
        Database::Npm => npm(text).into_iter().collect(),
    }
}

/// The first value of each field of a paragraph, whose lines are `Name: value`.
fn fields(paragraph: &str) -> BTreeMap<&str, &str> {
    let mut fields = BTreeMap::new();
    for line in paragraph.lines().take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && !line.starts_with([' ', '\t'])
        {
            fields.entry(name).or_insert_with(|| value.trim());
        }
    }
    fields
}

fn dpkg(paragraph: &str) -> Option<Package> {
    let fields = fields(paragraph.trim_start());
    let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    // Without a status it is a file of its own, which only what is installed has.
    let is_installed = text("Status").is_none_or(|status| status.ends_with(" installed"));
    Some(Package {
        kind: "deb",
        name: text("Package")?,
        version: text("Version")?,
        qualifier: text("Architecture").map_or_else(String::new, |arch| format!("arch={arch}")),
        license: String::new(),
        supplier: text("Maintainer").unwrap_or_default(),
    })
    .filter(|_| is_installed)
}

fn apk(paragraph: &str) -> Option<Package> {
    let fields = fields(paragraph.trim_start());
    let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    Some(Package {
        kind: "apk",
        name: text("P")?,
        version: text("V")?,
        qualifier: text("A").map_or_else(String::new, |arch| format!("arch={arch}")),
        license: text("L").unwrap_or_default(),
        supplier: text("m").unwrap_or_default(),
    })
}

fn python(text: &str) -> Option<Package> {
    let fields = fields(text);
    let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    Some(Package {
        kind: "pypi",
        // As PEP 503 compares names.
        name: text("Name")?.to_lowercase().replace(['_', '.'], "-"),
        version: text("Version")?,
        qualifier: String::new(),
        license: text("License").unwrap_or_default(),
        supplier: text("Author").unwrap_or_default(),
    })
}

fn npm(text: &str) -> Option<Package> {
    let package: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| package[name].as_str().map(str::to_owned);
    Some(Package {
        kind: "npm",
        name: text("name")?,
        version: text("version")?,
        qualifier: String::new(),
        license: text("license").unwrap_or_default(),
        supplier: String::new(),
    })
}

impl Package {
    /// Its package URL.
    fn url(&self, distribution: &str) -> String {
        let place = match self.kind {
            "deb" | "apk" => format!("{}/", escaped(distribution)),
            _ => String::new(),
        };
        let (name, version) = (self.name.split('/').map(escaped), escaped(&self.version));
        let name = name.collect::<Vec<_>>().join("/");
        let qualifier = match self.qualifier.as_str() {
            "" => String::new(),
            qualifier => format!("?{qualifier}"),
        };
        format!("pkg:{}/{place}{name}@{version}{qualifier}", self.kind)
    }

    fn described(&self, distribution: &str) -> Value {
        let url = self.url(distribution);
        let license = match self.license.as_str() {
            // What is no expression must not stand there.
            text if is_license(text) => text,
            _ => NOTHING,
        };
        let supplier = match self.supplier.as_str() {
            "" => NOTHING.to_owned(),
            text => format!("Person: {text}"),
        };
        json!({
            "SPDXID": reference(&url),
            "name": self.name,
            "versionInfo": self.version,
            "supplier": supplier,
            "downloadLocation": NOTHING,
            "filesAnalyzed": false,
            "licenseConcluded": NOTHING,
            "licenseDeclared": license,
            "copyrightText": NOTHING,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": url,
            }],
        })
    }
}

/// Whether a text looks like an SPDX license expression of one license.
fn is_license(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte))
        && text.contains(|c: char| c.is_ascii_digit() || c == '-' || c == 'T' || c == 'C')
}

/// As package URLs and URIs have it.
pub(crate) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn reference(url: &str) -> String {
    format!("SPDXRef-Package-{}", &Digest::of(url.as_bytes()).hex()[..16])
}

fn document(
    packages: &BTreeSet<Package>,
    distribution: &str,
    name: &str,
    image: &Digest,
    epoch_s: i64,
) -> Value {
    const ROOT: &str = "SPDXRef-DocumentRoot-Image";
    let created = Timestamp::from_second(epoch_s).unwrap_or_default().to_string();
    let mut described = vec![json!({
        "SPDXID": ROOT,
        "name": name,
        "versionInfo": image,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": "CONTAINER",
    })];
    let mut relations = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": ROOT,
    })];
    let mut seen = BTreeSet::new();
    for package in packages {
        let url = package.url(distribution);
        if seen.insert(url.clone()) {
            described.push(package.described(distribution));
            relations.push(json!({
                "spdxElementId": ROOT,
                "relationshipType": "CONTAINS",
                "relatedSpdxElement": reference(&url),
            }));
        }
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/image-{}", image.hex()),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: cais-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": described,
        "relationships": relations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_their_data_bases() {
        let urls = |path: &str, text: &str| -> Vec<String> {
            let packages = installed(database(path).unwrap(), text);
            packages.iter().map(|package| package.url("debian")).collect()
        };
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\n\
            Version: 1:2.0+b-1~x\nDescription: x\n more: y\n\n\
            Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n";
        let expected = ["pkg:deb/debian/a@1:2.0%2Bb-1~x?arch=amd64"];
        assert_eq!(urls("var/lib/dpkg/status", status), expected);
        let apk = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nF:lib\n\nP:b\nV:1\n";
        let expected = ["pkg:apk/debian/musl@1.2.4-r2?arch=x86_64", "pkg:apk/debian/b@1"];
        assert_eq!(urls("lib/apk/db/installed", apk), expected);
        let metadata = "Metadata-Version: 2.1\nName: My_Pkg\nVersion: 3.0\n\nName: not this\n";
        let path = "usr/lib/python3/dist-packages/My_Pkg-3.0.dist-info/METADATA";
        assert_eq!(urls(path, metadata), ["pkg:pypi/my-pkg@3.0"]);
        let package = r#"{"name": "@scope/x", "version": "1.0.0", "license": {"type": "MIT"}}"#;
        let path = "app/node_modules/@scope/x/package.json";
        assert_eq!(urls(path, package), ["pkg:npm/%40scope/x@1.0.0"]);
        for other in ["app/package.json", "METADATA", "var/lib/dpkg/status-old", "status"] {
            assert!(database(other).is_none(), "{other}");
        }
        assert!(npm("{").is_none() && npm("{}").is_none() && dpkg("").is_none());
    }

    #[test]
    fn every_package_is_in_the_document_once() {
        let package = python("Name: a\nVersion: 1\nLicense: MIT\n").unwrap();
        let other = Package { license: "some words".into(), ..package.clone() };
        let image = Digest::of(b"image");
        let document = document(&[package, other].into(), "debian", "name", &image, 0);
        assert_eq!(document["packages"].as_array().unwrap().len(), 2);
        assert_eq!(document["packages"][1]["licenseDeclared"], "MIT");
        assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
        let id = &document["packages"][1]["SPDXID"];
        assert_eq!(&document["relationships"][1]["relatedSpdxElement"], id);
    }
}
