//! Where a request comes from.

use std::net::IpAddr;

use actix_web::HttpRequest;

/// The caller's address.
pub fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|peer| peer.ip().to_canonical())
}
