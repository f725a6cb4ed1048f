//! Git repositories as places of files: what their addresses say (BuildKit's `util/gitutil`).

use serde::Serialize;

use crate::error::{Error, Result, did_you_mean};

/// A part of a repository, at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitSource {
    /// Where the repository is, as git takes it.
    #[serde(serialize_with = "crate::graph::redacted")]
    pub remote: String,
    /// A branch, a tag or a commit; the remote's own choice where there is none.
    pub reference: Option<String>,
    /// The directory whose files are meant; empty for all.
    pub directory: String,
    /// What the commit's digest begins with.
    pub checksum: Option<String>,
    /// Whether `.git` stays, if that is said.
    pub keeps_git_dir: Option<bool>,
    /// Whether submodules are fetched, too.
    pub with_submodules: bool,
}

/// What a query of an address may say.
const QUERIES: [&str; 8] =
    ["ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules"];

impl GitSource {
    /// Reads an address; `None` if it is of no repository.
    ///
    /// # Errors
    /// For what is one, and wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self>> {
        let end = text.find(['?', '#']).unwrap_or(text.len());
        let (remote, rest) = text.split_at(end);
        let remote = remote_of(remote)?;
        Some(Self::read(remote, rest).map_err(|message| {
            let shown = oci::redacted(text);
            Error::new(format!("invalid git address {shown:?}: {message}"))
        }))
    }

    fn read(remote: String, rest: &str) -> std::result::Result<Self, String> {
        let (query, fragment) = match rest.split_once('#') {
            Some((query, fragment)) => (query, Some(fragment)),
            None => (rest, None),
        };
        let mut source = Self {
            remote,
            reference: None,
            directory: String::new(),
            checksum: None,
            keeps_git_dir: None,
            with_submodules: true,
        };
        if let Some(fragment) = fragment {
            let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
            source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
            source.directory = directory.to_owned();
        }
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            source.query(key, &decoded(value)?)?;
        }
        // A commit alone is the one that is meant.
        source.reference = source.reference.or_else(|| source.checksum.clone());
        match &source.reference {
            // It would be taken for an option.
            Some(reference) if reference.starts_with('-') || reference.contains("..") => {
                Err(format!("{reference:?} is no name of a branch, a tag or a commit"))
            }
            _ if source.remote.starts_with('-') => Err("it begins with a dash".to_owned()),
            _ => Ok(source),
        }
    }

    fn query(&mut self, key: &str, value: &str) -> std::result::Result<(), String> {
        let boolean = || match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("{key} is true or false, not {value:?}")),
        };
        let once = |known: &mut Option<String>, value: String| match known {
            Some(known) if *known != value => Err(format!("{key} conflicts: {known} vs {value}")),
            known => {
                *known = Some(value);
                Ok(())
            }
        };
        match key {
            "ref" => once(&mut self.reference, value.to_owned()),
            "tag" => once(&mut self.reference, format!("refs/tags/{value}")),
            "branch" => once(&mut self.reference, format!("refs/heads/{value}")),
            "subdir" if !self.directory.is_empty() && self.directory != value => {
                Err(format!("subdir conflicts: {} vs {value}", self.directory))
            }
            "subdir" => {
                value.clone_into(&mut self.directory);
                Ok(())
            }
            "checksum" | "commit" => match is_commit(value) {
                true => once(&mut self.checksum, value.to_lowercase()),
                false => Err(format!("{value:?} is no digest of a commit")),
            },
            "keep-git-dir" => {
                self.keeps_git_dir = Some(boolean()?);
                Ok(())
            }
            "submodules" => {
                self.with_submodules = boolean()?;
                Ok(())
            }
            key => Err(format!("unexpected query {key:?}{}", did_you_mean(key, QUERIES, true))),
        }
    }
}

/// Whether a text may be the beginning of a commit's digest.
pub(crate) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The repository that an address without query and fragment is of, if it is of one.
fn remote_of(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("github.com/") {
        return (!rest.is_empty()).then(|| format!("https://{text}"));
    }
    match text.split_once("://") {
        Some(("git" | "ssh", rest)) if !rest.is_empty() => Some(text.to_owned()),
        Some(("http" | "https", rest)) if rest.ends_with(".git") => Some(text.to_owned()),
        Some(_) => None,
        None => is_scp(text).then(|| text.to_owned()),
    }
}

/// `user@host:path`, as scp(1) takes it.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let plain = |text: &str, more: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
    };
    plain(user, "-_") && plain(host, "-.") && !path.is_empty()
}

/// A value of a query without its percent signs (RFC 3986, section 2.1).
fn decoded(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(byte.ok_or_else(|| format!("{text:?} is not encoded well"))?);
                rest = &tail[2..];
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(remote: &str) -> GitSource {
        GitSource {
            remote: remote.into(),
            reference: None,
            directory: String::new(),
            checksum: None,
            keeps_git_dir: None,
            with_submodules: true,
        }
    }

    #[test]
    fn addresses_of_repositories_are_told() {
        let parse = |text: &str| GitSource::parse(text).map(|parsed| parsed.unwrap());
        for other in [".", "dir", "/x.git", "https://h/x.tar.gz", "http://h/", "ftp://h/x.git"] {
            assert_eq!(parse(other), None, "{other}");
        }
        let reference = |remote, reference: &str, directory: &str| GitSource {
            reference: Some(reference.into()).filter(|text: &String| !text.is_empty()),
            directory: directory.into(),
            ..plain(remote)
        };
        let known = [
            ("https://h/x.git", plain("https://h/x.git")),
            ("github.com/a/b", plain("https://github.com/a/b")),
            ("git@h:a/b.git#v1", reference("git@h:a/b.git", "v1", "")),
            ("git://h/x#main:sub/dir", reference("git://h/x", "main", "sub/dir")),
            ("ssh://git@h:22/x#:sub", reference("ssh://git@h:22/x", "", "sub")),
            ("https://h/x.git?branch=a%2Fb", reference("https://h/x.git", "refs/heads/a/b", "")),
            ("https://h/x.git?tag=v1&subdir=d", reference("https://h/x.git", "refs/tags/v1", "d")),
        ];
        for (text, expected) in known {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        let whole =
            parse("https://h/x.git?keep-git-dir=1&submodules=false&checksum=ABCDEF0").unwrap();
        assert_eq!(whole.keeps_git_dir, Some(true));
        assert_eq!((whole.with_submodules, &*whole.checksum.unwrap()), (false, "abcdef0"));
        assert_eq!(whole.reference.as_deref(), Some("abcdef0"), "a commit alone is meant");
        let both = parse("https://h/x.git?commit=abcdef0#main").unwrap();
        assert_eq!(both.reference.as_deref(), Some("main"));
    }

    #[test]
    fn wrong_addresses_say_why() {
        let wrong = [
            ("git@h:x#--upload-pack=evil", "is no name of a branch"),
            ("https://h/x.git?ref=a&tag=b", "tag conflicts: a vs refs/tags/b"),
            ("https://h/x.git?subdr=a", "unexpected query \"subdr\" (did you mean subdir?)"),
            ("https://h/x.git?checksum=xyz", "is no digest"),
            ("https://h/x.git?ref=%zz", "is not encoded well"),
        ];
        for (text, expected) in wrong {
            let error = GitSource::parse(text).unwrap().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
