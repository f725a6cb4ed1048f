//! Receiving blobs: resuming, verifying, waiting.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use oci::Digest;
use store::Error;

use super::fixture::Fixture;

#[test]
fn a_blob_is_received_in_pieces_and_over_several_attempts() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let bytes = vec![5; 1_000_000];
    let digest = Digest::of(&bytes);
    let mut first = store.ingest(&digest, 1_000_000).unwrap().unwrap();
    first.write_all(&bytes[..400_000]).unwrap();
    drop(first);
    assert!(!store.has_blob(&digest));
    let mut second = store.ingest(&digest, 1_000_000).unwrap().unwrap();
    assert_eq!((second.offset(), second.size()), (400_000, 1_000_000));
    let mut held = second.held().unwrap();
    second.write_all(&bytes[400_000..]).unwrap();
    let mut before = Vec::new();
    held.read_to_end(&mut before).unwrap();
    assert_eq!(before, &bytes[..400_000]);
    second.commit().unwrap();
    assert_eq!(store.read_blob(&digest, 1_000_000).unwrap(), bytes);
    assert!(matches!(store.read_blob(&digest, 999_999), Err(Error::Invalid(_))));
    assert!(store.ingest(&digest, 1_000_000).unwrap().is_none());
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn what_does_not_match_is_refused() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let digest = Digest::of(b"right");
    let mut wrong = store.ingest(&digest, 5).unwrap().unwrap();
    assert!(wrong.write_all(b"longer").is_err());
    wrong.write_all(b"wrong").unwrap();
    let error = wrong.commit().unwrap_err();
    assert!(matches!(error, Error::Digest { actual, .. } if actual == Digest::of(b"wrong")));
    // Nothing of it is resumed.
    let mut short = store.ingest(&digest, 5).unwrap().unwrap();
    assert_eq!(short.offset(), 0);
    short.write_all(b"rig").unwrap();
    assert!(matches!(short.commit(), Err(Error::Invalid(_))));
    let mut rest = store.ingest(&digest, 5).unwrap().unwrap();
    assert_eq!(rest.offset(), 3);
    rest.reset().unwrap();
    rest.write_all(b"right").unwrap();
    rest.commit().unwrap();
    // A partial blob longer than it should be is started over.
    std::fs::write(store.root().join("ingest").join(Digest::of(b"x").hex()), "long").unwrap();
    assert_eq!(store.ingest(&Digest::of(b"x"), 1).unwrap().unwrap().offset(), 0);
}

#[test]
fn the_second_of_two_receivers_finds_the_work_done() {
    let fixture = Fixture::new();
    let digest = Digest::of(b"once");
    let mut first = fixture.store.ingest(&digest, 4).unwrap().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let sender = sender.clone();
            let store = &fixture.store;
            scope.spawn(move || sender.send(store.ingest(&digest, 4).unwrap().is_none()).unwrap());
        }
        first.write_all(b"once").unwrap();
        assert!(receiver.try_recv().is_err(), "somebody did not wait");
        first.commit().unwrap();
        for _ in 0..3 {
            assert!(receiver.recv_timeout(Duration::from_secs(60)).unwrap());
        }
    });
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn when_the_first_receiver_gives_up_the_next_resumes() {
    let fixture = Fixture::new();
    let digest = Digest::of(b"once");
    let mut first = fixture.store.ingest(&digest, 4).unwrap().unwrap();
    first.write_all(b"on").unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut second = fixture.store.ingest(&digest, 4).unwrap().unwrap();
            assert_eq!(second.offset(), 2);
            second.write_all(b"ce").unwrap();
            second.commit().unwrap();
        });
        drop(first);
        second.join().unwrap();
    });
    assert!(fixture.store.has_blob(&digest));
}

#[test]
fn a_missing_blob_has_a_name() {
    let fixture = Fixture::new();
    let digest = Digest::of(b"");
    let error = fixture.store.read_blob(&digest, 1).unwrap_err();
    assert_eq!(error.to_string(), format!("no such blob: {digest}"));
}
