//! What this server cannot do yet, and what somebody would rely on: it is refused, or told.

use objects::validate::{Invalid, Problem};

use super::Review;
use crate::cluster::items;
use crate::failure::Failure;

pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    if review.is("networking.k8s.io", "NetworkPolicy") {
        // Charts bring policies along, and run without them on many networks.
        let why =
            "this policy is kept and not enforced: the network of this server has no policies yet";
        review.request.notes.warn(why);
    }
    let ranges = &review.object["spec"]["loadBalancerSourceRanges"];
    if review.is("", "Service") && !items(ranges).is_empty() {
        // Whoever shuts others out must not believe that they are.
        let why = "this server does not keep anybody from a service yet".to_owned();
        let field = "spec.loadBalancerSourceRanges".to_owned();
        let found = [Invalid { field, problem: Problem::Forbidden(why) }];
        return Err(Failure::invalid(&review.target.resource, review.name(), &found));
    }
    Ok(())
}
