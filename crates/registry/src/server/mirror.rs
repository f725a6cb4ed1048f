//! (to come)
use std::sync::Arc;

use super::digest::AnyDigest;
use super::failure::Failure;
use super::handler::Registry;
use super::head::Head;
use super::reply::Reply;
use super::route::{RepositoryName, Target};

#[derive(Debug, Default)]
pub(super) struct Mirrors {}

pub(super) struct Place {}

impl Mirrors {
    pub(super) fn owns(&self, _name: &RepositoryName, _head: &Head) -> bool {
        false
    }
}

impl Registry {
    pub(super) fn mirrored(&self, _name: &RepositoryName, _head: &Head) -> Option<Place> {
        None
    }

    pub(super) fn mirror_manifest(
        &self,
        _place: &Place,
        _head: &Head,
        _target: &Target,
    ) -> Result<Reply, Failure> {
        Ok(Reply::new(500))
    }

    pub(super) fn mirror_blob(
        self: &Arc<Self>,
        _place: &Place,
        _head: &Head,
        _digest: &AnyDigest,
    ) -> Result<Reply, Failure> {
        Ok(Reply::new(500))
    }
}
