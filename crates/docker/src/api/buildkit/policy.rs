//! Policies of the client about what a build may be made from. It is asked about each image by name;
//! a policy that wants to know more, or to have something else in its place, is refused.

use engine::Wants;
use grpc::proto::{Message, fields};
use grpc::{Code, Connection, Status};
use oci::{Platform, Reference};

use super::{Outcome, invalid, unsupported};

const CHECK: &str = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
/// `PolicyAction`
const ALLOW: u64 = 0;
const DENY: u64 = 1;

/// Refuses a Dockerfile with images that the client's policy does not want.
pub(super) fn check(session: &Connection, dockerfile: &str) -> Outcome {
    Wants::of(dockerfile).images.iter().try_for_each(|image| ask(session, image))
}

fn ask(session: &Connection, image: &str) -> Outcome {
    let reference: Reference = image.parse().map_err(|_| {
        unsupported(format!(
            "a policy about the image {image:?}, which has variables, is not supported"
        ))
    })?;
    let Platform { architecture, os, .. } = Platform::host();
    let platform = Message::new().text(1, &architecture).text(2, &os);
    let source = Message::new().text(1, &format!("docker-image://{reference}"));
    let source = Message::new().message(1, &source);
    let answer = session.ask(CHECK, &Message::new().message(1, &platform).message(2, &source))?;
    match fields(&answer).next().transpose()? {
        Some((1, decision)) => decided(decision.bytes(), &reference),
        _ => Err(unsupported("a source policy that looks into images is not supported")),
    }
}

/// Reads `DecisionResponse`.
fn decided(message: &[u8], image: &Reference) -> Outcome {
    let (mut action, mut why) = (ALLOW, Vec::new());
    for field in fields(message) {
        match field? {
            (1, value) => action = value.number(),
            (2, value) => {
                for field in fields(value.bytes()) {
                    why.push(field?.1.text());
                }
            }
            _ => {}
        }
    }
    match action {
        ALLOW => Ok(()),
        DENY => {
            let message = format!("source \"docker-image://{image}\" not allowed by policy");
            let message = match why.is_empty() {
                true => message,
                false => format!("{message}: {}", why.join("; ")),
            };
            Err(Status::new(Code::PermissionDenied, message))
        }
        _ => Err(invalid("a source policy that changes sources is not supported")),
    }
}
