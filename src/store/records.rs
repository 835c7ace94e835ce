//! Executions as they are looked back on: without their submissions and
//! results, which may be large.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_entities::enums::Status;
use millrace_entities::{deployment, execution, execution_tag, former_deployment, step_run};
use sea_orm::sea_query::{
    CaseStatement, Expr, ExprTrait, Query, SelectStatement, SimpleExpr, UnionType,
};
use sea_orm::{
    ColumnTrait, DeriveActiveEnum, DerivePartialModel, EntityTrait, EnumIter, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError};

/// How far the time in an execution's id may be from `created_at`.
const CLOCK_SLACK: chrono::Duration = chrono::Duration::minutes(1);

/// What is told of an execution.
#[derive(Debug, Clone, DerivePartialModel)]
#[sea_orm(entity = "execution::Entity")]
#[expect(missing_docs, reason = "the entity says what each column means")]
pub struct Summary {
    pub id: Uuid,
    pub deployment_id: Uuid,
    pub revision: i32,
    pub key_id: Option<Uuid>,
    pub status: Status,
    pub attempt: i32,
    pub documents_total: i32,
    pub documents_failed: i32,
    pub steps_total: i32,
    pub steps_done: i32,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub rerun_of: Option<Uuid>,
    pub gathered: Option<bool>,
}

impl Summary {
    /// How often its steps run: once for each document, and once without any,
    /// unless it gathers them itself.
    pub fn walks(&self) -> usize {
        let documents = usize::try_from(self.documents_total).unwrap_or_default();
        documents.max(usize::from(self.gathered.is_none()))
    }

    /// What is told of a row.
    pub fn of(row: &execution::Model) -> Self {
        Self {
            id: row.id,
            deployment_id: row.deployment_id,
            revision: row.revision,
            key_id: row.key_id,
            status: row.status,
            attempt: row.attempt,
            documents_total: row.documents_total,
            documents_failed: row.documents_failed,
            steps_total: row.steps_total,
            steps_done: row.steps_done,
            error: row.error.clone(),
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            expires_at: row.expires_at,
            rerun_of: row.rerun_of,
            gathered: row.gathered,
        }
    }
}

/// What stands for the output of a step that was passed over: no JSON, and not
/// the null of a row without output.
pub const PASSED_OVER: &str = "";

/// What a recorded step gave to those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i32", db_type = "Integer")]
pub enum Given {
    /// Nothing: it failed, and its document with it.
    #[sea_orm(num_value = 0)]
    Nothing,
    /// What it got: it was passed over.
    #[sea_orm(num_value = 1)]
    Unchanged,
    /// An output, or the error it went on with.
    #[sea_orm(num_value = 2)]
    Output,
}

impl Given {
    /// What a row says.
    pub fn of(row: &step_run::Model) -> Self {
        match &row.output {
            Some(output) if output == PASSED_OVER => Self::Unchanged,
            None if row.output_hash.is_none() => Self::Nothing,
            _ => Self::Output,
        }
    }

    /// As [`Self::of`], in SQL.
    fn column() -> SimpleExpr {
        use step_run::Column;
        let nothing = Column::Output.is_null().and(Column::OutputHash.is_null());
        CaseStatement::new()
            .case(Column::Output.eq(PASSED_OVER), Expr::val(Self::Unchanged as i32))
            .case(nothing, Expr::val(Self::Nothing as i32))
            .finally(Expr::val(Self::Output as i32))
            .into()
    }
}

/// A recorded step without its output.
#[derive(Debug, Clone, DerivePartialModel)]
#[sea_orm(entity = "step_run::Entity")]
#[expect(missing_docs, reason = "the entity says what each column means")]
pub struct StepMark {
    pub document_index: i32,
    pub step_index: i32,
    pub step_id: String,
    pub attempt: i32,
    pub output_hash: Option<String>,
    #[sea_orm(from_expr = "Given::column()")]
    pub given: Given,
    pub error: Option<String>,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub tries: i32,
}

impl StepMark {
    /// What is told of a row.
    pub fn of(row: &step_run::Model) -> Self {
        Self {
            document_index: row.document_index,
            step_index: row.step_index,
            step_id: row.step_id.clone(),
            attempt: row.attempt,
            output_hash: row.output_hash.clone(),
            given: Given::of(row),
            error: row.error.clone(),
            started_at: row.started_at,
            ended_at: row.ended_at,
            tries: row.tries,
        }
    }
}

