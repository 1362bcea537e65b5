//! Results kept here instead of being sent to the broker, whose link may be slow: each in two folders of a site.
//!
//! `store` is the folder, which all workers with the same cache folder share; `claims` tells the broker what is in it and
//! hears when an output is safe; `copies` fetches what others have and this worker is to keep as well.

mod claims;
mod copies;
mod store;

pub(crate) use claims::{FromSwarm, Near, NotKept};
pub(crate) use copies::copy;
pub(crate) use store::NearStore;
