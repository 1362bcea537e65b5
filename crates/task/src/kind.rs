//! The name of a computation, and the types that go with it.

use std::fmt;

/// Name and version of a computation, such as `em.align/1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Dotted name, such as `em.align`.
    pub name: String,
    /// Raised whenever parameters or output change their meaning.
    pub version: u32,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// A kind together with its types: all a customer needs to submit tasks and read their outputs.
pub trait TaskKind {
    /// Dotted name, such as `em.align`.
    const NAME: &'static str;
    /// Raised whenever parameters or output change their meaning.
    const VERSION: u32;
    /// What the customer states.
    type Parameters: prost::Message + Default;
    /// What the kernel answers, apart from blobs.
    type Output: prost::Message + Default;

    /// The kind as a value.
    fn kind() -> Kind {
        Kind {
            name: Self::NAME.to_owned(),
            version: Self::VERSION,
        }
    }
}
