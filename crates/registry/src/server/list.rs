//! Lists: tags, repositories, referrers.

use serde_json::{Value, json};

use super::digest::AnyDigest;
use super::failure::{Code, Failure};
use super::handler::Registry;
use super::route::RepositoryName;
use httpd::Reply;
use httpd::{Head, encode};

/// Entries of one answer, whatever was asked for.
const ENTRIES_MAX: usize = 1000;
/// Bytes of one list of referrers, which clients read like a manifest.
const REFERRERS_BYTES_MAX: usize = 3 << 20;

impl Registry {
    pub(super) fn list_tags(&self, head: &Head, name: &RepositoryName) -> Result<Reply, Failure> {
        let repository = self.repositories.get(name);
        if !repository.exists() {
            return Err(Failure::new(Code::NameUnknown, format!("no repository {name}")));
        }
        let page = Page::of(head)?;
        let (tags, next) = page.cut(repository.tags()?);
        let body = json!({ "name": name.as_str(), "tags": tags });
        Ok(page.reply(&body, next.as_deref(), &format!("/v2/{name}/tags/list")))
    }

    pub(super) fn catalog(&self, head: &Head) -> Result<Reply, Failure> {
        let page = Page::of(head)?;
        let mut names = Vec::new();
        for repository in self.repositories.all()? {
            if repository.has_any_manifest()? {
                names.push(repository.name().as_str().to_owned());
            }
        }
        let (names, next) = page.cut(names);
        Ok(page.reply(&json!({ "repositories": names }), next.as_deref(), "/v2/_catalog"))
    }

    pub(super) fn list_referrers(
        &self,
        head: &Head,
        name: &RepositoryName,
        subject: &AnyDigest,
    ) -> Result<Reply, Failure> {
        let wanted = head.parameter("artifactType").filter(|kind| !kind.is_empty());
        let last = head.parameter("last").unwrap_or_default();
        let mut manifests = Vec::new();
        let mut bytes = 0;
        let (mut behind, mut next) = (String::new(), None);
        for (digest, record) in self.repositories.get(name).referrers(subject)? {
            let place = digest.hex();
            if place.as_str() <= last
                || wanted.is_some_and(|w| record.artifact_type.as_deref() != Some(w))
            {
                continue;
            }
            let mut entry = json!({
                "mediaType": record.media_type,
                "size": record.size,
                "digest": record.digest,
            });
            if let Some(kind) = record.artifact_type {
                entry["artifactType"] = Value::String(kind);
            }
            if !record.annotations.is_empty() {
                entry["annotations"] = json!(record.annotations);
            }
            bytes += entry.to_string().len();
            if !manifests.is_empty() && bytes > REFERRERS_BYTES_MAX {
                next = Some(behind);
                break;
            }
            behind = place;
            manifests.push(entry);
        }
        let body = json!({
            "schemaVersion": 2,
            "mediaType": oci::media_type::OCI_INDEX,
            "manifests": manifests,
        });
        let mut reply =
            Reply::new(200).document(oci::media_type::OCI_INDEX, body.to_string().into_bytes());
        if wanted.is_some() {
            reply = reply.header("OCI-Filters-Applied", "artifactType");
        }
        if let Some(last) = next {
            let filter =
                wanted.map_or_else(String::new, |kind| format!("&artifactType={}", encode(kind)));
            let link =
                format!("</v2/{name}/referrers/{subject}?last={last}{filter}>; rel=\"next\"");
            reply = reply.header("Link", link);
        }
        Ok(reply)
    }
}

/// The part of a sorted list that is asked for by `n` and `last`.
struct Page {
    /// At most so many entries; `None` for as many as there may be.
    count: Option<usize>,
    last: String,
}

impl Page {
    fn of(head: &Head) -> Result<Self, Failure> {
        let wrong = || Failure::new(Code::Unsupported, "n must be a number").status(400);
        let count = head.parameter("n").map(|n| n.parse().map_err(|_| wrong())).transpose()?;
        Ok(Self { count, last: head.parameter("last").unwrap_or_default().to_owned() })
    }

    /// The entries of this page, and behind which the next one starts.
    fn cut(&self, mut all: Vec<String>) -> (Vec<String>, Option<String>) {
        all.retain(|entry| self.last.is_empty() || *entry > self.last);
        let count = self.count.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
        let has_more = all.len() > count;
        all.truncate(count);
        let next = all.last().cloned().filter(|_| has_more);
        (all, next)
    }

    /// RFC 8288 for where the next page is.
    fn reply(&self, body: &Value, next: Option<&str>, path: &str) -> Reply {
        let reply = Reply::new(200).document("application/json", body.to_string().into_bytes());
        match next {
            None => reply,
            Some(last) => {
                let count = self.count.unwrap_or(ENTRIES_MAX);
                let link = format!("<{path}?last={}&n={count}>; rel=\"next\"", encode(last));
                reply.header("Link", link)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        let cut = |count: Option<usize>, last: &str| {
            let (page, next) = Page { count, last: last.to_owned() }.cut(all());
            (page.join(""), next)
        };
        assert_eq!(cut(None, ""), ("abc".to_owned(), None));
        assert_eq!(cut(Some(2), ""), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(cut(Some(2), "b"), ("c".to_owned(), None));
        assert_eq!(cut(Some(3), ""), ("abc".to_owned(), None));
        assert_eq!(cut(Some(0), ""), (String::new(), None));
        assert_eq!(cut(None, "bb"), ("c".to_owned(), None), "behind what is not there");
    }
}
