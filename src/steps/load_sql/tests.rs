//! Loads into SQLite, and into Postgres where `MILLRACE_TEST_POSTGRES_URL`
//! gives an address whose user may make databases.

use std::sync::Arc;

use sea_orm::sqlx::AssertSqlSafe;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connections::Connection;
use crate::sql_pools::SqlPools;
use crate::steps::{StepContext, StepError, testing};

const NAME: &str = "warehouse";

/// A database of its own for one test.
struct Warehouse {
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Warehouse {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("warehouse.db");
        Self { url: format!("sqlite://{}?mode=rwc", file.display()), _folder: Some(folder) }
    }

    /// A new database; it stays until its server, made for tests, is thrown
    /// away.
    async fn postgres() -> Option<Self> {
        let Ok(admin) = std::env::var("MILLRACE_TEST_POSTGRES_URL") else {
            println!("skipped: MILLRACE_TEST_POSTGRES_URL is unset; this needs Postgres");
            return None;
        };
        let name = format!("load_{}", Uuid::now_v7().simple());
        let pool = SqlPools::default().get(&admin.clone().into()).unwrap();
        let sql = format!("CREATE DATABASE {name}");
        sea_orm::sqlx::query(AssertSqlSafe(sql))
            .execute(pool.get_postgres_connection_pool())
            .await
            .unwrap();
        let mut url = url::Url::parse(&admin).unwrap();
        url.set_path(&name);
        Some(Self { url: url.to_string(), _folder: None })
    }

    fn pool(&self) -> DatabaseConnection {
        SqlPools::default().get(&self.url.clone().into()).unwrap()
    }

    async fn run(&self, sql: &str) {
        self.pool().execute_unprepared(sql).await.unwrap();
    }

    /// The first column of all rows of a query that casts it to text.
    async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let pool = self.pool();
        let query = Statement::from_string(pool.get_database_backend(), sql);
        let rows = pool.query_all_raw(query).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    fn context(&self, input: Value) -> StepContext {
        let connection = Connection::Sql { url: self.url.clone().into() };
        testing::context_with(input, json!({}), [(NAME, connection)])
    }

    async fn load(&self, with: Value, input: Value) -> Result<Value, StepError> {
        step(with).run(&self.context(input)).await
    }
}

