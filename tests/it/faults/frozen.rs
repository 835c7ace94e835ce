//! A node that is frozen past its lease and goes on as if nothing had been:
//! what it still writes about work that others took over is refused.

use std::fs::File;
use std::time::Duration;

use millrace_entities::{execution, node, step_run};
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;
use uuid::Uuid;

use crate::chaos::stage;
use crate::support::{Database, ORG, PATIENCE, Process, Starting, Target};

/// Between the commit of a load and the record of it, a node waits so long. The
/// owner is frozen in this wait, and goes on in that of the next one.
const GAP: &str = "load-after-commit=return(delay:1000)";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_owner_writes_late_is_refused_on_postgres() {
    freeze(4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make frozen"]
async fn the_late_write_of_a_frozen_owner_is_refused_every_time_on_postgres() {
    freeze(std::env::var("RUNS").map_or(100, |runs| runs.parse().expect("RUNS is a number"))).await;
}

async fn freeze(runs: usize) {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a frozen owner needs Postgres");
        return;
    };
    let ring = Ring::open(database).await;
    for run in 0..runs {
        ring.round(run).await;
    }
    println!("{runs} late writes, {runs} refused");
}

/// An owner, a spare node and what they share.
struct Ring {
    database: Database,
    rows: DatabaseConnection,
    destination: DatabaseConnection,
    owner: Process,
    spare: Process,
    target: Target,
}

impl Ring {
    async fn open(database: Database) -> Self {
        let destination = format!("sqlite://{}?mode=rwc", database.path("destination.db"));
        stage::configure(&database, &destination);
        let start = |log: &str, faults: &str| {
            let log = File::create(database.path(log)).unwrap();
            Starting::spawn(&database, &[], &[("FAILPOINTS", faults)], log.into()).ready()
        };
        let owner = start("owner.log", GAP).await;
        let spare = start("spare.log", GAP).await;
        let key = owner.api.organisation(ORG).await;
        let steps = json!([
            {"id": "row", "uses": "jq", "with": {"filter": "{run: .run, execution: $context.execution_id}"}},
            {"uses": "load_sql", "with": {"connection": "destination", "table": "loads"}},
            {"id": "give", "uses": "jq", "with": {"filter": "$context.input_data.run"}},
        ]);
        let target = owner.api.deploy_in(ORG, &key, "demo", steps, json!({})).await;
        let path = format!("/deployment/{}/status/{}/", target.public_id, Uuid::nil());
        until("the spare node knows the deployment", async || {
            spare.api.get(&path, &target.key).send().await.unwrap().status() == 404
        })
        .await;
        let rows = sea_orm::Database::connect(&database.url).await.unwrap();
        let destination = sea_orm::Database::connect(&destination).await.unwrap();
        Self { rows, destination, owner, spare, target, database }
    }

    async fn round(&self, run: usize) {
        let id = self.owner.api.accepted(&self.target, &json!({"input_data": {"run": run}})).await;
        until("the row is loaded", async || self.loads(&id).await == 1).await;
        let first_owner = self.execution(&id).await.owner.unwrap();
        self.owner.signal("STOP");
        if run.is_multiple_of(2) {
            self.goes_on_after_the_end(&id).await;
        } else {
            self.goes_on_before_the_end(&id, first_owner).await;
        }
        let row = self.execution(&id).await;
        assert_eq!(row.attempt, 2, "run {run}");
        assert_ne!(row.owner, Some(first_owner), "run {run}");
        assert_eq!(self.attempts(&id).await, [1, 2, 2], "run {run}: who recorded the steps");
        assert_eq!(self.loads(&id).await, 1, "run {run}");
        for api in [&self.owner.api, &self.spare.api] {
            assert_eq!(api.ended(&self.target, &id).await["status"], "COMPLETED", "run {run}");
            assert_eq!(api.result(&self.target, &id).await[0]["result"]["output"], run);
        }
        until("the owner is a node again", async || {
            node::Entity::find_by_id(first_owner).one(&self.rows).await.unwrap().is_some()
        })
        .await;
    }

    /// What the owner finds is ended already.
    async fn goes_on_after_the_end(&self, id: &str) {
        assert_eq!(self.spare.api.ended(&self.target, id).await["status"], "COMPLETED");
        let before = self.image(id).await;
        self.owner.signal("CONT");
        self.is_refused(id).await;
        assert_eq!(self.image(id).await, before);
    }

    /// What the owner finds runs on the other node.
    async fn goes_on_before_the_end(&self, id: &str, first_owner: Uuid) {
        until("it is taken over", async || {
            self.execution(id).await.owner.is_some_and(|owner| owner != first_owner)
        })
        .await;
        self.owner.signal("CONT");
        self.is_refused(id).await;
        assert!([vec![1], vec![1, 2], vec![1, 2, 2]].contains(&self.attempts(id).await));
        assert_eq!(self.spare.api.ended(&self.target, id).await["status"], "COMPLETED");
    }

    async fn is_refused(&self, id: &str) {
        until("the late write is refused", async || {
            let log = std::fs::read_to_string(self.database.path("owner.log")).unwrap();
            log.lines().any(|line| line.contains("another owner has") && line.contains(id))
        })
        .await;
    }

    async fn execution(&self, id: &str) -> execution::Model {
        let id: Uuid = id.parse().unwrap();
        execution::Entity::find_by_id(id).one(&self.rows).await.unwrap().unwrap()
    }

    async fn steps(&self, id: &str) -> Vec<step_run::Model> {
        let steps = step_run::Entity::find()
            .filter(step_run::Column::ExecutionId.eq(id.parse::<Uuid>().unwrap()))
            .order_by_asc(step_run::Column::StepIndex);
        steps.all(&self.rows).await.unwrap()
    }

    /// The attempts under which the steps were recorded, in order.
    async fn attempts(&self, id: &str) -> Vec<i32> {
        self.steps(id).await.iter().map(|step| step.attempt).collect()
    }

    /// All that is stored of an execution.
    async fn image(&self, id: &str) -> String {
        format!("{:?} {:?}", self.execution(id).await, self.steps(id).await)
    }

    /// Rows of the destination that an execution brought.
    async fn loads(&self, id: &str) -> i64 {
        let count = "SELECT count(*) FROM loads WHERE execution = $1";
        let pool = self.destination.get_sqlite_connection_pool();
        let counted = sea_orm::sqlx::query_scalar(count).bind(id).fetch_one(pool).await;
        // The first load makes the table.
        counted.unwrap_or_default()
    }
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}"));
}
