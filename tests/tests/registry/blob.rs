//! Pushing and pulling blobs.

use oci::Digest;
use testkit::CaisRegistry;

use super::Client;

const CONTENT: &[u8] = b"0123456789abcdefghij";

#[test]
fn a_blob_can_be_pushed_in_every_way() {
    let registry = CaisRegistry::start(&[]);
    let digest = Digest::of(CONTENT);
    type Push = fn(&Client<'_>, &str);
    let ways: &[(&str, Push)] = &[
        ("post", |client, digest| {
            let path = format!("blobs/uploads/?digest={digest}");
            let answer = client.ask("POST", &path, &[], CONTENT);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(client.below(&answer), format!("blobs/{digest}"));
            assert_eq!(answer.field("docker-content-digest"), Some(digest));
        }),
        ("post-put", |client, digest| {
            let at = client.start_upload();
            let answer = client.ask("PUT", &format!("{at}?digest={digest}"), &[], CONTENT);
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(client.below(&answer), format!("blobs/{digest}"));
        }),
        ("chunks", |client, digest| {
            let at = client.start_upload();
            let first = client.ask("PATCH", &at, &[("Content-Range", "0-9")], &CONTENT[..10]);
            assert_eq!((first.status, first.field("range")), (202, Some("0-9")));
            let at = client.below(&first);
            let second = client.ask("PATCH", &at, &[("Content-Range", "10-14")], &CONTENT[10..15]);
            assert_eq!((second.status, second.field("range")), (202, Some("0-14")));
            let at = client.below(&second);
            let path = format!("{at}?digest={digest}");
            let last = client.ask("PUT", &path, &[("Content-Range", "15-19")], &CONTENT[15..]);
            assert_eq!(last.status, 201, "{}", last.text());
        }),
        ("stream", |client, digest| {
            let at = client.start_upload();
            let body = b"5\r\n01234\r\nF;x=y\r\n56789abcdefghij\r\n0\r\nTrailer: z\r\n\r\n";
            let answer = client.ask("PATCH", &at, &[("Transfer-Encoding", "chunked")], body);
            assert_eq!((answer.status, answer.field("range")), (202, Some("0-19")));
            let at = client.below(&answer);
            assert_eq!(client.ask("PUT", &format!("{at}?digest={digest}"), &[], b"").status, 201);
        }),
    ];
    for (name, push) in ways {
        let client = Client::new(&registry, name);
        push(&client, &digest.to_string());
        let got = client.get(&format!("blobs/{digest}"));
        assert_eq!((got.status, got.body.as_slice()), (200, CONTENT), "{name}");
        assert_eq!(got.field("docker-content-digest"), Some(digest.to_string().as_str()), "{name}");
        let head = client.ask("HEAD", &format!("blobs/{digest}"), &[], b"");
        assert_eq!((head.status, head.field("content-length")), (200, Some("20")), "{name}");
    }
    let elsewhere = Client::new(&registry, "elsewhere");
    assert_eq!(elsewhere.status("GET", &format!("blobs/{digest}")), 404);
}

#[test]
fn an_upload_says_how_far_it_is_and_can_be_cancelled() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a/b");
    let at = client.start_upload();
    assert_eq!(client.ask("PATCH", &at, &[], &CONTENT[..7]).status, 202);
    let status = client.get(&at);
    assert_eq!((status.status, status.field("range")), (204, Some("0-6")));
    assert_eq!(client.below(&status), at);
    assert_eq!(client.status("DELETE", &at), 204);
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let answer = client.ask(method, &format!("{at}?digest={}", Digest::of(b"")), &[], b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "BLOB_UPLOAD_UNKNOWN"),
            "{method}"
        );
    }
}

