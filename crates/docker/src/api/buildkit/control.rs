//! `moby.buildkit.v1.Control`

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use grpc::proto::{Message, Value, fields};
use grpc::{Code, Status, Stream};
use oci::Platform;

use super::news::{News, time};
use super::relay::relay;
use super::solve::{Attributes, Builder, Solve};
use super::{Build, Outcome, Room, STACK_BYTES, failed, invalid, unsupported};
use crate::api::session::ID_BYTES_MAX;

/// Says that images can be brought out in every form and for other platforms, and caches anywhere:
/// buildx asks for nothing of that from an engine without it.
const SNAPSHOTTER: (&str, &str) = ("org.mobyproject.buildkit.worker.snapshotter", "cais");

impl Room<'_> {
    pub(super) fn control(&self, method: &str, stream: &Stream) -> Outcome {
        match method {
            "Info" => {
                stream.receive_one()?;
                stream.send(&Message::new().message(1, &self.version()))
            }
            "ListWorkers" => {
                stream.receive_one()?;
                stream.send(&Message::new().message(1, &self.worker()))
            }
            "Session" => self.session(stream),
            "Solve" => self.solve(stream),
            "Status" => self.status(stream),
            "DiskUsage" => self.disk_usage(stream),
            "Prune" => self.prune(stream),
            "ListenBuildHistory" | "UpdateBuildHistory" => {
                Err(unsupported("this engine keeps no history of builds"))
            }
            method => Err(grpc::unknown(&format!("/moby.buildkit.v1.Control/{method}"))),
        }
    }

    /// A session whose connection is a call: as [`crate::api::session`], in messages.
    fn session(&self, stream: &Stream) -> Outcome {
        let id = stream.metadata("x-docker-expose-session-uuid").unwrap_or_default();
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(invalid("X-Docker-Expose-Session-Uuid is required"));
        }
        let broken = |error: std::io::Error| Status::new(Code::Internal, error.to_string());
        let (mut own, other) = UnixStream::pair().map_err(broken)?;
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("session".to_owned()).stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, move || relay(&other, stream)).map_err(broken)?;
            let held = self.api.sessions.hold(&id, &mut own, &|_| false);
            // So that the other thread notices.
            let _ = own.shutdown(Shutdown::Both);
            held.map_err(broken)
        })
    }

    /// `BuildkitVersion`
    fn version(&self) -> Message {
        Message::new().text(1, "cais").text(2, &format!("v{}", self.api.version))
    }

    /// `WorkerRecord`
    pub(super) fn worker(&self) -> Message {
        let Platform { architecture, os, variant, .. } = Platform::host();
        let platform = Message::new().text(1, &architecture).text(2, &os);
        let platform = platform.text(3, variant.as_deref().unwrap_or_default());
        let (label, value) = SNAPSHOTTER;
        let gateway = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";
        let mut worker = Message::new().text(1, "cais").entry(2, label, value);
        let bridge = self.api.engine.network("bridge").ok().and_then(|network| network.bridge);
        if let Some(bridge) = bridge {
            worker = worker.entry(2, gateway, &bridge.gateway.to_string());
        }
        worker.message(3, &platform).message(5, &self.version())
    }

    /// Waits until the build has been done, by whoever calls the bridge, or does it.
    fn solve(&self, stream: &Stream) -> Outcome {
        let asked = Arc::new(Solve::read(&stream.receive_one()?)?);
        let build = self.build(&asked.name)?;
        self.change(&build, |state| state.solve = Some(asked.clone()));
        let outcome = match asked.frontend.as_str() {
            "" => stream.wait_for(&mut || build.lock().returned.take()).and_then(|outcome| outcome),
            frontend => self.perform(stream, &build, &asked, frontend, &asked.attributes),
        };
        let image = || build.lock().image.clone();
        let exported = outcome.and_then(|()| match image() {
            None => Ok(BTreeMap::new()),
            Some(image) => {
                self.with_builder(stream, &build, |builder| builder.export(image, &asked))
            }
        });
        self.change(&build, |state| state.has_ended = true);
        let response = exported?;
        let entries =
            response.iter().fold(Message::new(), |all, (key, value)| all.entry(1, key, value));
        stream.send(&entries)
    }

    /// Builds, and keeps the image's id.
    pub(super) fn perform(
        &self,
        stream: &Stream,
        build: &Build,
        solve: &Solve,
        frontend: &str,
        attributes: &Attributes,
    ) -> Outcome {
        let built =
            self.with_builder(stream, build, |builder| builder.build(solve, frontend, attributes));
        let image = built?;
        self.change(build, |state| state.image = image);
        Ok(())
    }

    pub(super) fn with_builder<T>(
        &self,
        stream: &Stream,
        build: &Build,
        work: impl FnOnce(&Builder<'_>) -> T,
    ) -> T {
        let tell = |change: &mut dyn FnMut(&mut News)| {
            self.change(build, |state| change(&mut state.news));
        };
        let is_given_up = || stream.is_given_up();
        work(&Builder { api: self.api, tell: &tell, is_given_up: &is_given_up })
    }

    fn status(&self, stream: &Stream) -> Outcome {
        let mut name = String::new();
        for field in fields(&stream.receive_one()?) {
            if let (1, value) = field? {
                name = value.text();
            }
        }
        let build = self.build(&name)?;
        loop {
            let news = stream.wait_for(&mut || {
                let mut state = build.lock();
                let news = state.news.take();
                (news.is_some() || state.has_ended).then_some(news)
            })?;
            match news {
                Some(news) => stream.send(&news)?,
                None => return Ok(()),
            }
        }
    }

    fn disk_usage(&self, stream: &Stream) -> Outcome {
        for field in fields(&stream.receive_one()?) {
            // One that is empty is always there.
            if let (1, filter) = field?
                && !filter.bytes().is_empty()
            {
                return Err(unsupported("filters of what builds keep are not supported"));
            }
        }
        let usage = self.api.engine.disk_usage().map_err(|error| failed(&error))?;
        let records = usage
            .build_cache
            .iter()
            .fold(Message::new(), |all, record| all.message(1, &usage_record(record)));
        stream.send(&records)
    }

    fn prune(&self, stream: &Stream) -> Outcome {
        let (mut all, mut is_limited) = (false, false);
        for field in fields(&stream.receive_one()?) {
            match field? {
                (2, value) => all = value.number() != 0,
                (_, Value::Bytes(b"") | Value::Number(0)) => {}
                _ => is_limited = true,
            }
        }
        if is_limited {
            return Err(unsupported(
                "filters and limits of what is removed of builds are not supported",
            ));
        }
        let before = self.api.engine.disk_usage().map_err(|error| failed(&error))?;
        let pruned = self.api.engine.prune_builds(all).map_err(|error| failed(&error))?;
        for record in before.build_cache.iter().filter(|record| pruned.removed.contains(&record.id))
        {
            stream.send(&usage_record(record))?;
        }
        Ok(())
    }
}

fn usage_record(record: &engine::BuildCacheUsage) -> Message {
    let used = time(record.used);
    let message = Message::new().text(1, &record.id).number(3, record.is_used.into());
    let message = message.number(4, record.bytes).message(6, &used).message(7, &used);
    message.number(8, 1).text(10, record.kind).number(11, record.is_shared.into())
}

/// The status in a message of `google.rpc.Status`.
pub(super) fn read_status(bytes: &[u8]) -> Outcome<Status> {
    let mut status = Status::new(Code::Unknown, "");
    // Whatever else it says is for whoever asked.
    status.details = STANDARD_NO_PAD.encode(bytes);
    for field in fields(bytes) {
        match field? {
            (1, code) => match Code::of(code.number()) {
                Some(code) => status.code = code,
                None => status.details.clear(),
            },
            (2, message) => status.message = message.text(),
            _ => {}
        }
    }
    Ok(status)
}
