//! How many rows a second `load_sql` brings into Postgres: the whole step, from
//! the JSON input to the commit. `make bench-load`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which may stop at the first fault"
)]

use std::sync::Arc;
use std::time::Instant;

use millrace::connections::{Connection, Connections};
use millrace::documents::DocumentStore;
use millrace::outbound::{Outbound, OutboundConfig};
use millrace::sandbox::{Sandbox, SandboxConfig};
use millrace::sql_pools::SqlPools;
use millrace::steps::meter::Meter;
use millrace::steps::{Services, StepContext, StepScope, build};
use millrace::usage::Subject;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ORG: &str = "bench";

/// Rows of one load, times it is measured.
const ROWS: usize = 200_000;
const RUNS: usize = 5;

fn row(n: usize, run: usize) -> Value {
    json!({
        "id": n,
        "number": format!("INV-{n:08}"),
        "supplier": "Müller & Söhne GmbH",
        "issued": "2026-11-30",
        "total": f64::from(u32::try_from(n % 100_000).unwrap()) / 100.0,
        "paid": n.is_multiple_of(2),
        "run": run,
        "seen": "2026-11-30T12:00:00Z",
    })
}

const COLUMNS: &str = "id bigint, number text, supplier text, issued date, \
     total numeric(12,2), paid boolean, run integer, seen timestamptz";

fn context(services: &Arc<Services>, input: Value) -> StepContext {
    StepContext {
        scope: StepScope {
            org_id: ORG.to_owned(),
            execution_id: Uuid::now_v7(),
            document_index: 0,
            step_id: "load".to_owned(),
        },
        input: Arc::new(input),
        data: Arc::new(json!({})),
        document: None,
        services: Arc::clone(services),
        meter: Meter::new(Arc::default(), Subject::new(Uuid::nil(), None)),
        cancel: CancellationToken::new(),
    }
}

async fn measure(services: &Arc<Services>, name: &str, with: Value) {
    let step = build("load_sql", with).expect("the kind is there").expect("it can be built");
    let mut rates = Vec::new();
    let mut width = 0;
    for run in 0..RUNS {
        let input: Value = (0..ROWS).map(|n| row(n, run)).collect();
        width = input.to_string().len() / ROWS;
        let context = context(services, input);
        let start = Instant::now();
        let output = step.run(&context).await.expect("it loads");
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(output["rows_loaded"], ROWS);
        rates.push(f64::from(u32::try_from(ROWS).unwrap()) / seconds);
    }
    let all: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    rates.sort_by(f64::total_cmp);
    let median = rates.get(RUNS / 2).copied().unwrap_or_default();
    println!(
        "{name}: {median:.0} rows/s (median; all: {}), {ROWS} rows of 8 columns, {width} bytes of JSON each",
        all.join(", ")
    );
}

#[tokio::main]
async fn main() {
    // `cargo bench` passes flags of its own; `cargo test --benches` runs nothing.
    let Ok(url) = std::env::var("MILLRACE_TEST_POSTGRES_URL") else {
        println!("needs Postgres: make bench-load");
        return;
    };
    let pools = Arc::new(SqlPools::default());
    let pool = pools.get(&url.clone().into()).expect("a Postgres URL");
    let schema = format!("bench_{}", Uuid::now_v7().simple());
    let sql = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.plain ({COLUMNS}); \
         CREATE TABLE {schema}.keyed ({COLUMNS}, PRIMARY KEY (id))"
    );
    pool.execute_unprepared(&sql).await.expect("a user who may make tables");
    let connection = Connection::Sql { url: url.into() };
    let memory = opendal::Operator::new(opendal::services::Memory::default()).expect("memory");
    let services = Arc::new(Services {
        documents: DocumentStore::new(memory),
        sandbox: Sandbox::new(SandboxConfig::default()),
        connections: Connections::new([((ORG.to_owned(), "db".to_owned()), connection)]),
        sql: pools,
        outbound: Outbound::new(&OutboundConfig::default()).expect("clients"),
    });
    let plain = json!({"connection": "db", "table": format!("{schema}.plain")});
    measure(&services, "insert", plain).await;
    let keyed = json!({"connection": "db", "table": format!("{schema}.keyed"), "mode": "upsert", "key": ["id"]});
    measure(&services, "upsert (new rows first, then the same ones again)", keyed).await;
    pool.execute_unprepared(&format!("DROP SCHEMA {schema} CASCADE")).await.expect("it is dropped");
}
