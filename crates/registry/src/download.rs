//! Single files from the network, which are no images' content.

use std::io::{Read as _, Write};

use ureq::http::Uri;

use crate::auth::basic;
use crate::endpoint::{Endpoint, Scheme};
use crate::fault::Fault;
use crate::http::{Ask, Http, refusal};
use crate::{Config, Error};

const COPY_BYTES: usize = 256 << 10;

/// Gets the file at an `http://` or `https://` address, following where the server sends us, and
/// writes it to `out`. Proxies and authorities are those of registries. A user and a password in the
/// address go to that server alone.
///
/// # Errors
/// [`Error::Invalid`], which says why.
pub fn download(config: &Config, url: &str, out: &mut dyn Write) -> Result<u64, Error> {
    let shown = oci::redacted(url);
    let refuse = |why: &str| Error::Invalid(format!("cannot get {shown}: {why}"));
    let (bare, who) = oci::without_credentials(url);
    let uri: Uri =
        bare.split('#').next().unwrap_or(&bare).parse().map_err(|_| refuse("no valid address"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(refuse("only http:// and https:// are known")),
    };
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let authorization = who.map(|(user, password)| basic(&user, &password));
    let endpoint = Endpoint {
        authority: authority.clone(),
        prefix: String::new(),
        name: authority.clone(),
        insecure: false,
        schemes: vec![scheme],
    };
    let http = Http::new(config, &authority, &endpoint);
    let mut get = || -> Result<u64, Fault> {
        let answer =
            http.ask(&uri, Ask { authorization: authorization.clone(), ..Ask::default() })?;
        if !answer.response.status().is_success() {
            return Err(refusal(answer.response));
        }
        let announced = answer.response.body().content_length();
        let mut body = answer.response.into_body().into_reader();
        let mut buffer = vec![0; COPY_BYTES];
        let mut bytes: u64 = 0;
        loop {
            let n = body.read(&mut buffer).map_err(|error| Fault::Broken(error.to_string()))?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(|error| Fault::Wrong(error.to_string()))?;
            bytes += n as u64;
        }
        match announced {
            Some(announced) if announced != bytes => {
                Err(Fault::Broken(format!("it ended after {bytes} of {announced} bytes")))
            }
            _ => Ok(bytes),
        }
    };
    get().map_err(|fault| refuse(&oci::redacted(&words(fault))))
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::Missing(_) => "it is not there (HTTP status 404)".to_owned(),
        Fault::Denied(why) | Fault::Broken(why) | Fault::Failing(why) | Fault::Wrong(why) => why,
        Fault::Limited { detail, .. } => format!("too many requests: {detail}"),
        Fault::Unconnected { why, .. } | Fault::Refused { why, .. } => why,
        Fault::Mismatch { what, expected, got } => {
            format!("{what} does not match: expected {expected}, got {got}")
        }
    }
}
