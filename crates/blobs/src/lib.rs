//! Blobs: chunks, digests, the chunk store on disk, fetching from several holders.
