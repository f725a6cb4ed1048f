//! Custom resources: what a CustomResourceDefinition says of the objects of its kind, and what
//! becomes of them by it.
//!
//! A [`Definition`] is one version of a kind. Objects go through it in upstream's order: what it does
//! not know is [pruned](Definition::prune), what is absent is [completed](Definition::complete),
//! and the rest is [checked](Definition::check).

mod definition;
mod path;
mod structural;
mod validate;
mod values;

use serde_json::{Map, Value};

pub(crate) use definition::{check, check_update, complete};
pub use definition::{resources, settle, terminating};
pub use path::Path;
pub use structural::forget_unknown;

use crate::decode::Unknown;
use crate::schema::{Schema, TypeId};
use crate::validate::Invalid;

/// What a version of a CustomResourceDefinition says.
#[derive(Debug)]
pub struct Definition {
    /// The name of the CustomResourceDefinition.
    pub name: String,
    /// What lists of it are called.
    pub list_kind: String,
    /// The columns of its tables; none for its age alone.
    pub columns: Vec<Column>,
    /// Where its scale is, if it has one.
    pub scale: Option<Scale>,
    /// Fields that can be selected by, as selectors name them.
    pub selectable: Vec<String>,
    /// What who uses this version is told.
    pub warning: Option<String>,
    /// Whether the definition goes: nothing new is made then.
    pub is_going: bool,
    /// Who converts its objects, `null` if their `apiVersion` is all that differs.
    pub(crate) conversion: Value,
    /// The version that its objects are kept in then: `GROUP/VERSION`.
    pub(crate) kept: String,
    /// What it was made of.
    source: Value,
    typed: (Schema, TypeId),
}

/// A column that a definition adds to tables of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// `string`, `integer`, `date`, …
    pub kind: String,
    /// `int32`, for example.
    pub format: String,
    /// For people.
    pub description: String,
    /// Above zero: shown only to who wants everything.
    pub priority: i64,
    /// Where its value is.
    pub path: Path,
}

/// Where the scale of an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// How many are wanted.
    pub spec: Path,
    /// How many there are.
    pub status: Path,
    /// Which they are, as a selector of labels.
    pub selector: Option<Path>,
}

impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.source) == (&other.name, &other.source)
    }
}

impl Eq for Definition {}

impl Definition {
    /// The structural schema of its objects, as OpenAPI.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.source["schema"]["openAPIV3Schema"]
    }

    /// The same as types, for merging.
    #[must_use]
    pub fn types(&self) -> (&Schema, TypeId) {
        (&self.typed.0, self.typed.1)
    }

    /// The webhook that converts its objects from version to version; `None` if all are alike but for
    /// what they are called.
    #[must_use]
    pub fn conversion(&self) -> Option<&Value> {
        Some(&self.conversion).filter(|webhook| !webhook.is_null())
    }

    /// The version, `GROUP/VERSION`, that its objects are kept in where a webhook converts them.
    #[must_use]
    pub fn kept_version(&self) -> &str {
        &self.kept
    }

    /// Whether what the status says is changed apart from the rest.
    #[must_use]
    pub fn has_status(&self) -> bool {
        !self.source["subresources"]["status"].is_null()
    }

    /// Removes what the schema does not know, and returns it.
    #[must_use]
    pub fn prune(&self, object: &mut Map<String, Value>) -> Vec<Unknown> {
        values::prune(self.schema(), object)
    }

    /// Adds what the schema has as default for what is absent; null stands for that, where it may
    /// not stand for itself.
    pub fn complete(&self, object: &mut Map<String, Value>) {
        values::complete(self.schema(), object);
    }

    /// What of an object is not as the schema has it.
    #[must_use]
    pub fn check(&self, object: &Value) -> Vec<Invalid> {
        validate::check(self.schema(), object)
    }
}
