//! `RUN --mount=…`, in its two lives: as it is written, and once its variables are known.

use crate::error::{Error, Result, did_you_mean};
use crate::language::check::boolean;
use crate::source::Span;

/// A mount as written; what is in it may have variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    fields: Vec<String>,
    /// The stage or image it comes from, which cannot have variables.
    pub from: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the build.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Everybody has their own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// What it shows.
    pub kind: MountKind,
    /// `from`.
    pub from: Option<String>,
    /// `source`; empty for all.
    pub source: String,
    /// `target`; empty where it has a default.
    pub target: String,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// `size` in bytes; 0 for no limit.
    pub size: u64,
    /// `id`.
    pub id: String,
    /// `sharing`.
    pub sharing: Option<Sharing>,
    /// Whether the build fails without it.
    pub required: bool,
    /// `env`: the variable that has the secret; empty for its own name.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountFlag {
    /// Takes a mount apart, without looking at what may have variables.
    ///
    /// # Errors
    /// For quotes that are not closed, and for a variable in `from`.
    pub(crate) fn parse(text: &str, span: Span) -> Result<Self> {
        let fields = csv(text).map_err(|error| error.or_at(span))?;
        let mut from = None;
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else { continue };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                let message =
                    "'from' doesn't support variable expansion, define alias stage instead";
                return Err(Error::at(span, message));
            }
            from = Some(value.to_owned()).filter(|from| !from.is_empty());
        }
        let flag = Self { fields, from, span };
        // What is wrong whatever the variables are is wrong at once.
        if !text.contains('$') {
            flag.resolve(&mut |value| Ok(value.to_owned()))?;
        }
        Ok(flag)
    }

    /// Reads the mount, with its values expanded by `expand`.
    ///
    /// # Errors
    /// For what it cannot have.
    pub fn resolve(&self, expand: &mut dyn FnMut(&str) -> Result<String>) -> Result<Mount> {
        let mut reading = Reading::default();
        for field in &self.fields {
            reading.field(field, expand).map_err(|error| error.or_at(self.span))?;
        }
        let Reading { mut mount, read_only } = reading;
        let is_written = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!is_written);
        check(&mount).map_err(|error| error.or_at(self.span))?;
        Ok(mount)
    }
}

#[derive(Default)]
struct Reading {
    mount: Mount,
    read_only: Option<bool>,
}

impl Reading {
    fn field(&mut self, field: &str, expand: &mut dyn FnMut(&str) -> Result<String>) -> Result<()> {
        let mount = &mut self.mount;
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
            None => (field.to_lowercase(), None),
        };
        let is_secret = matches!(mount.kind, MountKind::Secret | MountKind::Ssh);
        match (key.as_str(), value) {
            ("readonly" | "ro", None) => self.read_only = Some(true),
            ("readwrite" | "rw", None) => self.read_only = Some(false),
            ("required", None) if is_secret => mount.required = true,
            ("required", Some(value)) if is_secret => {
                mount.required = boolean(&value).ok_or_else(|| invalid(&key, &value))?;
            }
            ("required", _) => return Err(misplaced(&key, mount.kind)),
            (_, None) => {
                let message = format!("invalid field '{field}' must be a key=value pair");
                return Err(Error::new(message));
            }
            ("readonly" | "ro", Some(value)) => {
                self.read_only = Some(boolean(&value).ok_or_else(|| invalid(&key, &value))?);
            }
            ("readwrite" | "rw", Some(value)) => {
                self.read_only = Some(!boolean(&value).ok_or_else(|| invalid(&key, &value))?);
            }
            ("type", Some(value)) => mount.kind = kind(&value)?,
            ("from", Some(value)) => mount.from = Some(value).filter(|from| !from.is_empty()),
            ("source" | "src", Some(value)) => mount.source = value,
            ("target" | "dst" | "destination", Some(value)) => mount.target = value,
            ("size", Some(value)) if mount.kind == MountKind::Tmpfs => {
                mount.size = bytes(&value).ok_or_else(|| invalid(&key, &value))?;
            }
            ("size", _) => return Err(misplaced(&key, mount.kind)),
            ("id", Some(value)) => mount.id = value,
            ("sharing", Some(value)) => mount.sharing = Some(sharing(&value)?),
            ("mode", Some(value)) => {
                let mode = u32::from_str_radix(&value, 8).ok();
                mount.mode = Some(mode.ok_or_else(|| invalid_number(&value, &key))?);
            }
            ("uid", Some(value)) => mount.uid = Some(number(&value, &key)?),
            ("gid", Some(value)) => mount.gid = Some(number(&value, &key)?),
            ("env", Some(value)) => mount.env = Some(value),
            _ => {
                let nearest = did_you_mean(&key, KEYS.iter().copied(), true);
                return Err(Error::new(format!("unexpected key '{key}' in '{field}'{nearest}")));
            }
        }
        Ok(())
    }
}

