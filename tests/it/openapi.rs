//! The OpenAPI document is whole and describes every route.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Database, Server, json_of};
use crate::wire::{header, names};

/// The routes of the server, with the security each wants.
const ROUTES: &[(&str, &str, &str)] = &[
    ("get", "/health/live", ""),
    ("get", "/health/ready", ""),
    ("post", "/deployment/api/{org_id}/{api_name}/", "deployment_key"),
    ("get", "/deployment/api/{org_id}/{api_name}/", "deployment_key"),
    ("post", "/deployment/{api_key}/", "deployment_key"),
    ("get", "/deployment/{api_key}/status/{execution_id}/", "deployment_key"),
    ("get", "/deployment/{api_key}/result/{execution_id}/", "deployment_key"),
    ("post", "/deployment/{api_key}/cancel/{execution_id}/", "deployment_key"),
    ("get", "/deployment/{api_key}/events/{execution_id}/", "deployment_key"),
    ("get", "/unstract/{org_id}/api/v2/execution/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/execution/{id}/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/execution/{id}/steps/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/execution/{id}/logs/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/execution/{id}/cancel/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/execution/{id}/rerun/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/webhook-delivery/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/webhook-delivery/{id}/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/webhook-delivery/{id}/redeliver/", "platform_key"),
    ("get", "/deployment/{api_key}/docs/", ""),
    ("get", "/deployment/{api_key}/docs/openapi.json", ""),
    ("post", "/api/v1/admin/organization/", "operator_token"),
    ("get", "/api/v1/admin/organization/", "operator_token"),
    ("get", "/api/v1/unstract/whoami/", "platform_key"),
    ("get", "/api/v1/unstract/{org_id}/api/deployment/", "platform_key"),
    ("get", "/api/v1/admin/organization/{org_id}/", "operator_token"),
    ("patch", "/api/v1/admin/organization/{org_id}/", "operator_token"),
    ("delete", "/api/v1/admin/organization/{org_id}/", "operator_token"),
    ("post", "/api/v1/admin/organization/{org_id}/platform-key/", "operator_token"),
    ("post", "/api/v1/admin/reload/", "operator_token"),
    ("post", "/unstract/{org_id}/api/v2/workflow/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/workflow/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/workflow/{id}/", "platform_key"),
    ("put", "/unstract/{org_id}/api/v2/workflow/{id}/", "platform_key"),
    ("patch", "/unstract/{org_id}/api/v2/workflow/{id}/", "platform_key"),
    ("delete", "/unstract/{org_id}/api/v2/workflow/{id}/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/workflow/{id}/validate/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/api-deployment/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/api-deployment/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/api-deployment/{id}/", "platform_key"),
    ("put", "/unstract/{org_id}/api/v2/api-deployment/{id}/", "platform_key"),
    ("patch", "/unstract/{org_id}/api/v2/api-deployment/{id}/", "platform_key"),
    ("delete", "/unstract/{org_id}/api/v2/api-deployment/{id}/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/api-deployment/{id}/usage/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/{key_id}/", "platform_key"),
    ("put", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/{key_id}/", "platform_key"),
    ("patch", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/{key_id}/", "platform_key"),
    ("delete", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/{key_id}/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/api-deployment/{id}/key/{key_id}/rotate/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/platform-key/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/platform-key/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/platform-key/{id}/", "platform_key"),
    ("put", "/unstract/{org_id}/api/v2/platform-key/{id}/", "platform_key"),
    ("patch", "/unstract/{org_id}/api/v2/platform-key/{id}/", "platform_key"),
    ("delete", "/unstract/{org_id}/api/v2/platform-key/{id}/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/platform-key/{id}/rotate/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/audit/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/connection/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/connection/", "platform_key"),
    ("get", "/unstract/{org_id}/api/v2/connection/{id}/", "platform_key"),
    ("put", "/unstract/{org_id}/api/v2/connection/{id}/", "platform_key"),
    ("patch", "/unstract/{org_id}/api/v2/connection/{id}/", "platform_key"),
    ("delete", "/unstract/{org_id}/api/v2/connection/{id}/", "platform_key"),
    ("post", "/unstract/{org_id}/api/v2/connection/{id}/test/", "platform_key"),
];

#[tokio::test(flavor = "multi_thread")]
async fn where_unstracts_form_and_a_refusal_share_a_status_the_document_has_both() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let answer = api.client.get(format!("{}/openapi.json", api.url)).send().await.unwrap();
    let document = json_of(answer, 200).await;
    let path = &document["paths"]["/deployment/api/{org_id}/{api_name}/"];
    for (method, schema) in [("post", "Submitted"), ("get", "UnstractStatus")] {
        let body = &path[method]["responses"]["422"]["content"]["application/json"]["schema"];
        let schemas = body["anyOf"].as_array().unwrap();
        let names = schemas.iter().map(|schema| schema["$ref"].as_str().unwrap());
        let expected = [schema, "Refusal"].map(|name| format!("#/components/schemas/{name}"));
        assert_eq!(names.collect::<Vec<_>>(), expected, "{method}");
    }
    server.stop().await;
}

/// Every `$ref` in a value.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().filter(|_| name == "$ref") {
                    Some(reference) => found.push(reference),
                    None => references(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_describes_every_route_and_is_whole() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let answer = api.client.get(format!("{}/openapi.json", api.url)).send().await.unwrap();
    assert!(header(&answer, "content-type").starts_with("application/json"));
    let document = json_of(answer, 200).await;
    if let Ok(file) = std::env::var("MILLRACE_TEST_OPENAPI_FILE") {
        std::fs::write(file, document.to_string()).unwrap();
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.as_str(), path.as_str(), operation));
        }
    }
    let described: BTreeSet<_> =
        operations.iter().map(|(method, path, _)| (*method, *path)).collect();
    let expected: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(described, expected);
    let mut ids: Vec<_> = operations
        .iter()
        .map(|(.., operation)| operation["operationId"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), operations.len(), "operation ids are there and unique");
    for (method, path, operation) in operations {
        check_operation(method, path, operation);
    }
    server.stop().await;
}

