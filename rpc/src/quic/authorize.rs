//! Which role may ask what. Checked for each call, before the service sees it.

use std::sync::Arc;

use stele_types::role::Role;

use crate::storage::StorageRequest;
use crate::transport::Message;

/// Decides whether a peer of this role may ask this.
pub type Authorizer = Arc<dyn Fn(Role, &Message) -> bool + Send + Sync>;

/// What each role needs, and no more: gateways write and read shards but never sweep, the anchor speaks
/// to metadata only, an operator's command line looks at drives but does not change what is on them.
pub fn by_role(role: Role, message: &Message) -> bool {
    let storage = match message {
        Message::Meta(_) => return true,
        Message::Raft(_) => return role == Role::Metadata,
        Message::Storage(storage) => storage,
    };
    let sweeps = matches!(
        storage,
        StorageRequest::Condemn { .. } | StorageRequest::Pardon { .. } | StorageRequest::Delete { .. }
    );
    match role {
        Role::StorageNode | Role::Metadata => true,
        Role::S3Gateway => !sweeps,
        Role::Anchor => false,
        Role::Admin => !sweeps && !matches!(storage, StorageRequest::StoreShard { .. }),
    }
}

/// [`by_role`] as an [`Authorizer`].
pub fn standard() -> Authorizer {
    Arc::new(by_role)
}
