//! From where a request comes.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::X_FORWARDED_FOR;

use crate::cidr::Cidr;

/// The address of the client: the peer's, or, if the peer is one of the
/// `trusted` proxies, the last in `X-Forwarded-For` that is none of them.
/// What stands before that one was written by the client and proves nothing.
///
/// None if it cannot be told, which no allowlist lets pass: a trusted proxy
/// named something that is no address.
pub fn client_address(request: &HttpRequest, trusted: &[Cidr]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    // Several lines of one header are one list, in their order (RFC 9110
    // section 5.3).
    let lines: Option<Vec<&str>> =
        request.headers().get_all(X_FORWARDED_FOR).map(|line| line.to_str().ok()).collect();
    let is_trusted = |address| trusted.iter().any(|block| block.contains(address));
    if is_trusted(peer) { behind_proxies(peer, &lines?, is_trusted) } else { Some(peer) }
}

/// Walks the hops from the nearest to the farthest.
fn behind_proxies(
    peer: IpAddr,
    lines: &[&str],
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let mut client = peer;
    for hop in hops.map(str::trim).filter(|hop| !hop.is_empty()) {
        client = parse(hop)?;
        if !is_trusted(client) {
            break;
        }
    }
    Some(client)
}

/// An address, as proxies write it: bare, in brackets, or with a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const PEER: &str = "10.0.0.1:4000";

    fn client(peer: &str, trusted: &[&str], lines: &[&str]) -> Option<String> {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for line in lines {
            request = request.append_header((X_FORWARDED_FOR, *line));
        }
        let trusted: Vec<Cidr> = trusted.iter().map(|block| block.parse().unwrap()).collect();
        let address = client_address(&request.to_http_request(), &trusted);
        address.map(|address| address.to_string())
    }

    fn forwarded(lines: &[&str]) -> Option<String> {
        client(PEER, &["10.0.0.0/8", "2001:db8::/32"], lines)
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        for lines in [&[][..], &["203.0.113.9"], &["10.0.0.2"], &["nonsense"]] {
            assert_eq!(client(PEER, &[], lines).unwrap(), "10.0.0.1");
            assert_eq!(client(PEER, &["192.0.2.0/24"], lines).unwrap(), "10.0.0.1");
        }
        assert_eq!(client("[::ffff:10.0.0.1]:4000", &[], &[]).unwrap(), "10.0.0.1");
    }

    #[test]
    fn behind_trusted_proxies_the_last_that_is_none_of_them_is_the_client() {
        for (lines, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.3, 10.0.0.2"], "203.0.113.9"),
            (&["198.51.100.1, 203.0.113.9,10.0.0.2"], "203.0.113.9"),
            (&["nonsense, 203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9:55, [2001:db8::2]:443"], "203.0.113.9"),
            (&["[2001:db9::1], 2001:db8::2"], "2001:db9::1"),
            (&["::ffff:203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["203.0.113.9, ,"], "203.0.113.9"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(forwarded(lines).as_deref(), Some(expected), "{lines:?}");
        }
        assert_eq!(
            client("[::ffff:10.0.0.1]:1", &["10.0.0.0/8"], &["203.0.113.9"]).unwrap(),
            "203.0.113.9"
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_and_is_no_address_names_nobody() {
        for lines in [&["unknown"][..], &["203.0.113.9, _hidden"], &["203.0.113.9, 10.0.0"]] {
            assert_eq!(forwarded(lines), None, "{lines:?}");
        }
    }
}
