//! The built-in kinds: the compute core put behind the Kernel trait.
