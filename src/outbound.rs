//! Calls to the outside, and where they may lead.
//!
//! What a tenant names must not reach what only this server can: its own
//! ports, its network, the metadata service of its cloud. So a guarded client
//! resolves names itself and connects to public addresses alone. The check is
//! made on the very addresses that are connected to: a name that resolves
//! otherwise a moment later gains nothing.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use url::{Host, Url};

use crate::cidr::Cidr;

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections to one host that are kept for the next call.
const IDLE: usize = 4;

/// Blocks of IPv4 that are not public (IANA IPv4 Special-Purpose Address
/// Registry; multicast and reserved: RFC 5771, RFC 1112): address and length.
const NOT_PUBLIC_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Blocks of IPv6 within the global unicast range that are not public (IANA
/// IPv6 Special-Purpose Address Registry): first two segments and length.
/// 6to4 and Teredo carry IPv4 addresses of anybody's choice.
const NOT_PUBLIC_V6: [([u16; 2], u8); 4] =
    [([0x2001, 0], 23), ([0x2001, 0xdb8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// Global unicast (RFC 4291 section 2.4): 2000::/3.
const GLOBAL_V6: (u16, u16) = (0x2000, 0xe000);

/// NAT64 (RFC 6052): the IPv4 address is in the last 32 bits.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether the address is one of the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(block, length): &([u8; 4], u8)| {
        let differs = address.to_bits() ^ u32::from_be_bytes(*block);
        differs.leading_zeros() >= u32::from(*length)
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, high, low] = address.segments();
    if [a, b, c, d, e, f] == NAT64 {
        return is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    let within = |([first, second], length): &([u16; 2], u8)| {
        let differs =
            (u32::from(a) << 16 | u32::from(b)) ^ (u32::from(*first) << 16 | u32::from(*second));
        differs.leading_zeros() >= u32::from(*length)
    };
    a & GLOBAL_V6.1 == GLOBAL_V6.0 && !NOT_PUBLIC_V6.iter().any(within)
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
        // A connector wraps what it cannot name into an I/O error.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<E>() || wrapped.is_some_and(|inner| inner.is::<E>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The client.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Which addresses tenants reach: public ones, and those that the operator
/// allows besides.
#[derive(Debug, Clone, Default)]
struct Guard {
    allowed: Arc<[Cidr]>,
}

impl Guard {
    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|block| block.contains(address))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| guard.allows(address.ip())).collect();
            // A name without any address is an error of the lookup already.
            if allowed.is_empty() {
                return Err(Blocked.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The clients of one server. Neither follows redirects or uses a proxy of
/// the environment: both would lead past the guard.
#[derive(Debug, Clone)]
pub struct Outbound {
    open: Client,
    guarded: Client,
    guard: Guard,
}

impl Outbound {
    /// Clients that speak TLS as the operating system trusts. `allowed` are
    /// the blocks that tenants reach besides the public Internet.
    ///
    /// # Errors
    /// [`OutboundError`].
    pub fn new(allowed: &[Cidr]) -> Result<Self, OutboundError> {
        let guard = Guard { allowed: allowed.into() };
        let tls = tls()?;
        let builder = || limited(Client::builder().tls_backend_preconfigured(tls.clone()));
        Ok(Self {
            open: builder().build()?,
            guarded: builder().dns_resolver(guard.clone()).build()?,
            guard,
        })
    }

    /// The client for what the operator's configuration declares.
    pub fn open(&self) -> &Client {
        &self.open
    }

    /// The client for a URL that a tenant names.
    ///
    /// # Errors
    /// [`Blocked`] if it names an address that is not allowed: such a one is
    /// never resolved, so the client would not ask.
    pub fn guarded(&self, url: &Url) -> Result<&Client, Blocked> {
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(Blocked),
        };
        match literal.is_none_or(|address| self.guard.allows(address)) {
            true => Ok(&self.guarded),
            false => Err(Blocked),
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
fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        let provider = Arc::clone(&provider);
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    };
    match builder()?.with_platform_verifier() {
        Ok(config) => Ok(config.with_no_client_auth()),
        Err(error) => {
            tracing::warn!(%error, "calls by TLS will fail; install the system's certificates");
            let trusting_nobody = builder()?.with_root_certificates(RootCertStore::empty());
            Ok(trusting_nobody.with_no_client_auth())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_public(cases: &[(&str, bool)]) {
        for (address, expected) in cases {
            assert_eq!(is_public(address.parse().unwrap()), *expected, "{address}");
        }
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        assert_public(&[
            ("8.8.8.8", true),
            ("1.1.1.1", true),
            ("172.15.255.255", true),
            ("172.32.0.1", true),
            ("100.63.255.255", true),
            ("100.128.0.1", true),
            ("198.20.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.255.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
        ]);
    }

    #[test]
    fn so_it_is_with_ipv6_whatever_ipv4_address_it_carries() {
        assert_public(&[
            ("2606:4700:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("2001:200::1", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::808:808", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:10::1", false),
            ("2001:1ff::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("3fff::1", false),
            ("3fff:fff::1", false),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ]);
    }

    fn guarded(url: &str, allowed: &str) -> bool {
        let outbound = Outbound::new(&[allowed.parse().unwrap()]).unwrap();
        outbound.guarded(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn an_address_in_a_url_is_refused_in_every_way_of_writing_it() {
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
            assert!(!guarded(url, "192.168.1.0/24"), "{url}");
        }
        for url in ["https://8.8.8.8/", "http://192.168.1.7/", "https://localhost/"] {
            assert!(guarded(url, "192.168.1.0/24"), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_where_it_is_resolved() {
        let outbound = Outbound::new(&[]).unwrap();
        // Whether or not anybody listens there.
        let url: Url = "http://localhost:1/".parse().unwrap();
        let error = outbound.guarded(&url).unwrap().get(url).send().await.unwrap_err();
        assert!(is_blocked(&error), "{error:?}");
        let url: Url = "http://localhost:1/".parse().unwrap();
        let allowing = Outbound::new(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let allowing = allowing.unwrap();
        let error = allowing.guarded(&url).unwrap().get(url).send().await.unwrap_err();
        assert!(error.is_connect() && !is_blocked(&error), "{error:?}");
    }
}
