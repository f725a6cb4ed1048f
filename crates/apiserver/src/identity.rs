//! Who a cluster is, and who may ask it: certificates, a token, and the file that tells `kubectl`.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::authentication::{MASTERS, TokenKey, Trust, bootstrap_secret, random_bootstrap_token};
use crate::signer::Signer;

/// The files of a cluster's identity, below its directory.
const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const SERVER: &str = "server.crt";
const SERVER_KEY: &str = "server.key";
const TOKEN: &str = "admin.token";
/// What agents join with.
const NODE_TOKEN: &str = "node-token";
/// What signs the tokens of service accounts.
const ACCOUNTS_KEY: &str = "sa.key";

/// Who the server is to nodes.
pub(crate) const NODES_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Names that a server is called by inside of its cluster.
const NAMES: &[&str] = &[
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// What a cluster presents itself with, and whom it believes.
#[derive(Clone)]
pub struct Identity {
    directory: PathBuf,
    token: String,
    trust: Trust,
    /// The server's own addresses.
    addresses: Vec<IpAddr>,
    /// The administrator's certificate and key, in PEM, which are made each time.
    admin: (String, String),
}

/// Nobody learns keys and tokens by looking at it.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{doing} `{}`", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A certificate cannot be made.
    #[error("make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key for tokens is no good.
    #[error("{0}")]
    Key(String),
}

type Result<T> = std::result::Result<T, IdentityError>;

impl Identity {
    /// The identity that is kept in a directory. What is missing is made: an authority once, a
    /// certificate for these addresses each time, a token for whoever administers the cluster once,
    /// and a key for the tokens of service accounts once.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(directory: &Path, addresses: &[IpAddr]) -> Result<Self> {
        fs::create_dir_all(directory).map_err(|source| IdentityError::Io {
            doing: "make",
            path: directory.to_owned(),
            source,
        })?;
        let token = match read(&directory.join(TOKEN))? {
            Some(token) => token.trim().to_owned(),
            None => {
                let token = secret();
                write(&directory.join(TOKEN), &token, 0o600)?;
                token
            }
        };
        let issuer = authority(directory)?;
        certify(directory, &issuer, addresses)?;
        let authority = read(&directory.join(AUTHORITY))?.unwrap_or_default();
        let (certificate, key) = certify_client(&issuer, NODES_CLIENT, MASTERS)?;
        let nodes = client::Tls::new(&authority, Some((&certificate, &key)));
        let nodes = nodes.map_err(|error| IdentityError::Key(error.to_string()))?;
        let trust = Trust {
            token: token.as_str().into(),
            key: Arc::new(TokenKey::new(&accounts_key(directory)?).map_err(IdentityError::Key)?),
            authority: authority.into(),
            nodes: Some(nodes),
        };
        let admin = certify_client(&issuer, "kubernetes-admin", MASTERS)?;
        let (directory, addresses) = (directory.to_owned(), addresses.to_vec());
        Ok(Self { directory, token, trust, addresses, admin })
    }

    /// What hosts join with, which is made once; it is kept in a file of this name.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn node_token(&self) -> Result<(JoinToken, PathBuf)> {
        let path = self.directory.join(NODE_TOKEN);
        let digest = client::digest_of(&self.trust.authority);
        let digest = digest.map_err(|error| IdentityError::Key(error.to_string()))?;
        // Whoever has put another authority here has put no other token.
        let token = match read(&path)?.and_then(|text| JoinToken::parse(text.trim())) {
            Some(kept) => JoinToken { digest, ..kept },
            None => JoinToken { digest, token: random_bootstrap_token() },
        };
        write(&path, &format!("{token}\n"), 0o600)?;
        Ok((token, path))
    }

    /// What answers requests for certificates, which are good for at most so long.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn signer(&self, longest: Duration) -> Result<Signer> {
        let names = NAMES.iter().map(|name| (*name).to_owned()).collect();
        let issuer = authority(&self.directory)?;
        Ok(Signer::new(issuer, (names, self.addresses.clone()), longest))
    }

    /// The certificate of the authority that certifies clients.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.directory.join(AUTHORITY)
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// The server's certificate and key.
    #[must_use]
    pub fn server_files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join(SERVER), self.directory.join(SERVER_KEY))
    }

    /// What `kubectl` needs to know to ask at `address`: it asks with a certificate. The token is
    /// that of another user there, for what knows no certificates.
    ///
    /// # Errors
    /// [`IdentityError::Io`] if the authority's certificate cannot be read.
    pub fn kubeconfig(&self, address: &str) -> Result<String> {
        let (certificate, key) = &self.admin;
        Ok(format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: cais\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {}\n\
             users:\n\
             - name: admin\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\n\
             - name: admin-token\n  user:\n    token: {}\n\
             contexts:\n\
             - name: cais\n  context:\n    cluster: cais\n    user: admin\n\
             current-context: cais\n",
            BASE64_STANDARD.encode(&*self.trust.authority),
            BASE64_STANDARD.encode(certificate),
            BASE64_STANDARD.encode(key),
            self.token
        ))
    }

    /// Writes it to a file that only its owner may read.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn write_kubeconfig(&self, path: &Path, address: &str) -> Result<()> {
        write(path, &self.kubeconfig(address)?, 0o600)
    }
}

