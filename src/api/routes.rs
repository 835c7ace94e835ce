//! The URL table. Resources, not single routes: a resource answers a wrong
//! method with 405 and `Allow`.

use apistos::web::{ServiceConfig, delete, get, patch, post, put, resource, scope};

use super::{
    audit, connections, deployments, docs, events, executions, health, keys, organisations,
    platform_keys, records, reload, unstract, unstract_platform, usage, webhooks, workflows,
};

/// Every route of the API.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/health/live").route(get().to(health::live)))
        .service(resource("/health/ready").route(get().to(health::ready)))
        .configure(calls)
        .configure(administration)
        .configure(clients)
        .service(
            scope("/unstract/{org_id}/api/v2")
                .configure(workflows_and_deployments)
                .configure(all_keys)
                .configure(all_connections)
                .configure(history),
        );
}

/// What callers of deployments use.
fn calls(config: &mut ServiceConfig) {
    config
        .service(
            resource("/deployment/api/{org_id}/{api_name}/")
                .route(post().to(unstract::submit))
                .route(get().to(unstract::status)),
        )
        .service(resource("/deployment/{api_key}/").route(post().to(executions::submit)))
        .service(
            resource("/deployment/{api_key}/status/{execution_id}/")
                .route(get().to(executions::status)),
        )
        .service(
            resource("/deployment/{api_key}/result/{execution_id}/")
                .route(get().to(executions::result)),
        )
        .service(
            resource("/deployment/{api_key}/events/{execution_id}/")
                .route(get().to(events::follow)),
        )
        .service(
            resource("/deployment/{api_key}/cancel/{execution_id}/")
                .route(post().to(executions::cancel)),
        )
        .service(resource("/deployment/{api_key}/docs/").route(get().to(docs::page)))
        .service(
            resource("/deployment/{api_key}/docs/openapi.json").route(get().to(docs::openapi)),
        );
}

/// What Unstract's clients ask of a platform key.
fn clients(config: &mut ServiceConfig) {
    config
        .service(resource("/api/v1/unstract/whoami/").route(get().to(unstract_platform::whoami)))
        .service(
            resource("/api/v1/unstract/{org_id}/api/deployment/")
                .route(get().to(unstract_platform::list)),
        );
}

/// What the operator does.
fn administration(config: &mut ServiceConfig) {
    config
        .service(
            resource("/api/v1/admin/organization/")
                .route(post().to(organisations::create))
                .route(get().to(organisations::list)),
        )
        .service(
            resource("/api/v1/admin/organization/{org_id}/")
                .route(get().to(organisations::get))
                .route(patch().to(organisations::patch))
                .route(delete().to(organisations::delete)),
        )
        .service(
            resource("/api/v1/admin/organization/{org_id}/platform-key/")
                .route(post().to(organisations::create_platform_key)),
        )
        .service(resource("/api/v1/admin/reload/").route(post().to(reload::reload)));
}

/// What is deployed.
fn workflows_and_deployments(config: &mut ServiceConfig) {
    config
        .service(
            resource("/workflow/")
                .route(post().to(workflows::create))
                .route(get().to(workflows::list)),
        )
        .service(
            resource("/workflow/{id}/")
                .route(get().to(workflows::get))
                .route(put().to(workflows::replace))
                .route(patch().to(workflows::patch))
                .route(delete().to(workflows::delete)),
        )
        .service(resource("/workflow/{id}/validate/").route(post().to(workflows::validate)))
        .service(
            resource("/api-deployment/")
                .route(post().to(deployments::create))
                .route(get().to(deployments::list)),
        )
        .service(
            resource("/api-deployment/{id}/")
                .route(get().to(deployments::get))
                .route(put().to(deployments::replace))
                .route(patch().to(deployments::patch))
                .route(delete().to(deployments::delete)),
        )
        .service(resource("/api-deployment/{id}/usage/").route(get().to(usage::usage)));
}

/// Who may call and manage.
fn all_keys(config: &mut ServiceConfig) {
    config
        .service(
            resource("/api-deployment/{id}/key/")
                .route(post().to(keys::create))
                .route(get().to(keys::list)),
        )
        .service(
            resource("/api-deployment/{id}/key/{key_id}/")
                .route(get().to(keys::get))
                .route(put().to(keys::replace))
                .route(patch().to(keys::patch))
                .route(delete().to(keys::revoke)),
        )
        .service(
            resource("/api-deployment/{id}/key/{key_id}/rotate/").route(post().to(keys::rotate)),
        )
        .service(
            resource("/platform-key/")
                .route(post().to(platform_keys::create))
                .route(get().to(platform_keys::list)),
        )
        .service(
            resource("/platform-key/{id}/")
                .route(get().to(platform_keys::get))
                .route(put().to(platform_keys::replace))
                .route(patch().to(platform_keys::patch))
                .route(delete().to(platform_keys::revoke)),
        )
        .service(resource("/platform-key/{id}/rotate/").route(post().to(platform_keys::rotate)));
}

/// What steps reach.
fn all_connections(config: &mut ServiceConfig) {
    config
        .service(
            resource("/connection/")
                .route(post().to(connections::create))
                .route(get().to(connections::list)),
        )
        .service(
            resource("/connection/{id}/")
                .route(get().to(connections::get))
                .route(put().to(connections::replace))
                .route(patch().to(connections::patch))
                .route(delete().to(connections::delete)),
        )
        .service(resource("/connection/{id}/test/").route(post().to(connections::test)));
}

/// What has happened.
fn history(config: &mut ServiceConfig) {
    config
        .service(resource("/audit/").route(get().to(audit::list)))
        .service(resource("/execution/").route(get().to(records::list)))
        .service(resource("/execution/{id}/").route(get().to(records::get)))
        .service(resource("/execution/{id}/steps/").route(get().to(records::steps)))
        .service(resource("/execution/{id}/logs/").route(get().to(records::logs)))
        .service(resource("/execution/{id}/cancel/").route(post().to(records::cancel)))
        .service(resource("/execution/{id}/rerun/").route(post().to(records::rerun)))
        .service(resource("/webhook-delivery/").route(get().to(webhooks::list)))
        .service(resource("/webhook-delivery/{id}/").route(get().to(webhooks::get)))
        .service(
            resource("/webhook-delivery/{id}/redeliver/").route(post().to(webhooks::redeliver)),
        );
}