/// What only some kinds can have.
fn check(mount: &Mount) -> Result<()> {
    let kind = kind_name(mount.kind);
    let owned = matches!(mount.kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
    let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)];
    if let Some((name, _)) = given.iter().find(|(_, value)| value.is_some() && !owned) {
        return Err(Error::new(format!("{name} not allowed for \"{kind}\" type mounts")));
    }
    if mount.kind == MountKind::Secret {
        if mount.from.is_some() {
            return Err(Error::new("secret mount should not have a from"));
        }
        if mount.sharing.is_some() {
            return Err(Error::new("secret mount should not define sharing"));
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(Error::new("invalid secret mount. one of source, target required"));
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Error::new("both source and id can't be set"));
        }
    }
    if mount.sharing.is_some() && mount.kind != MountKind::Cache {
        return Err(Error::new(format!("invalid cache sharing set for {kind} mount")));
    }
    Ok(())
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

fn kind_name(kind: MountKind) -> &'static str {
    KINDS.iter().find(|(_, own)| *own == kind).map_or("", |(name, _)| name)
}

fn kind(value: &str) -> Result<MountKind> {
    let found = KINDS.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let nearest = did_you_mean(value, KINDS.iter().map(|(name, _)| *name), true);
        Error::new(format!("unsupported mount type {value:?}{nearest}"))
    })
}

fn sharing(value: &str) -> Result<Sharing> {
    let found = SHARINGS.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
    found.map(|(_, sharing)| *sharing).ok_or_else(|| {
        let nearest = did_you_mean(value, SHARINGS.iter().map(|(name, _)| *name), true);
        Error::new(format!("unsupported sharing value {value:?}{nearest}"))
    })
}

fn invalid(key: &str, value: &str) -> Error {
    Error::new(format!("invalid value for {key}: {value}"))
}

fn invalid_number(value: &str, key: &str) -> Error {
    Error::new(format!("invalid value {value} for {key}"))
}

fn number(value: &str, key: &str) -> Result<u32> {
    value.parse().map_err(|_| invalid_number(value, key))
}

fn misplaced(key: &str, kind: MountKind) -> Error {
    Error::new(format!("unexpected key '{key}' for mount type '{}'", kind_name(kind)))
}

/// `64m`, `1.5GiB`: a number and a power of 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim();
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let bytes = number * (1_u64 << shift) as f64;
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

/// Splits at commas that are not in quotes.
fn csv(text: &str) -> Result<Vec<String>> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Error::new(format!("failed to parse csv mounts: `{text}` has an open quote")));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Mount {
        let flag = MountFlag::parse(text, Span::default()).unwrap();
        flag.resolve(&mut |value| Ok(value.to_owned())).unwrap()
    }

    fn fails(text: &str, expected: &str) {
        let error = MountFlag::parse(text, Span::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }

    #[test]
    fn kinds_have_their_defaults() {
        let cache = mount("type=cache,target=/x,id=a,sharing=locked,mode=0700,uid=1,gid=2");
        assert!(!cache.read_only && cache.sharing == Some(Sharing::Locked));
        assert_eq!((cache.mode, cache.uid, cache.gid), (Some(0o700), Some(1), Some(2)));
        assert!(mount("target=/x").read_only);
        assert!(!mount("target=/x,rw").read_only);
        assert!(!mount("target=/x,readonly=false").read_only);
        assert_eq!(mount("type=tmpfs,target=/x,size=64m").size, 64 << 20);
        assert_eq!(mount("type=bind,from=a,src=/s,dst=/d").from.as_deref(), Some("a"));
        assert!(mount("type=secret,id=s,required").required);
        assert_eq!(mount("type=secret,id=s,env=TOKEN").env.as_deref(), Some("TOKEN"));
        assert_eq!(mount("\"target=/a,b\",type=bind").target, "/a,b");
    }

    #[test]
    fn what_cannot_be_says_so() {
        fails("type=cash,target=/x", "unsupported mount type \"cash\" (did you mean cache?)");
        fails("type=bind,targt=/x", "unexpected key 'targt' in 'targt=/x' (did you mean target?)");
        fails("type=bind,mode=1", "mode not allowed for \"bind\" type mounts");
        fails("type=bind,sharing=locked", "invalid cache sharing set for bind mount");
        fails("type=cache,sharing=none", "unsupported sharing value \"none\"");
        fails("type=secret", "one of source, target required");
        fails("type=secret,id=a,src=b", "both source and id");
        fails("type=bind,size=1", "unexpected key 'size' for mount type 'bind'");
        fails("type=bind,required", "unexpected key 'required' for mount type 'bind'");
        fails("nonsense", "must be a key=value pair");
        fails("type=cache,mode=9", "invalid value 9 for mode");
        fails("from=$X", "doesn't support variable expansion");
        fails("\"x", "open quote");
    }

    #[test]
    fn variables_wait() {
        let flag = MountFlag::parse("type=$T,target=/$D", Span::default()).unwrap();
        let mount = flag.resolve(&mut |value| Ok(value.replace("$T", "cache").replace("$D", "x")));
        assert_eq!(mount.unwrap().kind, MountKind::Cache);
    }
}
