//! Deployments beside what has run on them, in the scope of their organisation.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_entities::enums::Status;
use millrace_entities::{deployment, execution, organisation, platform_key, workflow};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ColumnTrait, Condition, DatabaseConnection, EntityTrait, FromQueryResult, Order, QueryFilter,
    QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError};

/// How many of the latest executions are told.
const LATEST: u64 = 5;

/// Which deployments, and in which order.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The one of this name.
    pub api_name: Option<String>,
    /// Those that serve this workflow.
    pub workflow_id: Option<Uuid>,
    /// Those that have this text in a name or in the description, in any case.
    pub search: Option<String>,
    /// What they are ordered by.
    pub by: deployment::Column,
    /// From the least or from the greatest.
    pub order: Order,
}

/// A deployment and what has run on it.
#[derive(Debug)]
pub struct Summary {
    /// The deployment.
    pub deployment: deployment::Model,
    /// Name of the workflow it serves.
    pub workflow_name: String,
    /// Its executions that are still known.
    pub run_count: u64,
    /// The latest of them, the newest first.
    pub latest: Vec<Run>,
}

/// An execution in short.
#[derive(Debug, FromQueryResult)]
pub struct Run {
    /// Primary key.
    pub id: Uuid,
    /// Where its life stands.
    pub status: Status,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
}

/// Every query here starts in the organisation's scope.
fn of(organisation_id: Uuid) -> Select<deployment::Entity> {
    deployment::Entity::find().filter(deployment::Column::OrganisationId.eq(organisation_id))
}

impl Wanted {
    fn narrow(self, found: Select<deployment::Entity>) -> Select<deployment::Entity> {
        use deployment::Column;
        let equal = Condition::all()
            .add_option(self.api_name.map(|name| Column::ApiName.eq(name)))
            .add_option(self.workflow_id.map(|id| Column::WorkflowId.eq(id)))
            .add_option(self.search.map(|text| contains(&text)));
        // The id makes the order total, so that pages do not overlap.
        found.filter(equal).order_by(self.by, self.order).order_by_asc(Column::Id)
    }
}

/// Names or description contain the text. `%` and `_` in it mean themselves.
fn contains(text: &str) -> Condition {
    use deployment::Column;
    let escaped = text.to_lowercase().replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    let pattern = sea_orm::sea_query::LikeExpr::new(format!("%{escaped}%")).escape('\\');
    [Column::ApiName, Column::DisplayName, Column::Description]
        .into_iter()
        .map(|column| Expr::expr(Func::lower(Expr::col(column))).like(pattern.clone()))
        .fold(Condition::any(), Condition::add)
}

impl Store {
    /// The organisation's deployments that are wanted, with what has run on
    /// them.
    ///
    /// # Errors
    /// The store's.
    pub async fn deployment_summaries(
        &self,
        organisation_id: Uuid,
        wanted: Wanted,
        page: Page,
    ) -> Result<Paged<Summary>, StoreError> {
        self.read(move |db| async move {
            let found = wanted.narrow(of(organisation_id));
            let Paged { total, rows } = page.of(found, &db).await?;
            let mut names = workflow_names(&db, &rows).await?;
            let mut summaries = Vec::with_capacity(rows.len());
            for deployment in rows {
                // A row whose workflow changed between the reads has lost its place here.
                let Some(workflow_name) = names.remove(&deployment.id) else { continue };
                let (run_count, latest) = runs(&db, deployment.id).await?;
                summaries.push(Summary { deployment, workflow_name, run_count, latest });
            }
            Ok(Paged { total, rows: summaries })
        })
        .await
    }

    /// The organisation, and its platform key of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn key_and_organisation(
        &self,
        organisation_id: Uuid,
        key_id: Uuid,
    ) -> Result<(platform_key::Model, organisation::Model), StoreError> {
        self.read(move |db| async move {
            let organisation = organisation::Entity::find_by_id(organisation_id).one(&db).await?;
            let key = platform_key::Entity::find_by_id(key_id)
                .filter(platform_key::Column::OrganisationId.eq(organisation_id))
                .one(&db)
                .await?;
            key.zip(organisation).ok_or(StoreError::NotFound)
        })
        .await
    }
}

/// Names of workflows, by deployment.
async fn workflow_names(
    db: &DatabaseConnection,
    deployments: &[deployment::Model],
) -> Result<HashMap<Uuid, String>, StoreError> {
    let ids = deployments.iter().map(|row| row.workflow_id);
    let workflows =
        workflow::Entity::find().filter(workflow::Column::Id.is_in(ids)).all(db).await?;
    let names: HashMap<Uuid, String> =
        workflows.into_iter().map(|row| (row.id, row.name)).collect();
    let named = |row: &deployment::Model| Some((row.id, names.get(&row.workflow_id)?.clone()));
    Ok(deployments.iter().filter_map(named).collect())
}

/// How many executions a deployment has, and the latest: both by the index on
/// deployment and id.
async fn runs(db: &DatabaseConnection, deployment_id: Uuid) -> Result<(u64, Vec<Run>), StoreError> {
    use execution::Column;
    let of = || execution::Entity::find().filter(Column::DeploymentId.eq(deployment_id));
    let latest = of()
        .select_only()
        .columns([Column::Id, Column::Status, Column::CreatedAt])
        .order_by_desc(Column::Id)
        .limit(LATEST)
        .into_model()
        .all(db)
        .await?;
    let count: Option<i64> =
        of().select_only().column_as(Column::Id.count(), "runs").into_tuple().one(db).await?;
    Ok((count.unwrap_or_default().try_into().unwrap_or_default(), latest))
}
