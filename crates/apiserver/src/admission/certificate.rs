//! Requests for certificates: who made them is what the server knows, and only some approve and sign
//! (upstream's strategy of the kind, `CertificateApproval` and `CertificateSigning`).

use serde_json::{Value, json};

use super::Review;
use crate::authorization::Attributes;
use crate::failure::Failure;

const GROUP: &str = "certificates.k8s.io";
const KIND: &str = "CertificateSigningRequest";

/// Notes who asks; what was asked stays as it was asked.
pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is(GROUP, KIND) {
        return Ok(());
    }
    if let Some(old) = review.old {
        review.object["spec"] = old["spec"].clone();
        if review.target.subresource == "approval" && review.object["status"].is_object() {
            // Who approves does not sign.
            match &old["status"]["certificate"] {
                Value::Null => drop(
                    review.object["status"].as_object_mut().map(|s| s.shift_remove("certificate")),
                ),
                own => review.object["status"]["certificate"] = own.clone(),
            }
        }
        return Ok(());
    }
    let user = &review.request.user;
    let spec = &mut review.object["spec"];
    spec["username"] = user.name.clone().into();
    for (field, value) in [
        ("uid", (!user.uid.is_empty()).then(|| json!(user.uid))),
        ("groups", (!user.groups.is_empty()).then(|| json!(user.groups))),
        ("extra", (!user.extra.is_empty()).then(|| json!(user.extra))),
    ] {
        match (value, spec.as_object_mut()) {
            (Some(value), _) => spec[field] = value,
            (None, Some(spec)) => drop(spec.shift_remove(field)),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Refuses approval and certificates by those who may not give them in a signer's name.
pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    let Some(old) = review.old.filter(|_| review.is(GROUP, KIND)) else { return Ok(()) };
    let verb = match review.target.subresource.as_str() {
        "approval" => "approve",
        "status" if old["status"]["certificate"] != review.object["status"]["certificate"] => {
            "sign"
        }
        _ => return Ok(()),
    };
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    match may(review, verb, signer)? {
        true => Ok(()),
        false => {
            let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
            Err(review.forbidden(&why))
        }
    }
}

/// Whether whoever asks may do something for a signer, or for all of its domain.
fn may(review: &Review<'_>, verb: &str, signer: &str) -> Result<bool, Failure> {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let asked = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        if review.cluster.may(&review.request.user, &asked)? {
            return Ok(true);
        }
    }
    Ok(false)
}