/// Whose execution is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// One of a deployment's.
    Deployment(Uuid),
    /// One of an organisation's.
    Organisation(Uuid),
}

/// Which of an organisation's executions are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this deployment.
    pub deployment: Option<Uuid>,
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those that repeat this execution.
    pub rerun_of: Option<Uuid>,
    /// Those accepted then or later.
    pub created_after: Option<DateTime<Utc>>,
    /// Those accepted before.
    pub created_before: Option<DateTime<Utc>>,
}

/// A listed execution.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The execution.
    pub summary: Summary,
    /// Its tags, in alphabetical order.
    pub tags: Vec<String>,
    /// What its deployment is or was called.
    pub deployment: DeploymentName,
}

/// What a deployment is or was called.
#[derive(Debug, Clone, Default)]
pub struct DeploymentName {
    /// Its name in Unstract's form of the routes; the last one if it is gone.
    pub api_name: String,
    /// Whether it is gone.
    pub is_deleted: bool,
}

/// Every query of one execution starts here, in scope.
fn of(scope: Scope) -> Select<execution::Entity> {
    execution::Entity::find().filter(match scope {
        Scope::Deployment(id) => execution::Column::DeploymentId.eq(id),
        Scope::Organisation(id) => execution::Column::OrganisationId.eq(id),
    })
}

/// Every list of executions starts here, in scope. It goes through the
/// organisation's deployments, present and former, because the index on
/// (deployment, id) is there for callers anyway: an index on (organisation,
/// id) would be one more write for every execution that is accepted.
fn listed(organisation_id: Uuid, filter: &Filter) -> Select<execution::Entity> {
    use execution::Column;
    let mut found = of(Scope::Organisation(organisation_id));
    found = match filter.deployment {
        Some(id) => found.filter(Column::DeploymentId.eq(id)),
        None => found.filter(Column::DeploymentId.in_subquery(deployments(organisation_id))),
    };
    if let Some(status) = filter.status {
        found = found.filter(Column::Status.eq(status));
    }
    if let Some(original) = filter.rerun_of {
        found = found.filter(Column::RerunOf.eq(original));
    }
    if let Some(tag) = &filter.tag {
        let tagged = Query::select()
            .column(execution_tag::Column::ExecutionId)
            .from(execution_tag::Entity)
            .and_where(execution_tag::Column::OrganisationId.eq(organisation_id))
            .and_where(execution_tag::Column::Tag.eq(tag.clone()))
            .to_owned();
        found = found.filter(Column::Id.in_subquery(tagged));
    }
    // An id begins with its time, so the index narrows times down as well.
    if let Some(after) = filter.created_after {
        found = found.filter(Column::CreatedAt.gte(after));
        found = found.filter(Column::Id.gte(least_id(after.checked_sub_signed(CLOCK_SLACK))));
    }
    if let Some(before) = filter.created_before {
        found = found.filter(Column::CreatedAt.lt(before));
        if let Some(later) = before.checked_add_signed(CLOCK_SLACK) {
            found = found.filter(Column::Id.lt(least_id(Some(later))));
        }
    }
    found
}

/// Not above any UUIDv7 that was made at `time` or later.
pub(super) fn least_id(time: Option<DateTime<Utc>>) -> Uuid {
    let millis = time.map_or(0, |time| time.timestamp_millis().clamp(0, (1 << 48) - 1));
    Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
}

fn deployments(organisation_id: Uuid) -> SelectStatement {
    let former = Query::select()
        .column(former_deployment::Column::Id)
        .from(former_deployment::Entity)
        .and_where(former_deployment::Column::OrganisationId.eq(organisation_id))
        .to_owned();
    Query::select()
        .column(deployment::Column::Id)
        .from(deployment::Entity)
        .and_where(deployment::Column::OrganisationId.eq(organisation_id))
        .union(UnionType::All, former)
        .to_owned()
}

