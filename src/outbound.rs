//! Calls to the outside, and where they may lead.
//!
//! What a tenant names must not reach what only this server can: its own
//! ports, its network, the metadata service of its cloud. So a guarded client
//! resolves names itself and connects to public addresses alone. The check is
//! made on the very addresses that are connected to: a name that resolves
//! otherwise a moment later gains nothing.

mod addresses;
pub mod headers;
mod resolver;

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use url::{Host, Url};

use crate::cidr::Cidr;

pub use addresses::is_public;
use resolver::{Guard, Reach};
pub use resolver::{Lookup, Resolver};

/// Time for a connection, the name's addresses included.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections to one host that are kept for the next call.
const IDLE: usize = 4;

/// `[outbound]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundConfig {
    /// Blocks that tenants reach besides the public Internet.
    pub allowed_networks: Vec<Cidr>,
    /// Certificates (PEM) that are trusted besides those of the operating
    /// system; empty: none.
    pub extra_ca_file: PathBuf,
    /// Who is asked for the addresses of names. No setting: code says it.
    #[serde(skip)]
    pub resolver: Resolver,
}

/// The call would lead to an address that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination is not allowed")]
pub struct Blocked;

/// Whether a call failed because its destination is not allowed.
pub fn is_blocked(error: &reqwest::Error) -> bool {
    has_source::<Blocked>(error)
}

/// Whether an error of this type is among the causes.
pub fn has_source<E: Error + 'static>(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        // Connectors wrap what they cannot name into I/O errors, which as a
        // source pass over what they wrap.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause =
            wrapped.map_or_else(|| error.source(), |inner| Some(inner as &(dyn Error + 'static)));
    }
    false
}

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The file of certificates.
    #[error("outbound.extra_ca_file: {0}")]
    Certificates(#[from] rustls::pki_types::pem::Error),
    /// The file of certificates has none.
    #[error("outbound.extra_ca_file: no certificate in it")]
    NoCertificate,
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The client.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// A client, and the guard that its connections pass.
#[derive(Debug, Clone)]
struct Guarded {
    client: Client,
    guard: Guard,
}

impl Guarded {
    fn new(tls: &ClientConfig, config: &OutboundConfig, reach: Reach) -> reqwest::Result<Self> {
        let guard = Guard {
            reach,
            allowed: config.allowed_networks.as_slice().into(),
            resolver: config.resolver.clone(),
        };
        let builder = Client::builder().tls_backend_preconfigured(tls.clone());
        let client = limited(builder).dns_resolver(guard.clone()).build()?;
        Ok(Self { client, guard })
    }

    /// An address in place of a name is never resolved, so the client itself
    /// would not ask.
    fn to(&self, url: &Url) -> Result<&Client, Blocked> {
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(Blocked),
        };
        match literal.is_none_or(|address| self.guard.allows(address)) {
            true => Ok(&self.client),
            false => Err(Blocked),
        }
    }
}

/// The clients of one server. None of them follows redirects or uses a proxy
/// of the environment: both would lead past the guard.
#[derive(Debug, Clone)]
pub struct Outbound {
    open: Guarded,
    guarded: Guarded,
    allowed: Guarded,
}

impl Outbound {
    /// Clients that speak TLS as the operating system trusts, and as
    /// `extra_ca_file` does.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn new(config: &OutboundConfig) -> Result<Self, OutboundError> {
        let tls = tls(&config.extra_ca_file)?;
        Ok(Self {
            open: Guarded::new(&tls, config, Reach::All)?,
            guarded: Guarded::new(&tls, config, Reach::Public)?,
            allowed: Guarded::new(&tls, config, Reach::Allowed)?,
        })
    }

    /// The client for what the operator's configuration declares.
    pub fn open(&self) -> &Client {
        &self.open.client
    }

    /// The client for a URL that a tenant names.
    ///
    /// # Errors
    /// [`Blocked`] if it names an address that is not allowed.
    pub fn guarded(&self, url: &Url) -> Result<&Client, Blocked> {
        self.guarded.to(url)
    }

    /// The client for a document that a caller names: by `https` from public
    /// addresses, by `http` only from those that the operator allows.
    ///
    /// # Errors
    /// [`Blocked`] if it names an address that is not allowed, or another
    /// scheme.
    pub fn for_document(&self, url: &Url) -> Result<&Client, Blocked> {
        match url.scheme() {
            "https" => self.guarded.to(url),
            "http" => self.allowed.to(url),
            _ => Err(Blocked),
        }
    }
}

fn limited(builder: ClientBuilder) -> ClientBuilder {
    builder
        .connect_timeout(CONNECT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_max_idle_per_host(IDLE)
        .user_agent(concat!("Millrace/", env!("CARGO_PKG_VERSION")))
}

/// TLS with ring, given to the clients and not to the whole process. A system
/// that trusts nobody is no reason not to start: calls by TLS fail then.
fn tls(extra: &Path) -> Result<ClientConfig, OutboundError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let extra = certificates(extra)?;
    let trusts_more = !extra.is_empty();
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()),
        Err(error) if trusts_more => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "calls by TLS will fail; install the system's certificates");
            Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

/// The certificates of a file; none without a file.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, OutboundError> {
    if file == Path::new("") {
        return Ok(Vec::new());
    }
    let found: Vec<_> = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    if found.is_empty() { Err(OutboundError::NoCertificate) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaching(allowed: &[&str]) -> Outbound {
        let allowed_networks = allowed.iter().map(|block| block.parse().unwrap()).collect();
        Outbound::new(&OutboundConfig { allowed_networks, ..OutboundConfig::default() }).unwrap()
    }

    #[test]
    fn an_address_in_a_url_is_refused_in_every_way_of_writing_it() {
        let outbound = reaching(&["192.168.1.0/24"]);
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data",
            "http://10.0.0.1:8080/",
        ] {
            assert!(outbound.guarded(&url.parse().unwrap()).is_err(), "{url}");
            assert!(outbound.for_document(&url.parse().unwrap()).is_err(), "{url}");
        }
        for url in ["https://8.8.8.8/", "http://192.168.1.7/", "https://localhost/"] {
            assert!(outbound.guarded(&url.parse().unwrap()).is_ok(), "{url}");
            assert!(outbound.for_document(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_document_comes_by_http_only_from_where_the_operator_allows() {
        let outbound = reaching(&["192.168.1.0/24"]);
        for url in ["http://8.8.8.8/", "ftp://192.168.1.7/", "file:///etc/passwd"] {
            assert!(outbound.for_document(&url.parse().unwrap()).is_err(), "{url}");
        }
    }

    #[test]
    fn a_file_of_certificates_that_cannot_be_read_or_has_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let made = |extra_ca_file: &Path| {
            let extra_ca_file = extra_ca_file.to_owned();
            Outbound::new(&OutboundConfig { extra_ca_file, ..OutboundConfig::default() })
        };
        assert!(matches!(made(&file), Err(OutboundError::Certificates(_))));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(matches!(made(&file), Err(OutboundError::NoCertificate)));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_where_it_is_resolved() {
        let outbound = reaching(&[]);
        // Whether or not anybody listens there.
        let url: Url = "http://localhost:1/".parse().unwrap();
        let error = outbound.guarded(&url).unwrap().get(url).send().await.unwrap_err();
        assert!(is_blocked(&error), "{error:?}");
        let url: Url = "http://localhost:1/".parse().unwrap();
        let allowing = reaching(&["127.0.0.0/8", "::1/128"]);
        let error = allowing.guarded(&url).unwrap().get(url).send().await.unwrap_err();
        assert!(error.is_connect() && !is_blocked(&error), "{error:?}");
    }
}
