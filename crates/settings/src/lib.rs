//! What daemons and command share: configuration file, logging, default folders, tokens.