#[test]
fn chunks_out_of_order_are_refused_and_change_nothing() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let at = client.start_upload();
    let chunk = |range: &str, bytes: &[u8]| {
        let answer = client.ask("PATCH", &at, &[("Content-Range", range)], bytes);
        (answer.status, answer.code())
    };
    let code = |text: &str| text.to_owned();
    assert_eq!(chunk("5-9", &CONTENT[5..10]), (416, code("BLOB_UPLOAD_INVALID")));
    assert_eq!(chunk("0-4", &CONTENT[..5]).0, 202);
    for (range, status, error) in [
        ("0-4", 416, "BLOB_UPLOAD_INVALID"),
        ("6-10", 416, "BLOB_UPLOAD_INVALID"),
        ("5-8", 400, "SIZE_INVALID"),
        ("5-10", 400, "SIZE_INVALID"),
        ("9-5", 400, "BLOB_UPLOAD_INVALID"),
        ("5", 400, "BLOB_UPLOAD_INVALID"),
        ("a-b", 400, "BLOB_UPLOAD_INVALID"),
        ("5-18446744073709551615", 400, "BLOB_UPLOAD_INVALID"),
    ] {
        assert_eq!(chunk(range, &CONTENT[5..10]), (status, code(error)), "{range}");
        assert_eq!(client.get(&at).field("range"), Some("0-4"), "{range}");
    }
    let refused = client.ask("PATCH", &at, &[("Content-Range", "9-9")], b"9");
    assert_eq!(client.below(&refused), at, "it says where to go on");
    assert_eq!(chunk("5-19", &CONTENT[5..]).0, 202);
    let path = format!("{at}?digest={}", Digest::of(CONTENT));
    assert_eq!(client.status("PUT", &path), 201);
}

#[test]
fn what_does_not_match_its_digest_is_refused_and_gone() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let other = Digest::of(b"other");
    let at = client.start_upload();
    for path in [format!("blobs/uploads/?digest={other}"), format!("{at}?digest={other}")] {
        let method = if path.starts_with("blobs/uploads/?") { "POST" } else { "PUT" };
        let answer = client.ask(method, &path, &[], CONTENT);
        assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "{path}");
        assert_eq!(client.status("GET", &format!("blobs/{other}")), 404);
    }
    assert_eq!(client.status("GET", &at), 404);
    for bad in ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../../etc"] {
        let at = client.start_upload();
        let answer = client.ask("PUT", &format!("{at}?digest={bad}"), &[], CONTENT);
        assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "{bad}");
    }
    let at = client.start_upload();
    let answer = client.ask("PUT", &at, &[], CONTENT);
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "no digest");
}

#[test]
fn an_empty_blob_is_a_blob() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let digest = client.push_blob(b"");
    let got = client.get(&format!("blobs/{digest}"));
    assert_eq!((got.status, got.field("content-length")), (200, Some("0")));
    let part = client.ask("GET", &format!("blobs/{digest}"), &[("Range", "bytes=0-0")], b"");
    assert_eq!(part.status, 416);
}

#[test]
fn blobs_have_two_algorithms() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    // The second half of a digest that nobody has to compute here: the server says it.
    let wrong = format!("sha512:{}", "0".repeat(128));
    let refused = client.ask("POST", &format!("blobs/uploads/?digest={wrong}"), &[], CONTENT);
    assert_eq!(refused.status, 400);
    let actual = refused.json()["errors"][0]["detail"]["actual"].as_str().unwrap_or("").to_owned();
    assert_eq!(actual.len(), wrong.len(), "{}", refused.text());
    assert_ne!(actual, wrong);
    let pushed = client.ask("POST", &format!("blobs/uploads/?digest={actual}"), &[], CONTENT);
    assert_eq!(pushed.field("docker-content-digest"), Some(actual.as_str()));
    let got = client.get(&format!("blobs/{actual}"));
    assert_eq!((got.status, got.body.as_slice()), (200, CONTENT));
    let start = |algorithm: &str| {
        client.status("POST", &format!("blobs/uploads/?digest-algorithm={algorithm}"))
    };
    assert_eq!((start("sha512"), start("md5")), (202, 400));
    assert_eq!(client.status("DELETE", &format!("blobs/{actual}")), 202);
    assert_eq!(client.status("GET", &format!("blobs/{actual}")), 404);
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let registry = CaisRegistry::start(&[]);
    let (from, to) = (Client::new(&registry, "from"), Client::new(&registry, "to/here"));
    let digest = from.push_blob(CONTENT);
    for (query, status) in [
        (format!("mount={digest}&from=nowhere"), 202),
        (format!("mount={}&from=from", Digest::of(b"x")), 202),
        (format!("mount={digest}&from=../from"), 400),
        ("mount=x&from=from".to_owned(), 400),
    ] {
        let answer = to.ask("POST", &format!("blobs/uploads/?{query}"), &[], b"");
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(to.status("GET", &format!("blobs/{digest}")), 404, "{query}");
    }
    for query in [format!("mount={digest}&from=from"), format!("mount={digest}")] {
        let answer = to.ask("POST", &format!("blobs/uploads/?{query}"), &[], b"");
        assert_eq!(answer.status, 201, "{query}");
        assert_eq!(to.below(&answer), format!("blobs/{digest}"));
        assert_eq!(answer.field("docker-content-digest"), Some(digest.to_string().as_str()));
        assert_eq!(to.status("DELETE", &format!("blobs/{digest}")), 202, "{query}");
    }
    assert_eq!(from.status("GET", &format!("blobs/{digest}")), 200, "the source keeps its own");
}

