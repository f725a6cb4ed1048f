//! `--mount`: a line of comma-separated values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::value;
use super::{Error, Kind, Mount, MountSource, Owner, PROPAGATIONS, Result, bind};

/// The keys that there are, and the type of mount that each is for.
const KEYS: [(&str, &str); 26] = [
    ("type", ""),
    ("source", ""),
    ("src", ""),
    ("target", ""),
    ("dst", ""),
    ("destination", ""),
    ("readonly", ""),
    ("ro", ""),
    ("consistency", ""),
    ("user", ""),
    ("bind-propagation", "bind"),
    ("bind-nonrecursive", "bind"),
    ("bind-recursive", "bind"),
    ("bind-create-src", "bind"),
    ("volume-nocopy", "volume"),
    ("volume-subpath", "volume"),
    ("volume-label", "volume"),
    ("volume-driver", "volume"),
    ("volume-opt", "volume"),
    ("image-subpath", "image"),
    ("tmpfs-size", "tmpfs"),
    ("tmpfs-mode", "tmpfs"),
    ("tmpfs-uid", "tmpfs"),
    ("tmpfs-gid", "tmpfs"),
    ("tmpfs-noexec", "tmpfs"),
    ("tmpfs-exec", "tmpfs"),
];

/// The fields, as they were written.
struct Fields<'a> {
    text: &'a str,
    given: Vec<(String, Option<String>)>,
}