/// Ends of routes that post nothing.
const WITHOUT_BODY: [&str; 6] = [
    "/validate/",
    "/test/",
    "/cancel/{execution_id}/",
    "/execution/{id}/cancel/",
    "/reload/",
    "/redeliver/",
];

/// Ends of routes that list in pages.
const LISTS: [&str; 7] = [
    "workflow/",
    "api-deployment/",
    "key/",
    "connection/",
    "organization/",
    "audit/",
    "webhook-delivery/",
];

fn check_operation(method: &str, path: &str, operation: &Value) {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |place: &str| -> Vec<_> {
        let named = parameters.iter().filter(|parameter| parameter["in"] == place);
        named.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut in_template: Vec<_> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(ToOwned::to_owned)
        .collect();
    let mut in_path = of("path");
    in_template.sort();
    in_path.sort();
    assert_eq!(in_path, in_template, "{method} {path}");
    let lists = method == "get" && LISTS.iter().any(|end| path.ends_with(end));
    if lists {
        assert!(of("query").ends_with(&["page".to_owned(), "page_size".to_owned()]), "{path}");
    }
    let responses = operation["responses"].as_object().unwrap();
    assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
    for (status, response) in responses {
        let headers = &response["headers"];
        assert!(headers["X-Request-Id"].is_object(), "{method} {path} {status}");
        if ["429", "503"].contains(&status.as_str()) {
            assert!(headers["Retry-After"].is_object(), "{method} {path} {status}");
        }
    }
    for status in ["400", "401", "404", "429", "503"] {
        let schema = &responses[status]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/Refusal", "{method} {path} {status}");
    }
    let wanted =
        ROUTES.iter().find(|(name, route, _)| (*name, *route) == (method, path)).unwrap().2;
    let security = operation["security"].as_array().cloned().unwrap_or_default();
    let schemes: Vec<_> = security.iter().flat_map(names).collect();
    assert_eq!(schemes, if wanted.is_empty() { vec![] } else { vec![wanted] }, "{method} {path}");
    let takes_body = ["put", "patch"].contains(&method)
        || (method == "post" && !WITHOUT_BODY.iter().any(|end| path.ends_with(end)));
    assert_eq!(operation["requestBody"].is_object(), takes_body, "{method} {path}");
    if ["put", "patch"].contains(&method) {
        assert_eq!(of("header"), ["If-Match"], "{path}");
    }
    if path.starts_with("/deployment/") && method == "post" && takes_body {
        let content = names(&operation["requestBody"]["content"]);
        assert_eq!(content, ["application/json", "multipart/form-data"], "{path}");
        assert_eq!(of("header"), ["Idempotency-Key"], "{path}");
    }
}
