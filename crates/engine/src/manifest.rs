//! Indexes in the making: lists of manifests that lie in registries, kept here until they are
//! pushed.
//!
//! ```text
//! <root>/manifests/<hex>.json   one list; named by the digest of its reference
//! ```

use std::path::PathBuf;

use oci::{Digest, Document, Reference, media_type};
use registry::{Client, Fetched};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Engine;
use crate::error::{Error, Kind, Result};
use crate::file::{create_dir, read_json, write_json};
use crate::image::{from_registry, moving};

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestList {
    /// What it will be pushed as.
    pub reference: Reference,
    /// What it lists, in the order in which it was given.
    pub entries: Vec<ListEntry>,
}

/// One manifest of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Where it is.
    pub reference: Reference,
    /// What it is.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its text.
    pub text: String,
    /// What it runs on.
    pub platform: ListPlatform,
}

/// A platform with everything that an index can say about it (image-spec, image-index.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPlatform {
    architecture: String,
    os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
}

/// What is to be changed of a platform; what is empty stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlatformEdit {
    /// Processor architecture.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system.
    pub os_version: String,
    /// Features of the operating system that are needed; they are added.
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    pub variant: String,
}

impl ListEntry {
    /// As an index describes it.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "size": self.size,
            "digest": self.digest,
            "platform": self.platform,
        })
    }
}

impl ManifestList {
    /// The index: the OCI's, unless everything in it is Docker's.
    #[must_use]
    pub fn index(&self) -> Value {
        let docker = self.entries.iter().any(|e| e.media_type == media_type::DOCKER_MANIFEST);
        let kind = if docker { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
        json!({
            "schemaVersion": 2,
            "mediaType": kind,
            "manifests": self.entries.iter().map(ListEntry::descriptor).collect::<Vec<_>>(),
        })
    }
}

/// An index as Docker writes it, so that the same list has the same digest wherever it was made.
fn written(index: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, form);
    // A tree of values that is in memory can be written to memory.
    let _ = index.serialize(&mut out);
    bytes
}

fn no_such(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("No such manifest: {name}"))
        .hint("`cais manifest create` makes a list")
}

impl Engine {
    fn manifest_folder(&self) -> PathBuf {
        self.root.join("manifests")
    }

    fn manifest_file(reference: &Reference) -> String {
        format!("{}.json", Digest::of(reference.to_string().as_bytes()).hex())
    }

    /// A client that is careless about certificates of these registries, if told so.
    fn manifest_client(&self, references: &[&Reference], insecure: bool) -> Result<Client> {
        let mut config = self.registry.clone();
        for reference in references.iter().filter(|_| insecure) {
            config.hosts.entry(reference.registry().to_owned()).or_default().insecure = true;
        }
        let auth = registry::Auth::load().map_err(from_registry)?;
        Ok(Client::new(&config, auth))
    }

    /// The manifest or index that a registry has.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and as of [`Engine::pull`].
    pub fn manifest(&self, reference: &Reference, insecure: bool) -> Result<Fetched> {
        let client = self.manifest_client(&[reference], insecure)?;
        registry::fetch_manifest(&client, reference).map_err(|error| match error {
            registry::Error::NotFound { .. } => {
                let text = format!("no such manifest: {}", reference.familiar());
                Error::new(Kind::NotFound, text).hint("check the name and the tag")
            }
            error => moving(format!("inspect {}", reference.familiar()), error),
        })
    }

