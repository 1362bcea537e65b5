//! The task state machine: no async, no store, no clock, no wire.
