//! Documents: their bytes under their content hash, their type and their
//! text.

mod container;
pub mod fetch;
pub mod hash;
pub mod media_type;
pub mod store;
pub mod sweep;
pub mod text;

pub use hash::Hash;
pub use store::{DocumentStore, StoreError, Upload};
