//! How OpenDAL's services call: with this server's own clients.

use std::error::Error as _;

use http::{Request, Response};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpRedirect, HttpTransport, HttpTransporter};
use opendal_http_transport_reqwest::ReqwestTransport;
use url::Url;

use crate::outbound::{Blocked, Outbound, is_blocked as call_is_blocked};

/// What a store's address may lead to.
#[derive(Debug, Clone)]
pub enum Reach {
    /// Anything: the operator wrote it.
    Anywhere(Outbound),
    /// What tenants reach.
    Guarded(Outbound),
}

impl Reach {
    /// That of a connection, which the configuration declares or does not.
    pub fn of(outbound: &Outbound, declared: bool) -> Self {
        if declared { Self::Anywhere(outbound.clone()) } else { Self::Guarded(outbound.clone()) }
    }

    /// OpenDAL has no transport of its own in this build, so nothing calls
    /// without one of these.
    pub(super) fn transport(self) -> HttpTransporter {
        match self {
            Self::Anywhere(outbound) => {
                HttpTransporter::new(ReqwestTransport::new(outbound.open().clone()))
            }
            Self::Guarded(outbound) => HttpTransporter::new(Guarded(outbound)),
        }
    }
}

struct Guarded(Outbound);

impl HttpTransport for Guarded {
    async fn fetch(&self, mut request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        // It would take the place of the address that is looked at here.
        request.extensions_mut().remove::<HttpRedirect>();
        let url = Url::parse(&request.uri().to_string()).map_err(|_| blocked())?;
        let client = self.0.guarded(&url).map_err(|_| blocked())?.clone();
        let answer = ReqwestTransport::new(client).fetch(request).await;
        answer.map_err(|error| if leads_inside(&error) { blocked() } else { error })
    }
}

/// Permanent, so that it is not retried.
fn blocked() -> Error {
    Error::new(ErrorKind::PermissionDenied, "the destination is not allowed").set_source(Blocked)
}

fn leads_inside(error: &Error) -> bool {
    let call = error.source().and_then(|cause| cause.downcast_ref::<reqwest::Error>());
    call.is_some_and(call_is_blocked)
}

/// Whether a call failed because its destination is not allowed. Signing can
/// call too, and wraps what became of it.
pub fn is_blocked(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Blocked>() {
            return true;
        }
        cause = error.source();
    }
    false
}
