//! Object stores through OpenDAL.

use std::collections::BTreeMap;
use std::time::Duration;

use opendal::Operator;
use opendal::layers::{RetryLayer, TimeoutLayer};
use secrecy::{ExposeSecret, SecretString};

/// The services that this build has, by OpenDAL's names.
pub const SERVICES: [&str; 2] = ["fs", "memory"];

/// Time for one call to the store; a call is retried.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_RETRIES: usize = 3;

/// Pause before the first retry; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The store that a connection leads to, with time limits and retries.
///
/// # Errors
/// OpenDAL's, whose text can hold addresses and options: for nobody to see.
pub fn operator(
    service: &str,
    options: &BTreeMap<String, SecretString>,
) -> Result<Operator, opendal::Error> {
    let mut options: Vec<(String, String)> = options
        .iter()
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect();
    let given = |wanted: &str| options.iter().find(|(name, _)| name == wanted);
    if let ("fs", Some((_, root)), None) = (service, given("root"), given("atomic_write_dir")) {
        // Written aside and renamed, so that nobody reads half an object.
        let aside = format!("{}/.millrace", root.trim_end_matches('/'));
        options.push(("atomic_write_dir".to_owned(), aside));
    }
    // `via_iter` knows only what is registered; this does nothing when it is
    // called again.
    opendal::init_default_registry();
    let operator = Operator::via_iter(service, options)?;
    let timeout = TimeoutLayer::new().with_timeout(CALL_TIMEOUT).with_io_timeout(CALL_TIMEOUT);
    let retry =
        RetryLayer::new().with_max_times(MAX_RETRIES).with_min_delay(FIRST_PAUSE).with_jitter();
    Ok(operator.layer(timeout).layer(retry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_one_that_this_build_has() {
        let root = tempfile::tempdir().unwrap();
        let options = [("root".to_owned(), root.path().to_str().unwrap().into())].into();
        for service in SERVICES {
            assert!(operator(service, &options).is_ok(), "{service}");
        }
        assert!(operator("s4", &options).is_err());
    }
}