#[test]
fn what_the_store_has_for_itself_cannot_be_mounted() {
    let registry = CaisRegistry::start(&[]);
    let blobs = registry.root().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let digest = Digest::of(CONTENT);
    std::fs::write(blobs.join(digest.hex()), CONTENT).unwrap();
    let client = Client::new(&registry, "a");
    assert_eq!(client.status("POST", &format!("blobs/uploads/?mount={digest}")), 202);
    assert_eq!(client.status("GET", &format!("blobs/{digest}")), 404);
}

#[test]
fn parts_of_a_blob_are_served() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let digest = client.push_blob(CONTENT);
    let path = format!("blobs/{digest}");
    let tag = format!("\"{digest}\"");
    let whole = client.get(&path);
    assert_eq!(whole.field("etag"), Some(tag.as_str()));
    assert_eq!(whole.field("accept-ranges"), Some("bytes"));
    for (fields, status, content, range) in [
        (vec![("Range", "bytes=5-9")], 206, &CONTENT[5..10], Some("bytes 5-9/20")),
        (vec![("Range", "bytes=15-")], 206, &CONTENT[15..], Some("bytes 15-19/20")),
        (vec![("Range", "bytes=-3")], 206, &CONTENT[17..], Some("bytes 17-19/20")),
        (vec![("Range", "bytes=18-99")], 206, &CONTENT[18..], Some("bytes 18-19/20")),
        (vec![("Range", "bytes=0-1,4-5")], 200, CONTENT, None),
        (vec![("Range", "pages=1")], 200, CONTENT, None),
        (
            vec![("Range", "bytes=5-9"), ("If-Range", &tag)],
            206,
            &CONTENT[5..10],
            Some("bytes 5-9/20"),
        ),
        (vec![("Range", "bytes=5-9"), ("If-Range", "\"other\"")], 200, CONTENT, None),
        (vec![("If-None-Match", &tag)], 304, b"", None),
        (vec![("If-None-Match", "\"other\"")], 200, CONTENT, None),
    ] {
        let got = client.ask("GET", &path, &fields, b"");
        assert_eq!((got.status, got.body.as_slice()), (status, content), "{fields:?}");
        assert_eq!(got.field("content-range"), range, "{fields:?}");
    }
    for range in ["bytes=20-", "bytes=9-5", "bytes=-0"] {
        let got = client.ask("GET", &path, &[("Range", range)], b"");
        assert_eq!((got.status, got.field("content-range")), (416, Some("bytes */20")), "{range}");
    }
}

#[test]
fn a_large_blob_arrives_whole() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let content: Vec<u8> = (0..5_000_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = client.push_blob(&content);
    let got = client.get(&format!("blobs/{digest}"));
    assert_eq!(Digest::of(&got.body), digest);
    let part =
        client.ask("GET", &format!("blobs/{digest}"), &[("Range", "bytes=1000001-19000000")], b"");
    assert!(part.body == content[1_000_001..=19_000_000]);
}

#[test]
fn a_blob_is_deleted_from_its_repository_alone() {
    let registry = CaisRegistry::start(&[]);
    let (one, two) = (Client::new(&registry, "one"), Client::new(&registry, "two"));
    let digest = one.push_blob(CONTENT);
    assert_eq!(two.push_blob(CONTENT), digest);
    let path = format!("blobs/{digest}");
    assert_eq!(one.status("DELETE", &path), 202);
    let again = one.ask("DELETE", &path, &[], b"");
    assert_eq!((again.status, again.code().as_str()), (404, "BLOB_UNKNOWN"));
    assert_eq!((one.status("HEAD", &path), two.status("HEAD", &path)), (404, 200));
    assert_eq!(Client::new(&registry, "three").status("DELETE", &path), 404);
}