fn step(mut with: Value) -> Box<dyn crate::steps::Step> {
    with["connection"] = json!(NAME);
    testing::build("load_sql", with).unwrap()
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

async fn rows_land_in_a_table_that_is_made(warehouse: &Warehouse) {
    let input = json!([
        {"name": "Ada", "n": 1, "f": 0.5, "ok": true, "tags": ["a", {"b": 1}]},
        {"name": "Grace", "n": i64::MAX, "extra": "ü"},
    ]);
    let output = warehouse.load(json!({"table": "people"}), input).await.unwrap();
    assert_eq!(output, json!({"table": "people", "rows_loaded": 2, "skipped": false}));
    assert_eq!(
        warehouse.texts("SELECT cast(n AS text) FROM people ORDER BY n").await,
        some(&["1", "9223372036854775807"])
    );
    assert_eq!(
        warehouse.texts("SELECT extra FROM people ORDER BY n").await,
        [None, Some("ü".to_owned())]
    );
    let tags = warehouse.texts("SELECT cast(tags AS text) FROM people ORDER BY n").await;
    let tags: Value = serde_json::from_str(tags[0].as_deref().unwrap()).unwrap();
    assert_eq!(tags, json!(["a", {"b": 1}]));
}

async fn typed_columns_are_exact(warehouse: &Warehouse) {
    let with = json!({"table": "bills", "columns": {
        "amount": {"type": "decimal", "from": "/money/amount"},
        "day": {"type": "date"},
        "seen": {"type": "timestamp"},
    }});
    let input = json!([
        {"money": {"amount": "1234567890123456789012345.60"}, "day": "2026-02-28",
         "seen": "2026-02-28T23:30:00-02:00", "ignored": 1},
        {"money": {}, "day": null},
    ]);
    assert_eq!(warehouse.load(with, input).await.unwrap()["rows_loaded"], 2);
    assert_eq!(
        warehouse.texts("SELECT cast(amount AS text) FROM bills WHERE amount IS NOT NULL").await,
        some(&["1234567890123456789012345.60"])
    );
    assert_eq!(
        warehouse.texts("SELECT cast(day AS text) FROM bills WHERE day IS NOT NULL").await,
        some(&["2026-02-28"])
    );
    let seen = warehouse.texts("SELECT cast(seen AS text) FROM bills WHERE seen IS NOT NULL").await;
    assert!(seen[0].as_deref().unwrap().starts_with("2026-03-01"), "{seen:?}");
}

async fn an_insert_happens_once(warehouse: &Warehouse) {
    let step = step(json!({"table": "events"}));
    let context = warehouse.context(json!({"rows": [{"a": 1}, {"a": 1}]}));
    let first = step.run(&context).await.unwrap();
    let again = step.run(&context).await.unwrap();
    assert_eq!(first, json!({"table": "events", "rows_loaded": 2, "skipped": false}));
    assert_eq!(again, json!({"table": "events", "rows_loaded": 2, "skipped": true}));
    let other = warehouse.context(json!([{"a": 1}]));
    assert_eq!(step.run(&other).await.unwrap()["skipped"], false);
    assert_eq!(warehouse.texts("SELECT cast(count(*) AS text) FROM events").await, some(&["3"]));
}

async fn many_runs_of_one_insert_at_once_load_once(warehouse: &Warehouse) {
    let step = Arc::new(step(json!({"table": "events"})));
    let context = Arc::new(warehouse.context(json!([{"a": 1}])));
    let runs = (0..8).map(|_| {
        let (step, context) = (Arc::clone(&step), Arc::clone(&context));
        tokio::spawn(async move { step.run(&context).await.unwrap()["skipped"].clone() })
    });
    let skipped = futures_util::future::join_all(runs.collect::<Vec<_>>()).await;
    let loaded = skipped.iter().filter(|one| *one.as_ref().unwrap() == json!(false)).count();
    assert_eq!(loaded, 1);
    assert_eq!(warehouse.texts("SELECT cast(count(*) AS text) FROM events").await, some(&["1"]));
}

async fn different_loads_at_once_make_the_table_once(warehouse: &Warehouse) {
    let runs = (0..8).map(|n| {
        let context = warehouse.context(json!([{"a": n}]));
        tokio::spawn(async move { step(json!({"table": "fresh"})).run(&context).await })
    });
    for run in futures_util::future::join_all(runs.collect::<Vec<_>>()).await {
        run.unwrap().unwrap();
    }
    assert_eq!(warehouse.texts("SELECT cast(count(*) AS text) FROM fresh").await, some(&["8"]));
}

async fn an_upsert_replaces_and_the_last_of_two_wins(warehouse: &Warehouse) {
    let with = json!({"table": "stock", "mode": "upsert", "key": ["sku", "site"]});
    let first = json!([
        {"sku": "a", "site": 1, "n": 1},
        {"sku": "b", "site": 1, "n": 1},
        {"sku": "a", "site": 1, "n": 2},
    ]);
    let output = warehouse.load(with.clone(), first).await.unwrap();
    assert_eq!(output, json!({"table": "stock", "rows_loaded": 2, "skipped": false}));
    let second = json!([{"sku": "b", "site": 1, "n": 9}, {"sku": "b", "site": 2, "n": 5}]);
    warehouse.load(with.clone(), second.clone()).await.unwrap();
    warehouse.load(with, second).await.unwrap();
    assert_eq!(
        warehouse.texts("SELECT cast(n AS text) FROM stock ORDER BY sku, site").await,
        some(&["2", "9", "5"])
    );
    let only_key = json!({"table": "stock", "mode": "upsert", "key": ["sku", "site"],
        "columns": {"sku": {"type": "text"}, "site": {"type": "integer"}}});
    warehouse.load(only_key, json!({"sku": "a", "site": 1})).await.unwrap();
    assert_eq!(warehouse.texts("SELECT cast(count(*) AS text) FROM stock").await, some(&["3"]));
}

async fn a_bad_row_loads_nothing(warehouse: &Warehouse) {
    let with = json!({"table": "t", "columns": {"n": {"type": "integer"}}});
    let input = json!([{"n": 1}, {"n": "s3cr3t"}]);
    let error = warehouse.load(with.clone(), input).await.unwrap_err();
    assert_eq!(error.code, "row_invalid");
    assert_eq!(error.detail, "row 1, column `n`: expected a whole number of 64 bits");
    assert!(!error.retryable);
    // The table's making was rolled back with the rest.
    let refused =
        warehouse.load(json!({"table": "t", "create_table": false}), json!({"n": 1})).await;
    assert_eq!(refused.unwrap_err().code, "destination_schema_mismatch");
    assert_eq!(warehouse.load(with, json!({"n": 1})).await.unwrap()["rows_loaded"], 1);
}

async fn what_cannot_be_empty_is_asked_for_before_the_first_row(warehouse: &Warehouse) {
    warehouse
        .run(
            "CREATE TABLE strict_one (id integer PRIMARY KEY, n integer NOT NULL, \
             d integer NOT NULL DEFAULT 1, twice integer GENERATED ALWAYS AS (n * 2) STORED)",
        )
        .await;
    let with = json!({"table": "strict_one"});
    for (input, code, detail) in [
        (
            json!({"id": 1}),
            "destination_schema_mismatch",
            "column `n` of `strict_one` cannot be empty",
        ),
        (
            json!([{"id": 1, "n": 1}, {"id": 2, "n": null}]),
            "row_invalid",
            "row 1, column `n`: expected a value",
        ),
        (
            json!([{"id": 1, "n": 1, "d": 1}, {"id": 2, "n": 1}]),
            "row_invalid",
            "row 1, column `d`: expected a value",
        ),
        (
            json!({"id": 1, "n": 1, "twice": 2}),
            "destination_schema_mismatch",
            "column `twice` of `strict_one`",
        ),
    ] {
        let error = warehouse.load(with.clone(), input).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.detail.starts_with(detail), "{error}");
    }
    assert!(warehouse.load(with, json!({"id": 1, "n": 1})).await.is_ok());
}

