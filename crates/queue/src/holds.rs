//! Which blobs are in use, counted over everything that uses them.

use crate::{Digest, Input, InputSource, Output, OutputPart, Payload, TaskSpec};
use std::collections::{HashMap, HashSet};

/// Uses of each blob, and the blobs whose last use ended.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// Never zero: an entry goes when its last use does.
    uses: HashMap<Digest, u32>,
    /// Lost their last use since someone asked. May have been taken up again: checked when handed out.
    dropped: HashSet<Digest>,
}

impl Holds {
    pub(crate) fn hold(&mut self, digest: Digest) {
        *self.uses.entry(digest).or_default() += 1;
    }

    pub(crate) fn hold_all(&mut self, digests: impl IntoIterator<Item = Digest>) {
        digests.into_iter().for_each(|digest| self.hold(digest));
    }

    pub(crate) fn drop(&mut self, digest: Digest) {
        if let Some(count) = self.uses.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(&digest);
                self.dropped.insert(digest);
            }
        }
    }

    pub(crate) fn is_held(&self, digest: &Digest) -> bool {
        self.uses.contains_key(digest)
    }

    /// Blobs without any use, each told once.
    pub(crate) fn take_unheld(&mut self) -> Vec<Digest> {
        let uses = &self.uses;
        self.dropped
            .drain()
            .filter(|digest| !uses.contains_key(digest))
            .collect()
    }

    pub(crate) fn uses(&self) -> &HashMap<Digest, u32> {
        &self.uses
    }
}

/// Blobs an unfinished task needs.
pub(crate) fn read_by(spec: &TaskSpec, parameters: &Payload) -> impl Iterator<Item = Digest> {
    let inputs = spec.inputs.iter();
    let inputs = inputs.filter_map(|Input { source, .. }| digest_of(source));
    inputs.chain(blob_of(parameters))
}

/// Blobs a kernel gave.
pub(crate) fn given_by(output: &Output) -> impl Iterator<Item = Digest> {
    let blobs = output.blobs.iter().map(|blob| blob.digest);
    blobs.chain(blob_of(&output.message))
}

/// The blob of an input, if it is one already.
pub(crate) fn digest_of(source: &InputSource) -> Option<Digest> {
    match source {
        InputSource::Blob(blob) => Some(blob.digest),
        InputSource::Message(message) => blob_of(message),
        InputSource::Output { .. } => None,
    }
}

/// A part of an output, if it has that.
pub(crate) fn part_of(output: &Output, part: OutputPart) -> Option<InputSource> {
    match part {
        OutputPart::Message => Some(match &output.message {
            Payload::Blob(blob) => InputSource::Blob(*blob),
            message => InputSource::Message(message.clone()),
        }),
        OutputPart::Blob(position) => {
            let blob = output.blobs.get(position as usize)?;
            Some(InputSource::Blob(*blob))
        }
    }
}

fn blob_of(payload: &Payload) -> Option<Digest> {
    match payload {
        Payload::Blob(blob) => Some(blob.digest),
        Payload::Inline(_) | Payload::Packed { .. } => None,
    }
}
