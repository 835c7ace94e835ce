//! Documents: their bytes under their content hash, and their text.

pub mod hash;
pub mod store;
pub mod sweep;
pub mod text;

pub use hash::Hash;
pub use store::{DocumentStore, StoreError, Upload};