async fn a_value_that_the_table_refuses_is_not_quoted(warehouse: &Warehouse) {
    warehouse.run("CREATE TABLE strict_ones (n integer CHECK (n < 10), t text UNIQUE)").await;
    for (input, rows) in [
        (json!([{"n": 1, "t": "s3cr3t"}, {"n": 77, "t": "x"}]), "rows 0 to 1"),
        (json!([{"n": 1, "t": "s3cr3t"}, {"n": 2, "t": "s3cr3t"}]), "rows 0 to 1"),
    ] {
        let error = warehouse.load(json!({"table": "strict_ones"}), input).await.unwrap_err();
        assert_eq!(error.code, "row_invalid", "{error}");
        assert!(error.detail.contains(rows), "{error}");
        assert!(!error.detail.contains("s3cr3t") && !error.detail.contains("77"), "{error}");
    }
    assert_eq!(
        warehouse.texts("SELECT cast(count(*) AS text) FROM strict_ones").await,
        some(&["0"])
    );
}

async fn a_table_that_does_not_fit_is_refused_before_the_first_row(warehouse: &Warehouse) {
    warehouse.run("CREATE TABLE plain (id integer, n integer)").await;
    let mismatch = async |with: Value, input: Value| {
        let error = warehouse.load(with, input).await.unwrap_err();
        assert_eq!(error.code, "destination_schema_mismatch", "{error}");
        error.detail
    };
    let upsert = json!({"table": "plain", "mode": "upsert", "key": ["id"]});
    let detail = mismatch(upsert.clone(), json!({"id": 1, "n": 1})).await;
    assert!(detail.contains("unique index on exactly (id)"), "{detail}");
    let detail = mismatch(json!({"table": "plain"}), json!({"id": 1, "other": 1})).await;
    assert!(detail.contains("no column `other`"), "{detail}");
    let detail = mismatch(upsert.clone(), json!({"n": 1})).await;
    assert!(detail.contains("key column `id`"), "{detail}");
    warehouse.run("CREATE UNIQUE INDEX part ON plain (id) WHERE n > 0").await;
    mismatch(upsert.clone(), json!({"id": 1, "n": 1})).await;
    warehouse.run("CREATE UNIQUE INDEX wide ON plain (id, n)").await;
    mismatch(upsert.clone(), json!({"id": 1, "n": 1})).await;
    warehouse.run("CREATE UNIQUE INDEX whole ON plain (id)").await;
    assert!(warehouse.load(upsert.clone(), json!({"id": 1, "n": 1})).await.is_ok());
    let error = warehouse.load(upsert, json!([{"id": 2, "n": 1}, {"id": null, "n": 1}])).await;
    let error = error.unwrap_err();
    assert!(error.detail.starts_with("row 1, column `id`"), "{error}");
}

