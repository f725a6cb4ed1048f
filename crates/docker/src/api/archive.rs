//! Files of containers, in and out as archives: `docker cp`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Extract, PathStat};
use httpd::{Content, Reply};
use serde_json::json;

use super::call::{Answer, Call};
use super::failure::Failure;

/// What is at a path, as `HEAD` tells it.
const STAT_FIELD: &str = "X-Docker-Container-Path-Stat";

/// `HEAD /containers/{id}/archive`
pub(super) fn stat(call: &mut Call<'_, '_>) -> Answer {
    let stat = call.api.spawner.stat(&call.container()?, &path(call)?)?;
    Ok(Some(Reply::new(200).header(STAT_FIELD, encoded(&stat))))
}

/// `GET /containers/{id}/archive`
pub(super) fn get(call: &mut Call<'_, '_>) -> Answer {
    let (stat, archive) = call.api.spawner.pack(&call.container()?, &path(call)?)?;
    let reply = Reply::new(200).header("Content-Type", "application/x-tar");
    let reply = reply.header(STAT_FIELD, encoded(&stat));
    Ok(Some(reply.content(Content::Stream { reader: Box::new(archive), length: None })))
}

/// `PUT /containers/{id}/archive`
pub(super) fn put(call: &mut Call<'_, '_>) -> Answer {
    let (container, path) = (call.container()?, path(call)?);
    let options = Extract {
        keeps_kinds: call.flag("noOverwriteDirNonDir"),
        own_user: call.flag("copyUIDGID"),
    };
    let spawner = &call.api.spawner;
    spawner.unpack(&container, &path, options, call.exchange.body())?;
    Ok(Some(Reply::new(200)))
}

fn path(call: &Call<'_, '_>) -> Result<PathBuf, Failure> {
    match call.text("path") {
        "" => Err(Failure::bad("bad parameter: 'path' cannot be empty")),
        path => Ok(Path::new(path).to_owned()),
    }
}

fn encoded(stat: &PathStat) -> String {
    let (seconds, nanoseconds) = stat.mtime;
    let time = jiff::Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0));
    let text = json!({
        "name": stat.name.to_string_lossy(),
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": time.unwrap_or_default().to_string(),
        "linkTarget": stat.link_target.to_string_lossy(),
    });
    STANDARD.encode(text.to_string())
}

/// Type and permission as Go writes them (`os.FileMode`).
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        0o020_000 => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bit = |from: u32, to: u32| if mode & from != 0 { 1 << to } else { 0 };
    mode & 0o777 | kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_go_s() {
        // Of fs.ModeDir|0o755, fs.ModeSymlink|0o777, fs.ModeSetuid|0o755, and
        // fs.ModeDevice|fs.ModeCharDevice|0o666.
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o104_755), 8_389_101);
        assert_eq!(go_mode(0o020_666), 69_206_454);
    }
}
