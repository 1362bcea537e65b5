//! What a task is to those who write one: kind, the Kernel trait, inputs, context.