async fn names_and_values_are_never_sql(warehouse: &Warehouse) {
    warehouse.run("CREATE TABLE victim (a text)").await;
    let hostile = "x\"; DROP TABLE victim; --";
    let tricks =
        ["'); DROP TABLE victim; --", "$1", "?", "\\'; DROP TABLE victim", "a`b", "[c]", "$$"];
    for table in [hostile, "a\"\"b", "sel ect", "ключ", "?", "$1", "a`b", "a;b"] {
        for mode in ["insert", "upsert"] {
            let fields = tricks.iter().map(|name| ((*name).to_owned(), json!(name)));
            let row: serde_json::Map<_, _> =
                fields.chain([(hostile.to_owned(), json!(hostile))]).collect();
            let key = if mode == "upsert" { json!([hostile]) } else { json!([]) };
            let table = format!("{mode} {table}");
            let with = json!({"table": table, "mode": mode, "key": key});
            let output = warehouse.load(with.clone(), json!([row])).await.unwrap();
            assert_eq!(output["rows_loaded"], 1);
            let again = warehouse.load(with, json!([row])).await.unwrap();
            assert_eq!(again["rows_loaded"], 1);
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            for name in tricks.iter().chain([&hostile]) {
                let sql = format!("SELECT {} FROM {}", quoted(name), quoted(&table));
                assert_eq!(warehouse.texts(&sql).await[0].as_deref(), Some(*name));
            }
        }
    }
    assert_eq!(warehouse.texts("SELECT a FROM victim").await, []);
}

async fn many_rows_go_in_several_statements(warehouse: &Warehouse) {
    let row = |n: usize| {
        let fields = (0..200).map(|c| (format!("c{c}"), json!(n)));
        Value::Object(fields.collect())
    };
    let rows: Vec<_> = (0..4_200).map(row).collect();
    let output = warehouse.load(json!({"table": "wide"}), json!(rows)).await.unwrap();
    assert_eq!(output["rows_loaded"], 4_200);
    assert_eq!(
        warehouse.texts("SELECT cast(count(DISTINCT c199) AS text) FROM wide").await,
        some(&["4200"])
    );
}

async fn a_cancelled_load_leaves_nothing(warehouse: &Warehouse) {
    let context = warehouse.context(json!([{"a": 1}]));
    context.cancel.cancel();
    let error = step(json!({"table": "gone"})).run(&context).await.unwrap_err();
    assert_eq!(error.code, "cancelled");
    let refused = warehouse.load(json!({"table": "gone", "create_table": false}), json!({"a": 1}));
    assert_eq!(refused.await.unwrap_err().code, "destination_schema_mismatch");
}

