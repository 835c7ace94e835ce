//! What changed through another node, or through this one without reaching
//! its directory: read from the store's feed of changes and brought into
//! force.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use millrace_entities::change;
use millrace_entities::enums::ChangeKind;
use uuid::Uuid;

use super::connections;
use super::context::Context;
use super::registry::{KeyRegistry, Load, Refresh, RefreshManagers};
use crate::store::StoreError;

/// Between two looks at the feed: one read of an index.
const LOOK: Duration = Duration::from_millis(50);

/// The wait after a look that failed.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Changes read at once.
const ROUND: u64 = 1000;

/// Follows the feed from the change of id `seen` on, until the engine hands
/// back its work.
pub(super) async fn run(context: Arc<Context>, registry: Addr<KeyRegistry>, mut seen: i64) {
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.hand_back.cancelled() => return,
        }
        pause = match look(&context, &registry, seen).await {
            Ok(last) => {
                seen = last;
                LOOK
            }
            // Nothing is passed over: the same changes are read again.
            Err(error) => {
                tracing::warn!(%error, "changes cannot be followed for the moment");
                BACK_OFF
            }
        };
    }
}

/// Brings into force what changed after `seen`; returns the last change.
async fn look(
    context: &Context,
    registry: &Addr<KeyRegistry>,
    seen: i64,
) -> Result<i64, StoreError> {
    let changes = context.store.changes_after(seen, ROUND).await?;
    let Some(last) = changes.last() else { return Ok(seen) };
    // Ids have no gaps: what is missing here was removed before it was seen.
    if i64::try_from(changes.len()) != Ok(last.id - seen) {
        let last = context.store.last_change().await?;
        tracing::warn!(seen, last, "too far behind the changes; everything is read anew");
        tell(registry, Load).await?;
        connections::reload(&context.store, &context.services).await?;
        return Ok(last);
    }
    for (kind, id) in concerned(&changes) {
        let told = match kind {
            ChangeKind::Deployment => tell(registry, Refresh(id)).await,
            ChangeKind::Organisation => tell(registry, RefreshManagers(id)).await,
            // One reload brings in those of all organisations.
            ChangeKind::Connections if context.services.connections.version() >= last.id => Ok(()),
            ChangeKind::Connections => {
                connections::reload(&context.store, &context.services).await.map(drop)
            }
        };
        match told {
            // One deployment that cannot be used must not hold up a revocation.
            Err(StoreError::Fault(error)) => {
                tracing::error!(%id, error, "a change cannot be brought into force");
            }
            other => other?,
        }
    }
    Ok(last.id)
}

/// Each thing that changed, once.
fn concerned(changes: &[change::Model]) -> HashSet<(ChangeKind, Uuid)> {
    changes.iter().map(|change| (change.kind, change.resource_id)).collect()
}

async fn tell<M>(registry: &Addr<KeyRegistry>, message: M) -> Result<(), StoreError>
where
    M: actix::Message<Result = Result<(), StoreError>> + Send + 'static,
    KeyRegistry: actix::Handler<M>,
{
    let away = |_| StoreError::Unavailable("the key registry is away".into());
    registry.send(message).await.map_err(away)?
}
