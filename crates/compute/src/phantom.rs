//! The built-in asymmetric phantom.