/// `type=bind|volume|tmpfs|image,source=…,target=…,readonly,…`.
pub(super) fn mount(text: &str) -> Result<Mount> {
    let fields = Fields::parse(text)?;
    let kind = fields.text_of(&["type"])?.unwrap_or_else(|| "volume".into()).to_lowercase();
    let source = fields.text_of(&["source", "src"])?;
    let target = fields.text_of(&["target", "dst", "destination"])?;
    let target = target.ok_or_else(|| fields.bad("target is required"))?;
    fields.check_kind(&kind)?;
    let read_only = fields.flag(&["readonly", "ro"])?.unwrap_or(false);
    let made = match (kind.as_str(), source) {
        ("bind", Some(source)) => fields.bind(Path::new(&source), read_only)?,
        ("bind" | "image", None) => return Err(fields.bad("source is required")),
        ("volume", name) => fields.volume(&name.unwrap_or_default())?,
        ("tmpfs", None) => MountSource::Tmpfs { options: fields.tmpfs()? },
        ("tmpfs", Some(_)) => {
            return Err(Error::invalid(
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ));
        }
        ("image", Some(name)) => fields.image(name)?,
        (other, _) => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("mount type \"{other}\" is not supported yet"),
            )
            .hint("types are bind, volume, tmpfs and image"));
        }
    };
    let owner = fields.text_of(&["user"])?.map(|name| Owner::named(&name));
    if owner.is_some() && matches!(kind.as_str(), "tmpfs" | "image") {
        return Err(fields.bad("user is for bind mounts and volumes"));
    }
    Ok(Mount { source: made, target, read_only, owner })
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let mut given = Vec::new();
        for field in split(text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = key.to_lowercase();
            if !KEYS.iter().any(|(known, _)| *known == key) {
                let keys = KEYS.map(|(key, _)| key).join(", ");
                return Err(Error::invalid(format!("unexpected key '{key}' in '{field}'"))
                    .hint(format!("keys are {keys}")));
            }
            given.push((key, value));
        }
        Ok(Self { text, given })
    }

    fn bad(&self, what: &str) -> Error {
        Error::invalid(format!("invalid argument \"{}\" for \"--mount\" flag: {what}", self.text))
    }

    /// Refuses fields that are for other types of mounts.
    fn check_kind(&self, kind: &str) -> Result<()> {
        for (key, _) in &self.given {
            let of = KEYS.iter().find(|(known, _)| known == key).map_or("", |(_, of)| of);
            if !of.is_empty() && of != kind {
                return Err(
                    self.bad(&format!("cannot mix '{of}-*' options with mount type '{kind}'"))
                );
            }
        }
        Ok(())
    }

    fn values(&self, keys: &[&str]) -> impl Iterator<Item = (&str, Option<&str>)> {
        let given = self.given.iter().filter(|(key, _)| keys.contains(&key.as_str()));
        given.map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// The last value, which must be there if the key is.
    fn text_of(&self, keys: &[&str]) -> Result<Option<String>> {
        let Some((key, value)) = self.values(keys).last() else { return Ok(None) };
        match value.filter(|value| !value.is_empty()) {
            Some(value) => Ok(Some(value.to_owned())),
            None => {
                let field = format!("{key}{}", if value.is_some() { "=" } else { "" });
                Err(self.bad(&format!("invalid field '{field}' must be a key=value pair")))
            }
        }
    }

    fn flag(&self, keys: &[&str]) -> Result<Option<bool>> {
        let Some((key, value)) = self.values(keys).last() else { return Ok(None) };
        match value {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(self.bad(&format!("invalid value for {key}: {other}"))),
        }
    }

    fn bind(&self, source: &Path, read_only: bool) -> Result<MountSource> {
        let asked = self.text_of(&["bind-propagation"])?;
        if let Some(mode) = asked.as_ref().filter(|mode| !PROPAGATIONS.contains(&mode.as_str())) {
            return Err(self.bad(&format!("invalid propagation mode: {mode}")));
        }
        let plain = self.flag(&["bind-nonrecursive"])?.unwrap_or(false);
        let (recursive, writable_below) = match self.text_of(&["bind-recursive"])?.as_deref() {
            None | Some("enabled" | "true" | "1") => (!plain, false),
            Some("disabled" | "false" | "0") => (false, false),
            Some("writable") => (true, true),
            Some("readonly") => {
                let what = match asked.as_deref() {
                    _ if !read_only => "'readonly'",
                    Some("rprivate") => return self.made_bind(source, asked, (true, false)),
                    _ => "'bind-propagation=rprivate'",
                };
                return Err(self.bad(&format!(
                    "option 'bind-recursive=readonly' requires {what} to be specified in conjunction"
                )));
            }
            Some(other) => {
                return Err(self.bad(&format!(
                    "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                )));
            }
        };
        if writable_below && !read_only {
            return Err(self.bad("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"));
        }
        self.made_bind(source, asked, (recursive, writable_below))
    }

    fn made_bind(
        &self,
        source: &Path,
        asked: Option<String>,
        (is_recursive, is_writable_below): (bool, bool),
    ) -> Result<MountSource> {
        let mut made = bind(source, self.flag(&["bind-create-src"])?.unwrap_or(false))?;
        if let MountSource::Bind { propagation, recursive, writable_below, .. } = &mut made {
            (*recursive, *writable_below) = (is_recursive, is_writable_below);
            if let Some(asked) = asked {
                *propagation = asked;
            }
        }
        Ok(made)
    }

    fn volume(&self, name: &str) -> Result<MountSource> {
        if let Some(driver) = self.text_of(&["volume-driver"])?.filter(|driver| driver != "local") {
            let text = format!("plugin \"{driver}\" not found");
            return Err(Error::new(Kind::NotFound, text).hint("the only driver is local"));
        }
        let pairs = |key: &str| -> Result<BTreeMap<String, String>> {
            let split = |(key, value): (&str, Option<&str>)| {
                let value = value.filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| {
                    self.bad(&format!("invalid field '{key}' must be a key=value pair"))
                })?;
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                Ok((name.to_owned(), value.to_owned()))
            };
            self.values(&[key]).map(split).collect()
        };
        let mut made = MountSource::volume(name);
        if let MountSource::Volume { copy, subpath, labels, options, .. } = &mut made {
            *copy = !self.flag(&["volume-nocopy"])?.unwrap_or(false);
            *subpath = self.text_of(&["volume-subpath"])?.map(PathBuf::from).unwrap_or_default();
            *labels = pairs("volume-label")?;
            *options = pairs("volume-opt")?;
        }
        Ok(made)
    }

    fn image(&self, name: String) -> Result<MountSource> {
        let subpath = self.text_of(&["image-subpath"])?.map(PathBuf::from).unwrap_or_default();
        Ok(MountSource::Image { name, id: None, layers: Vec::new(), subpath })
    }

    fn tmpfs(&self) -> Result<Vec<String>> {
        let mut options = Vec::new();
        if let Some(size) = self.text_of(&["tmpfs-size"])? {
            options.push(format!("size={}", value::bytes("mount", &size)?));
        }
        for name in ["mode", "uid", "gid"] {
            if let Some(text) = self.text_of(&[&format!("tmpfs-{name}")])? {
                options.push(format!("{name}={text}"));
            }
        }
        for (key, word) in [("tmpfs-noexec", "noexec"), ("tmpfs-exec", "exec")] {
            if self.flag(&[key])?.unwrap_or(false) {
                options.push(word.to_owned());
            }
        }
        Ok(options)
    }
}

/// Fields with commas in them are quoted, as in RFC 4180.
fn split(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_say_what_they_show() {
        let made = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        assert!(made.read_only);
        let expected = MountSource::Bind {
            path: PathBuf::from("/a"),
            create: false,
            propagation: "rslave".into(),
            recursive: true,
            writable_below: false,
            subpath: PathBuf::new(),
        };
        assert_eq!(made.source, expected);
        let recursion = |text: &str| match mount(&format!("type=bind,src=/a,dst=/b,{text}"))?.source
        {
            MountSource::Bind { recursive, writable_below, .. } => Ok((recursive, writable_below)),
            other => panic!("{other:?}"),
        };
        let said = |text: &str| recursion(text).map_err(|error: Error| error.to_string());
        assert_eq!(said("bind-recursive=disabled"), Ok((false, false)));
        assert_eq!(said("ro,bind-recursive=writable"), Ok((true, true)));
        let all = "ro,bind-recursive=readonly,bind-propagation=rprivate";
        assert_eq!(said(all), Ok((true, false)));
        for bad in ["bind-recursive=readonly", "ro,bind-recursive=readonly", "bind-recursive=what"]
        {
            assert!(said(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_have_labels_and_options() {
        let text = r#"src=v,dst=/b,volume-subpath=a/b,volume-nocopy,volume-label=l=1,volume-opt=type=nfs,"volume-opt=o=addr=1.2.3.4,ro""#;
        let MountSource::Volume { copy, subpath, labels, options, .. } =
            mount(text).unwrap().source
        else {
            panic!("no volume")
        };
        assert_eq!((copy, subpath), (false, PathBuf::from("a/b")));
        assert_eq!(labels["l"], "1");
        assert_eq!((options["type"].as_str(), options["o"].as_str()), ("nfs", "addr=1.2.3.4,ro"));
    }

    #[test]
    fn memory_and_images() {
        let made = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let options = vec!["size=1048576".to_owned(), "mode=700".to_owned()];
        assert_eq!(made.source, MountSource::Tmpfs { options });
        let made = mount("type=image,src=busybox,dst=/b,image-subpath=bin").unwrap();
        assert!(
            matches!(made.source, MountSource::Image { subpath, .. } if subpath == Path::new("bin"))
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (bad, part) in [
            ("type=bind,dst=/b", "source is required"),
            ("type=bind,src=/a", "target is required"),
            ("type=magic,dst=/a", "mount type \"magic\""),
            ("dst=/a,what=1", "unexpected key 'what' in 'what=1'"),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options"),
            ("type=tmpfs,dst=/b,bind-propagation=rslave", "cannot mix 'bind-*' options"),
            ("type=tmpfs,dst=/b,user=1", "user is for bind mounts"),
            ("src=,dst=/b", "must be a key=value pair"),
        ] {
            let error = mount(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