/// Each behaviour on both databases.
macro_rules! on_both {
    ($($behaviour:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(&super::Warehouse::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                if let Some(warehouse) = super::Warehouse::postgres().await {
                    super::$behaviour(&warehouse).await;
                }
            })*
        }
    };
}

on_both!(
    rows_land_in_a_table_that_is_made,
    typed_columns_are_exact,
    an_insert_happens_once,
    many_runs_of_one_insert_at_once_load_once,
    different_loads_at_once_make_the_table_once,
    an_upsert_replaces_and_the_last_of_two_wins,
    a_bad_row_loads_nothing,
    what_cannot_be_empty_is_asked_for_before_the_first_row,
    a_value_that_the_table_refuses_is_not_quoted,
    a_table_that_does_not_fit_is_refused_before_the_first_row,
    names_and_values_are_never_sql,
    many_rows_go_in_several_statements,
    a_cancelled_load_leaves_nothing,
);

#[tokio::test]
async fn existing_postgres_types_decide_how_values_are_read() {
    let Some(warehouse) = Warehouse::postgres().await else { return };
    warehouse
        .run(
            "CREATE SCHEMA sales; CREATE TYPE sales.\"Kind Of\" AS ENUM ('credit', 'debit'); \
             CREATE TABLE sales.t (id uuid PRIMARY KEY, amount numeric(12,2), at timestamptz, \
             day date, kind sales.\"Kind Of\", code char(3), short varchar(3), data jsonb, n int2)",
        )
        .await;
    let with = json!({"table": "sales.t", "mode": "upsert", "key": ["id"]});
    let row = json!({"id": "018f4e5c-0000-7000-8000-000000000000", "amount": "12.50",
        "at": "2026-01-01T00:00:00Z", "day": "2026-01-01", "kind": "debit", "code": "abc",
        "short": "abc", "data": "text", "n": 7.0});
    warehouse.load(with.clone(), row.clone()).await.unwrap();
    assert_eq!(
        warehouse
            .texts("SELECT concat_ws('|', amount, kind, code, short, data, n) FROM sales.t")
            .await,
        some(&["12.50|debit|abc|abc|\"text\"|7"])
    );
    for (field, value, detail) in [
        ("short", json!("abcd"), "row 1, column `short`: expected at most 3 characters"),
        ("code", json!("abcd"), "row 1, column `code`: expected at most 3 characters"),
        ("kind", json!("s3cr3t"), "rows 0 to 1: a value was refused (code 22P02)"),
        ("id", json!("s3cr3t"), "row 1, column `id`: expected a UUID"),
        ("n", json!(70_000), "row 1, column `n`: expected a whole number from -32768 to 32767"),
        ("day", json!("s3cr3t"), "row 1, column `day`: expected a day such as 2026-11-30"),
        (
            "amount",
            json!("12.505"),
            "row 1, column `amount`: expected at most 10 digits before the point and 2 after it",
        ),
    ] {
        let mut bad = row.clone();
        bad[field] = value;
        if field != "id" {
            bad["id"] = json!("018f4e5c-0000-7000-8000-000000000001");
        }
        let error = warehouse.load(with.clone(), json!([row, bad])).await.unwrap_err();
        assert_eq!(
            (error.code.as_ref(), error.detail.as_str()),
            ("row_invalid", detail),
            "{field}"
        );
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn zero_characters_are_a_clear_error_on_postgres() {
    let Some(warehouse) = Warehouse::postgres().await else { return };
    for value in [json!("a\0b"), json!({"a": ["\0"]}), json!({"\0": 1})] {
        let error = warehouse.load(json!({"table": "t"}), json!({"a": value})).await.unwrap_err();
        assert!(
            error.detail.starts_with("row 0, column `a`: expected text without zero"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_missing_schema_and_denied_access_are_lasting_errors_on_postgres() {
    let Some(warehouse) = Warehouse::postgres().await else { return };
    let error = warehouse.load(json!({"table": "nowhere.t"}), json!({"a": 1})).await.unwrap_err();
    assert_eq!(error.code, "destination_schema_mismatch", "{error}");
    let role = format!("reader_{}", Uuid::now_v7().simple());
    warehouse.run(&format!("CREATE ROLE {role} LOGIN; CREATE TABLE t (a int)")).await;
    let mut url = url::Url::parse(&warehouse.url).unwrap();
    url.set_username(&role).unwrap();
    let reader = Warehouse { url: url.to_string(), _folder: None };
    let error = reader.load(json!({"table": "t"}), json!({"a": 1})).await.unwrap_err();
    assert_eq!(error.code, "destination_refused", "{error}");
}

#[tokio::test]
async fn an_address_where_nothing_answers_is_a_passing_error_without_the_address() {
    let warehouse =
        Warehouse { url: "postgres://user:s3cr3t@127.0.0.1:1/s3cr3t".to_owned(), _folder: None };
    let error = warehouse.load(json!({"table": "t"}), json!({"a": 1})).await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.retryable), ("destination_unavailable", true));
    assert!(!error.detail.contains("s3cr3t"), "{error}");
}

#[tokio::test]
async fn unknown_and_unusable_connections_are_told_apart() {
    let step = step(json!({"table": "t"}));
    let unknown = step.run(&testing::context(json!({"a": 1}), json!({}))).await;
    assert_eq!(unknown.unwrap_err().code, "connection_unknown");
    for url in ["mysql://s3cr3t@host/db", "s3cr3t", "postgres://[s3cr3t"] {
        let warehouse = Warehouse { url: url.to_owned(), _folder: None };
        let error = step.run(&warehouse.context(json!({"a": 1}))).await.unwrap_err();
        assert_eq!(error.code, "connection_unusable");
        assert!(!error.detail.contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn names_that_differ_in_case_only_are_refused_on_sqlite() {
    let warehouse = Warehouse::sqlite();
    let error = warehouse.load(json!({"table": "t"}), json!({"a": 1, "A": 2})).await.unwrap_err();
    assert_eq!(error.code, "destination_schema_mismatch");
}

#[tokio::test]
async fn no_rows_need_no_destination() {
    let warehouse = Warehouse { url: "postgres://127.0.0.1:1/x".to_owned(), _folder: None };
    let output = warehouse.load(json!({"table": "t"}), json!([])).await.unwrap();
    assert_eq!(output, json!({"table": "t", "rows_loaded": 0, "skipped": false}));
}

#[test]
fn parameters_that_contradict_each_other_are_refused_with_their_place() {
    let text = json!({"type": "text"});
    for (with, path) in [
        (json!({"table": ""}), "table"),
        (json!({"table": "a".repeat(64)}), "table"),
        (json!({"table": "sales.millrace_loads"}), "table"),
        (json!({"table": "t", "mode": "upsert"}), "key"),
        (json!({"table": "t", "key": ["a"]}), "key"),
        (json!({"table": "t", "mode": "upsert", "key": ["a", "a"]}), "key[1]"),
        (json!({"table": "t", "mode": "upsert", "key": ["a"], "columns": {"b": text}}), "key[0]"),
        (json!({"table": "t", "columns": {}}), "columns"),
        (json!({"table": "t", "columns": {"a": {"type": "money"}}}), "columns.a.type"),
        (json!({"table": "t", "columns": {"a": {"type": "text", "from": "x"}}}), "columns.a.from"),
        (json!({"table": "t", "columns": {"a\0": text}}), "columns.a\0"),
    ] {
        let mut with = with;
        with["connection"] = json!(NAME);
        let error = testing::build("load_sql", with.clone()).err().unwrap();
        assert_eq!(error.path, path, "{with}: {error}");
    }
}
