//! Looking for repositories.

use registry::{Auth, Config, Error, HostConfig, search};
use serde_json::json;

use super::fake::{Fake, Reply, Site};
use super::place::client;

fn names(fake: &Fake, term: &str, limit: usize) -> Result<Vec<String>, Error> {
    let client = client(&Config::default(), Auth::anonymous());
    let found = search(&client, &format!("{}/{term}", fake.host()), limit)?;
    let host = format!("{}/", fake.host());
    Ok(found.into_iter().map(|one| one.name.strip_prefix(&host).unwrap().to_owned()).collect())
}

#[test]
fn the_api_of_docker_hub_is_asked_first() {
    let results = json!({"num_results": 2, "query": "x", "results": [
        {"name": "x", "description": "d", "star_count": 3, "is_official": true},
        {"name": "y/x", "description": "", "star_count": 0, "is_official": false},
    ]});
    let fake = Fake::start(Site::default(), move |request, _| {
        request.path.starts_with("/v1/search").then(|| Reply::new(200, results.to_string()))
    });
    assert_eq!(names(&fake, "a b", 7).unwrap(), ["x", "y/x"]);
    assert_eq!(fake.heard()[0].path, "/v1/search?q=a%20b&n=7");
    assert_eq!(names(&fake, "x", 1).unwrap(), ["x"]);
}

#[test]
fn docker_hub_is_asked_where_its_index_is() {
    let fake = Fake::start(Site::default(), |_, _| {
        Some(Reply::new(200, r#"{"results":[{"name":"ubuntu","is_official":true}]}"#))
    });
    let mut config = Config::default();
    let location = Some(format!("http://{}", fake.host()));
    let there = HostConfig { location, ..HostConfig::default() };
    config.hosts.insert("index.docker.io".to_owned(), there);
    let client = client(&config, Auth::anonymous());
    for term in ["ubuntu", "library/ubuntu", "docker.io/library/ubuntu"] {
        assert_eq!(search(&client, term, 25).unwrap()[0].name, "ubuntu");
    }
    assert!(fake.heard().iter().all(|request| request.path == "/v1/search?q=ubuntu&n=25"));
}

#[test]
fn a_catalogue_is_looked_through_page_by_page() {
    let fake = Fake::start(Site::default(), |request, _| {
        let (path, query) = request.path.split_once('?')?;
        (path == "/v2/_catalog").then(|| {
            let from = if query.contains("last=") { 1000 } else { 0 };
            let names: Vec<String> =
                (from..1000 + from / 2).map(|n| format!("app{n:04}")).collect();
            Reply::new(200, json!({"repositories": names}).to_string())
        })
    });
    assert_eq!(names(&fake, "9", 5).unwrap().len(), 5);
    assert_eq!(names(&fake, "1499", 5).unwrap(), ["app1499"]);
    assert!(names(&fake, "nothing", 5).unwrap().is_empty());
}

#[test]
fn a_registry_that_offers_neither_is_named() {
    for (status, body) in [(404, ""), (401, ""), (405, "{}")] {
        let fake = Fake::start(Site::default(), move |_, _| Some(Reply::new(status, body)));
        let error = names(&fake, "x", 5).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{status}: {error}");
    }
    let fake = Fake::start(Site::default(), |_, _| Some(Reply::new(200, "<html>")));
    assert!(names(&fake, "x", 5).unwrap_err().to_string().contains("its answer"));
}
