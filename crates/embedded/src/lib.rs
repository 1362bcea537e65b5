//! A broker and workers inside one process: what `thread:N` is.