impl Store {
    /// What is told of the execution of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn summary(&self, scope: Scope, id: Uuid) -> Result<Summary, StoreError> {
        self.read(move |db| async move {
            let found = of(scope).filter(execution::Column::Id.eq(id));
            found.into_partial_model().one(&db).await?.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// The documents of the execution of that id, as JSON.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn documents(&self, scope: Scope, id: Uuid) -> Result<String, StoreError> {
        self.read(move |db| async move {
            let found = of(scope).filter(execution::Column::Id.eq(id)).select_only();
            let documents =
                found.column(execution::Column::Documents).into_tuple().one(&db).await?;
            documents.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// A page of the organisation's executions, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn executions(
        &self,
        organisation_id: Uuid,
        filter: Filter,
        page: Page,
    ) -> Result<Paged<Listed>, StoreError> {
        let found = self.read(move |db| async move {
            let found = listed(organisation_id, &filter);
            let total = found.clone().count(&db).await?;
            let ids: Vec<Uuid> = found
                .select_only()
                .column(execution::Column::Id)
                .order_by_desc(execution::Column::Id)
                .limit(page.size)
                .offset(page.index.saturating_mul(page.size))
                .into_tuple()
                .all(&db)
                .await?;
            let rows: Vec<Summary> = of(Scope::Organisation(organisation_id))
                .filter(execution::Column::Id.is_in(ids))
                .order_by_desc(execution::Column::Id)
                .into_partial_model()
                .all(&db)
                .await?;
            Ok(Paged { total, rows })
        });
        let Paged { total, rows } = found.await?;
        Ok(Paged { total, rows: self.named(rows).await? })
    }

    /// Adds tags and the names of deployments.
    ///
    /// # Errors
    /// The store's.
    pub async fn named(&self, rows: Vec<Summary>) -> Result<Vec<Listed>, StoreError> {
        self.read(move |db| async move {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            let mut tags: HashMap<Uuid, Vec<String>> = HashMap::new();
            let tagged = execution_tag::Entity::find()
                .filter(execution_tag::Column::ExecutionId.is_in(ids))
                .order_by_asc(execution_tag::Column::Tag);
            for row in tagged.all(&db).await? {
                tags.entry(row.execution_id).or_default().push(row.tag);
            }
            let mut ids: Vec<Uuid> = rows.iter().map(|row| row.deployment_id).collect();
            ids.sort_unstable();
            ids.dedup();
            let mut names: HashMap<Uuid, DeploymentName> = HashMap::new();
            let former = former_deployment::Column::Id.is_in(ids.clone());
            for row in former_deployment::Entity::find().filter(former).all(&db).await? {
                let name = DeploymentName { api_name: row.api_name, is_deleted: true };
                names.insert(row.id, name);
            }
            let present = deployment::Column::Id.is_in(ids);
            for row in deployment::Entity::find().filter(present).all(&db).await? {
                let name = DeploymentName { api_name: row.api_name, is_deleted: false };
                names.insert(row.id, name);
            }
            let named = rows.into_iter().map(|summary| Listed {
                tags: tags.remove(&summary.id).unwrap_or_default(),
                deployment: names.get(&summary.deployment_id).cloned().unwrap_or_default(),
                summary,
            });
            Ok(named.collect())
        })
        .await
    }

    /// All recorded steps of an execution without their outputs, by document
    /// and step.
    ///
    /// # Errors
    /// The store's.
    pub async fn step_marks(&self, execution_id: Uuid) -> Result<Vec<StepMark>, StoreError> {
        self.read(move |db| async move {
            Ok(recorded(execution_id).into_partial_model().all(&db).await?)
        })
        .await
    }

    /// A page of an execution's recorded steps, by document and step.
    ///
    /// # Errors
    /// The store's.
    pub async fn step_page(
        &self,
        execution_id: Uuid,
        page: Page,
    ) -> Result<Paged<StepMark>, StoreError> {
        self.read(move |db| async move {
            let found = recorded(execution_id);
            let total = found.clone().count(&db).await?;
            let found = found.limit(page.size).offset(page.index.saturating_mul(page.size));
            Ok(Paged { total, rows: found.into_partial_model().all(&db).await? })
        })
        .await
    }

    /// A page of an execution's recorded steps with the outputs that their
    /// rows hold.
    ///
    /// # Errors
    /// The store's.
    pub async fn step_outputs(
        &self,
        execution_id: Uuid,
        page: Page,
    ) -> Result<Paged<step_run::Model>, StoreError> {
        self.read(move |db| async move { page.of(recorded(execution_id), &db).await }).await
    }
}

fn recorded(execution_id: Uuid) -> Select<step_run::Entity> {
    step_run::Entity::find()
        .filter(step_run::Column::ExecutionId.eq(execution_id))
        .order_by_asc(step_run::Column::DocumentIndex)
        .order_by_asc(step_run::Column::StepIndex)
}
