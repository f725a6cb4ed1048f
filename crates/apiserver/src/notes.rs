//! What is noted of a request while it is answered: for people, and for auditors.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Warnings and annotations. Copies of a request share them.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

impl Notes {
    /// What a person should know.
    pub(crate) fn warn(&self, what: impl Into<String>) {
        let what = what.into();
        let mut noted = self.lock();
        if !noted.warnings.contains(&what) {
            noted.warnings.push(what);
        }
    }

    /// What an auditor should know, of which there is one for each key.
    pub(crate) fn annotate(&self, key: impl Into<String>, value: &str) {
        self.lock().annotations.insert(key.into(), value.to_owned());
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        mem::take(&mut self.lock().warnings)
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        self.lock().annotations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