    /// A manifest as a list has it, with the platform that its configuration says.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an index, and as of [`Engine::manifest`].
    pub fn list_entry(&self, reference: &Reference, insecure: bool) -> Result<ListEntry> {
        let fetched = self.manifest(reference, insecure)?;
        let failed = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("{}: {why}", reference.familiar()))
        };
        let manifest = match Document::parse(&fetched.bytes, &fetched.media_type) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => {
                let text = format!("{} is a manifest list", reference.familiar());
                return Err(Error::invalid(text).hint("name one of its manifests by digest"));
            }
            Err(error) => return Err(failed(&error)),
        };
        let client = self.manifest_client(&[reference], insecure)?;
        let platform = registry::fetch_platform(&client, reference, &manifest.config)
            .map_err(|error| moving(format!("inspect {}", reference.familiar()), error))?;
        Ok(ListEntry {
            reference: reference.clone(),
            media_type: fetched.media_type,
            size: fetched.bytes.len() as u64,
            digest: fetched.digest,
            text: String::from_utf8(fetched.bytes).map_err(|error| failed(&error))?,
            platform: ListPlatform {
                architecture: platform.architecture,
                os: platform.os,
                variant: platform.variant.unwrap_or_default(),
                ..ListPlatform::default()
            },
        })
    }

    /// The list that is kept here under a name.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn manifest_list(&self, reference: &Reference) -> Result<ManifestList> {
        let path = self.manifest_folder().join(Self::manifest_file(reference));
        match path.exists() {
            true => read_json(&path),
            false => Err(no_such(&reference.familiar())),
        }
    }

    fn keep_list(&self, list: &ManifestList) -> Result<()> {
        let folder = self.manifest_folder();
        create_dir(&folder)?;
        write_json(&folder, &Self::manifest_file(&list.reference), list)
    }

    /// Makes a list, or adds to one.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if there is one and it is not to be amended, and as of
    /// [`Engine::list_entry`].
    pub fn create_manifest_list(
        &self,
        reference: &Reference,
        members: &[Reference],
        amend: bool,
        insecure: bool,
    ) -> Result<()> {
        let mut list = match self.manifest_list(reference) {
            Ok(_) if !amend => {
                let text = "refusing to amend an existing manifest list with no --amend flag";
                return Err(Error::new(Kind::Conflict, text)
                    .hint("`cais manifest rm` removes the list that is here"));
            }
            Err(error) if error.kind() == Kind::NotFound => {
                ManifestList { reference: reference.clone(), entries: Vec::new() }
            }
            known => known?,
        };
        for member in members {
            let entry = self.list_entry(member, insecure)?;
            list.entries.retain(|known| known.reference != *member);
            list.entries.push(entry);
        }
        self.keep_list(&list)
    }

    /// Says something else about the platform of a manifest of a list.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such list, or the manifest is not in it.
    pub fn annotate_manifest(
        &self,
        reference: &Reference,
        member: &Reference,
        edit: &PlatformEdit,
    ) -> Result<()> {
        let mut list = self.manifest_list(reference)?;
        let entry = list.entries.iter_mut().find(|entry| entry.reference == *member);
        let entry = entry.ok_or_else(|| {
            let (member, list) = (member.familiar(), reference.familiar());
            let text = format!("manifest for image {member} does not exist in {list}");
            Error::new(Kind::NotFound, text).hint("`cais manifest create --amend` adds it")
        })?;
        let platform = &mut entry.platform;
        for (new, known) in [
            (&edit.architecture, &mut platform.architecture),
            (&edit.os, &mut platform.os),
            (&edit.os_version, &mut platform.os_version),
            (&edit.variant, &mut platform.variant),
        ] {
            if !new.is_empty() {
                known.clone_from(new);
            }
        }
        for feature in &edit.os_features {
            if !platform.os_features.contains(feature) {
                platform.os_features.push(feature.clone());
            }
        }
        self.keep_list(&list)
    }

    /// Brings all manifests of a list into its repository, and the index behind them: its digest.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such list, and as of [`Engine::push`].
    pub fn push_manifest_list(
        &self,
        reference: &Reference,
        insecure: bool,
        tell: &(dyn Fn(Digest) + Sync),
    ) -> Result<Digest> {
        let list = self.manifest_list(reference)?;
        let index = list.index();
        let kind = index["mediaType"].as_str().unwrap_or_default().to_owned();
        let bytes = written(&index);
        let digest = Digest::of(&bytes);
        let fetched = Fetched { bytes, media_type: kind, digest };
        let members: Vec<Reference> =
            list.entries.iter().map(|entry| entry.reference.with_digest(entry.digest)).collect();
        let all: Vec<&Reference> = members.iter().chain([reference]).collect();
        let client = self.manifest_client(&all, insecure)?;
        registry::push_index(&client, &members, fetched, reference, tell)
            .map_err(|error| moving(format!("push {}", reference.familiar()), error))?;
        Ok(digest)
    }

    /// Forgets a list.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn remove_manifest_list(&self, reference: &Reference) -> Result<()> {
        let path = self.manifest_folder().join(Self::manifest_file(reference));
        std::fs::remove_file(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => no_such(&reference.familiar()),
            _ => Error::caused(Kind::Internal, "remove a manifest list", error),
        })
    }
}
