//! Lists: tags, repositories, referrers.

use oci::Digest;
use serde_json::{Value, json};
use testkit::CaisRegistry;

use super::{CONFIG, Client, OCI_INDEX, OCI_MANIFEST, descriptor, image};

#[test]
fn the_base_says_which_protocol_it_is() {
    let registry = CaisRegistry::start(&[]);
    for path in ["/v2/", "/v2"] {
        let answer = registry.ask("GET", path, &[], b"");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("docker-distribution-api-version"), Some("registry/2.0"));
    }
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v2/a", 404),
        ("POST", "/v2/", 405),
        ("PUT", "/v2/a/tags/list", 405),
        ("GET", "/v2/a/blobs/uploads/", 405),
        ("BREW", "/v2/_catalog", 405),
        ("OPTIONS", "/v2/", 405),
    ] {
        let answer = registry.ask(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.code(), "UNSUPPORTED", "{method} {path}");
    }
}

#[test]
fn tags_come_in_pages() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a/b");
    let unknown = client.get("tags/list");
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NAME_UNKNOWN"));
    for tag in ["b", "a", "Z", "1.0", "_", "c"] {
        client.push_image(tag, b"layer");
    }
    let all = json!(["1.0", "Z", "_", "a", "b", "c"]);
    assert_eq!(client.get("tags/list").json(), json!({ "name": "a/b", "tags": all }));
    for (query, tags, next) in [
        ("n=2", json!(["1.0", "Z"]), Some("</v2/a/b/tags/list?last=Z&n=2>; rel=\"next\"")),
        ("n=2&last=Z", json!(["_", "a"]), Some("</v2/a/b/tags/list?last=a&n=2>; rel=\"next\"")),
        ("n=2&last=a", json!(["b", "c"]), None),
        ("n=100", all, None),
        ("n=0", json!([]), None),
        ("last=b", json!(["c"]), None),
        ("last=bb", json!(["c"]), None),
        ("n=2&last=z", json!([]), None),
    ] {
        let got = client.get(&format!("tags/list?{query}"));
        assert_eq!((got.json()["tags"].clone(), got.field("link")), (tags, next), "{query}");
    }
    assert_eq!(client.status("GET", "tags/list?n=x"), 400);
    assert_eq!(client.status("GET", "tags/list?n=-1"), 400);
}

#[test]
fn repositories_come_in_pages() {
    let registry = CaisRegistry::start(&[]);
    for name in ["b", "a", "a/b", "a-b/c"] {
        Client::new(&registry, name).push_image("latest", b"layer");
    }
    // Nothing can be pulled from this one.
    Client::new(&registry, "only-a-blob").push_blob(b"layer");
    let names = |path: &str| {
        let answer = registry.ask("GET", path, &[], b"");
        (answer.json()["repositories"].clone(), answer.field("link").map(str::to_owned))
    };
    assert_eq!(names("/v2/_catalog"), (json!(["a", "a-b/c", "a/b", "b"]), None));
    let (first, link) = names("/v2/_catalog?n=2");
    assert_eq!(first, json!(["a", "a-b/c"]));
    assert_eq!(link.as_deref(), Some("</v2/_catalog?last=a-b/c&n=2>; rel=\"next\""));
    assert_eq!(names("/v2/_catalog?n=2&last=a-b/c"), (json!(["a/b", "b"]), None));
}

/// Pushes an artifact of this type about `subject`: its digest.
fn push_artifact(client: &Client<'_>, subject: &Digest, kind: &str) -> Digest {
    let subject = format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":2}}"#);
    let more = format!(
        r#","artifactType":"{kind}","subject":{subject},"annotations":{{"about":"{kind}"}}"#
    );
    let text = image(&[], &more);
    let digest = Digest::of(text.as_bytes());
    let pushed = client.push_manifest(&digest.to_string(), OCI_MANIFEST, &text);
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert!(pushed.field("oci-subject").is_some_and(|said| subject.contains(said)));
    digest
}

#[test]
fn referrers_are_listed_and_filtered() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_blob(CONFIG);
    // The subject need not be there first, or ever.
    let subject = Digest::of(image(&[b"layer"], "").as_bytes());
    let signature = push_artifact(&client, &subject, "x/signature");
    let sbom = push_artifact(&client, &subject, "x/sbom");
    push_artifact(&client, &Digest::of(b"another"), "x/sbom");
    assert_eq!(client.push_image("v1", b"layer"), subject);

    let list = |query: &str| {
        let got = client.get(&format!("referrers/{subject}{query}"));
        assert_eq!((got.status, got.field("content-type")), (200, Some(OCI_INDEX)));
        let body = got.json();
        assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
        let mut found: Vec<String> = body["manifests"]
            .as_array()
            .expect("a list of manifests")
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap_or_default().to_owned())
            .collect();
        found.sort();
        (found, got.field("oci-filters-applied").map(str::to_owned), body)
    };
    let mut both = vec![signature.to_string(), sbom.to_string()];
    both.sort();
    let (found, applied, body) = list("");
    assert_eq!((found, applied), (both, None));
    let entry = body["manifests"].as_array().and_then(|all| {
        all.iter().find(|entry| entry["digest"] == Value::String(sbom.to_string()))
    });
    let entry = entry.expect("the artifact is listed");
    assert_eq!(entry["artifactType"], "x/sbom");
    assert_eq!(entry["annotations"], json!({ "about": "x/sbom" }));
    assert_eq!(entry["mediaType"], OCI_MANIFEST);
    assert!(entry["size"].as_u64().is_some_and(|size| size > 100));
    let (found, applied, _) = list("?artifactType=x/sbom");
    assert_eq!((found, applied), (vec![sbom.to_string()], Some("artifactType".to_owned())));
    assert_eq!(list("?artifactType=x/none").0, Vec::<String>::new());

    assert_eq!(client.status("DELETE", &format!("manifests/{sbom}")), 202);
    assert_eq!(list("").0, [signature.to_string()]);
    // Nothing is known of these, which is no error.
    assert_eq!(
        client.get(&format!("referrers/{}", Digest::of(b"x"))).json()["manifests"],
        json!([])
    );
    assert_eq!(Client::new(&registry, "b").status("GET", &format!("referrers/{subject}")), 200);
    assert_eq!(client.status("GET", "referrers/x"), 400);
}

#[test]
fn an_image_without_a_type_has_that_of_its_config_and_an_index_has_none() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_blob(CONFIG);
    let subject = Digest::of(b"subject");
    let field = format!(r#","subject":{}"#, descriptor(OCI_MANIFEST, b"subject"));
    assert_eq!(client.push_manifest("image", OCI_MANIFEST, &image(&[], &field)).status, 201);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]{field}}}"#);
    assert_eq!(client.push_manifest("index", OCI_INDEX, &index).status, 201);
    let list = client.get(&format!("referrers/{subject}")).json();
    for entry in list["manifests"].as_array().expect("a list of manifests") {
        let expected = match entry["mediaType"].as_str() {
            Some(OCI_INDEX) => Value::Null,
            _ => json!("application/vnd.oci.image.config.v1+json"),
        };
        assert_eq!(entry["artifactType"], expected);
    }
    assert_eq!(list["manifests"].as_array().map(Vec::len), Some(2));
}