/// What a host joins a cluster with: whom it is to believe, and what proves that it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The digest of the authority's certificate.
    pub digest: client::Digest,
    /// The token itself.
    pub token: String,
}

impl JoinToken {
    /// What it begins with.
    const MARK: &str = "CAIS1";

    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, token) = text.strip_prefix(Self::MARK)?.split_once("::")?;
        let mut digest = client::Digest::default();
        if digits.len() != 2 * digest.len() || bootstrap_secret(token).is_none() {
            return None;
        }
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self { digest, token: token.to_owned() })
    }

    /// The secret that makes the token good.
    #[must_use]
    pub fn secret(&self) -> serde_json::Value {
        bootstrap_secret(&self.token).unwrap_or_default()
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::MARK)?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "::{}", self.token)
    }
}

/// The authority, which is made once.
fn authority(directory: &Path) -> Result<Issuer<'static, KeyPair>> {
    let (path, key_path) = (directory.join(AUTHORITY), directory.join(AUTHORITY_KEY));
    let params = authority_params();
    let key = match (read(&path)?, read(&key_path)?) {
        (Some(_), Some(key)) => KeyPair::from_pem(&key)?,
        _ => {
            let key = KeyPair::generate()?;
            write(&key_path, &key.serialize_pem(), 0o600)?;
            write(&path, &params.self_signed(&key)?.pem(), 0o644)?;
            key
        }
    };
    Ok(Issuer::new(params, key))
}

/// The key for tokens, which is made once: tokens outlive the server.
fn accounts_key(directory: &Path) -> Result<KeyPair> {
    let path = directory.join(ACCOUNTS_KEY);
    if let Some(key) = read(&path)? {
        return Ok(KeyPair::from_pem(&key)?);
    }
    let key = KeyPair::generate()?;
    write(&path, &key.serialize_pem(), 0o600)?;
    Ok(key)
}

/// The server's certificate, for these addresses.
fn certify(directory: &Path, issuer: &Issuer<'_, KeyPair>, addresses: &[IpAddr]) -> Result<()> {
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.subject_alt_names.extend(addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let own = KeyPair::generate()?;
    let certificate = params.signed_by(&own, issuer)?;
    write(&directory.join(SERVER_KEY), &own.serialize_pem(), 0o600)?;
    // Those who know the authority by its digest alone are shown it.
    let authority = read(&directory.join(AUTHORITY))?.unwrap_or_default();
    write(&directory.join(SERVER), &format!("{}{authority}", certificate.pem()), 0o644)
}

/// A client's certificate and key, in PEM: a user, in a group.
fn certify_client(
    issuer: &Issuer<'_, KeyPair>,
    user: &str,
    group: &str,
) -> Result<(String, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let own = KeyPair::generate()?;
    let certificate = params.signed_by(&own, issuer)?;
    Ok((certificate.pem(), own.serialize_pem()))
}

impl Trust {
    /// Believes nobody but the service accounts of a cluster that nobody else knows.
    pub(crate) fn of_nobody() -> std::result::Result<Self, String> {
        let pair = KeyPair::generate().map_err(|error| format!("make a key: {error}"))?;
        let key = Arc::new(TokenKey::new(&pair)?);
        Ok(Self { token: "".into(), key, authority: "".into(), nodes: None })
    }
}

/// The authority is the same each time that it is read: its key is.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "cais-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io { doing: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file whole, under another name first: nobody reads half of it.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let failed = |source| IdentityError::Io { doing: "write", path: path.to_owned(), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let _ = fs::remove_file(&unfinished);
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(&unfinished).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}

fn secret() -> String {
    let bytes = crate::cluster::random::<32>();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In a time that says nothing about where they differ.
pub(crate) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays() {
        let directory = tempfile::tempdir().unwrap();
        let local = [IpAddr::from([127, 0, 0, 1])];
        let first = Identity::open(directory.path(), &local).unwrap();
        let authority = fs::read(directory.path().join(AUTHORITY)).unwrap();
        let again = Identity::open(directory.path(), &local).unwrap();
        assert_eq!((first.token.len(), &first.token), (64, &again.token));
        assert_eq!(fs::read(directory.path().join(AUTHORITY)).unwrap(), authority);
        let (token, _) = first.node_token().unwrap();
        assert_eq!(again.node_token().unwrap().0, token);
        assert_eq!(JoinToken::parse(&token.to_string()), Some(token));
        assert_eq!(again.trust.key.key_set(), first.trust.key.key_set());
        let text = again.kubeconfig("127.0.0.1:6443").unwrap();
        assert!(text.contains("server: https://127.0.0.1:6443\n") && text.contains(&first.token));
        let path = directory.path().join("config");
        again.write_kubeconfig(&path, "127.0.0.1:6443").unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
