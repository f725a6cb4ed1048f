//! `moby.buildkit.v1.frontend.LLBBridge`: what a frontend in the client has done for it.

use grpc::Stream;
use grpc::proto::{Message, fields};

use super::control::read_status;
use super::solve::Solve;
use super::{Outcome, Room, invalid, unsupported};

/// What a frontend may use: `apicaps.APICap` of the gateway.
const CAPABILITIES: [&str; 9] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "importcaches",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.metadata",
    "gateway.evaluate",
];
/// As above, of what builds are made of: as far as buildx asks for it.
/// Attestations are not among them: what lies in the store has none.
const BUILD_CAPABILITIES: [&str; 1] = ["exporter.multiple"];

impl Room<'_> {
    pub(super) fn bridge(&self, method: &str, stream: &Stream) -> Outcome {
        match method {
            "Ping" => self.ping(stream),
            "Solve" => self.bridge_solve(stream),
            "Return" => self.bridge_return(stream),
            // What was built is there.
            "Evaluate" | "Warn" => {
                stream.receive_one()?;
                stream.send(&Message::new())
            }
            method => Err(unsupported(format!(
                "{method} of BuildKit's gateway is not supported: there is no LLB here"
            ))),
        }
    }

    fn ping(&self, stream: &Stream) -> Outcome {
        stream.receive_one()?;
        let capability = |id: &&str| Message::new().text(1, id).number(2, 1);
        let pong =
            CAPABILITIES.iter().fold(Message::new(), |all, id| all.message(1, &capability(id)));
        let pong = BUILD_CAPABILITIES.iter().fold(pong, |all, id| all.message(2, &capability(id)));
        stream.send(&pong.message(3, &self.worker()))
    }

    /// The name of the build that a call is about.
    fn about(stream: &Stream) -> Outcome<String> {
        let name = stream.metadata("buildkit-controlapi-buildid").filter(|name| !name.is_empty());
        name.ok_or_else(|| invalid("the call is about no build"))
    }

    fn bridge_solve(&self, stream: &Stream) -> Outcome {
        let asked = Solve::read_of_frontend(&stream.receive_one()?)?;
        let build = self.build(&Self::about(stream)?)?;
        let control = stream.wait_for(&mut || build.lock().solve.clone())?;
        if asked.attributes.contains_key("requestid") {
            let metadata = self.with_builder(stream, &build, |builder| {
                builder.subrequest(&control, &asked.attributes)
            })?;
            let result = metadata.iter().fold(Message::new(), |all, (key, value)| {
                all.message(10, &Message::new().text(1, key).bytes(2, value))
            });
            return stream.send(&Message::new().message(3, &result));
        }
        self.perform(stream, &build, &control, &asked.frontend, &asked.attributes)?;
        let image = build.lock().image.clone().unwrap_or_default();
        let result = Message::new().message(3, &Message::new().text(1, &image));
        stream.send(&Message::new().message(3, &result))
    }

    fn bridge_return(&self, stream: &Stream) -> Outcome {
        let build = self.build(&Self::about(stream)?)?;
        let mut outcome = Ok(());
        for field in fields(&stream.receive_one()?) {
            if let (2, error) = field? {
                outcome = Err(read_status(error.bytes())?);
            }
        }
        self.change(&build, |state| state.returned = Some(outcome));
        stream.send(&Message::new())
    }
}
