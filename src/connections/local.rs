//! What connections that organisations store may not reach: the server's own
//! files and sockets. Those that the configuration declares may, since the
//! operator wrote them.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use secrecy::ExposeSecret;
use url::Url;

use super::Connection;
use super::form::Faults;

/// Parameters of a Postgres URL that stay within the session. Others name
/// files and sockets of this machine, or a second address.
const POSTGRES_PARAMETERS: [&str; 5] =
    ["sslmode", "ssl-mode", "application_name", "options", "statement-cache-capacity"];

/// What a stored connection of the organisation may not have. Its files must
/// be below one of `folders`, in the folder named like the organisation.
pub fn faults(connection: &Connection, org_id: &str, folders: &[PathBuf]) -> Faults {
    let own: Vec<PathBuf> = folders.iter().map(|folder| folder.join(org_id)).collect();
    match connection {
        Connection::Sql { url } if url.expose_secret().starts_with("sqlite:") => {
            sqlite(url.expose_secret(), &own).map_or_else(Faults::new, |cure| fault("url", cure))
        }
        Connection::Sql { url } => postgres(url.expose_secret())
            .map_or_else(Faults::new, |cure| vec![("url".into(), cure.into())]),
        Connection::ObjectStore { service, options } if service == "fs" => {
            let mut faults = Faults::new();
            if !options.contains_key("root") {
                faults.extend(fault("options.root", closed(&own)));
            }
            for name in ["root", "atomic_write_dir"] {
                let path = options.get(name).map(|path| Path::new(path.expose_secret()));
                if path.is_some_and(|path| !is_below(path, &own)) {
                    faults.extend(fault(&format!("options.{name}"), closed(&own)));
                }
            }
            faults
        }
        // It runs this machine's `ssh`, with its keys, settings and network.
        Connection::ObjectStore { service, .. } if service == "sftp" => {
            fault("service", "sftp is for connections that the configuration declares".into())
        }
        _ => Faults::new(),
    }
}

fn fault(place: &str, cure: String) -> Faults {
    vec![(place.to_owned(), cure)]
}

fn closed(own: &[PathBuf]) -> String {
    if own.is_empty() {
        "the server's own files are closed to connections; its operator can open a folder, or \
         declare the connection in the configuration"
            .into()
    } else {
        let own: Vec<_> = own.iter().map(|folder| folder.display().to_string()).collect();
        format!("an absolute path below {}", own.join(" or "))
    }
}

fn sqlite(url: &str, own: &[PathBuf]) -> Option<String> {
    let Ok(options) = SqliteConnectOptions::from_str(url) else {
        return Some("not a valid URL".into());
    };
    if !is_below(options.get_filename(), own) {
        return Some(closed(own));
    }
    let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let other = parameters.any(|(name, _)| name != "mode");
    other.then(|| "only the parameter `mode` can be used".into())
}

fn postgres(url: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(url) else { return Some("not a valid URL") };
    let host = url.host_str().unwrap_or_default();
    // Percent-encoded, the path of a socket can stand where the host does.
    if host.is_empty() || host.contains(['%', '/']) {
        return Some("with the host of the database");
    }
    let known = |name: &str| POSTGRES_PARAMETERS.contains(&name) || name.starts_with("options[");
    let mut parameters = url.query_pairs();
    parameters
        .any(|(name, _)| !known(&name))
        .then_some("only the parameters sslmode, application_name and options can be used")
}

/// By its parts alone: nothing below these folders is made by tenants but
/// files of databases and objects.
fn is_below(path: &Path, own: &[PathBuf]) -> bool {
    let plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && plain && own.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(url: &str) -> Connection {
        Connection::Sql { url: url.into() }
    }

    fn folder(root: &str) -> Connection {
        let options = [("root".to_owned(), root.into())].into();
        Connection::ObjectStore { service: "fs".into(), options }
    }

    #[test]
    fn the_servers_files_and_sockets_are_closed_unless_a_folder_is_opened() {
        let open = [PathBuf::from("/srv/tenants")];
        let fits = |connection: &Connection| faults(connection, "acme", &open).is_empty();
        for url in [
            "sqlite:///srv/tenants/acme/x.db?mode=rwc",
            "sqlite:/srv/tenants/acme/x.db",
            "postgres://u:p@db.example:5432/d?sslmode=require&options[search_path]=x",
            "postgres://[::1]/d",
        ] {
            assert!(fits(&sql(url)), "{url}");
        }
        for url in [
            "sqlite://data/millrace.db",
            "sqlite:///srv/tenants/other/x.db",
            "sqlite:///srv/tenants/acme/../other/x.db",
            "sqlite:///srv/tenants/acme%2f..%2fother/x.db",
            "sqlite:///srv/tenants/acmes/x.db",
            "sqlite:///srv/tenants/acme/x.db?mode=rwc&vfs=unix-none",
            "sqlite::memory:",
            "sqlite://",
            "postgres:///d",
            "postgres://%2Fvar%2Frun%2Fpostgresql/d",
            "postgres://h/d?host=/var/run/postgresql",
            "postgres://h/d?sslrootcert=/etc/passwd",
            "postgres://h/d?hostaddr=127.0.0.1",
        ] {
            assert!(!fits(&sql(url)), "{url}");
        }
        assert!(fits(&folder("/srv/tenants/acme")));
        assert!(fits(&folder("/srv/tenants/acme/a/b")));
        for root in [
            "/",
            "/srv/tenants",
            "/srv/tenants/acme/..",
            "srv/tenants/acme",
            "",
            "/srv/tenants/other",
        ] {
            assert!(!fits(&folder(root)), "{root}");
        }
        let none = Connection::ObjectStore { service: "fs".into(), options: [].into() };
        assert!(!fits(&none));
        assert!(!faults(&folder("/srv/tenants/acme"), "acme", &[]).is_empty());
        assert!(!faults(&sql("sqlite:///x.db"), "acme", &[]).is_empty());
    }
}
