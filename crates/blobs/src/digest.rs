//! Names of blobs: the digest alone, and the digest with the size it stands for.

use dewar_proto::v1;
use std::{fmt, str::FromStr};

/// BLAKE3 of a blob's bytes, or the subtree value of one chunk of a larger blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// Immutable bytes, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobRef {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// Bytes or text that are no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 bytes, in text 64 hexadecimal digits")]
pub struct MalformedDigest;

/// A blob reference on the wire that names no blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBlobRef {
    /// The field was left out.
    #[error("{field} is missing")]
    Missing {
        /// Where in the message.
        field: String,
    },
    /// The digest has another length.
    #[error("{field}.digest has {length} bytes; a digest has 32")]
    DigestLength {
        /// Where in the message.
        field: String,
        /// How many bytes there are.
        length: usize,
    },
}

impl BlobRef {
    /// Reads a reference from the wire; `field` is where it stands in its message, for the error's text.
    ///
    /// # Errors
    /// If it is missing, or its digest does not have 32 bytes.
    pub fn from_wire(blob: Option<&v1::BlobRef>, field: &str) -> Result<Self, MalformedBlobRef> {
        let blob = blob.ok_or_else(|| MalformedBlobRef::Missing {
            field: field.to_owned(),
        })?;
        let digest =
            Digest::try_from(&*blob.digest).map_err(|_| MalformedBlobRef::DigestLength {
                field: field.to_owned(),
                length: blob.digest.len(),
            })?;
        Ok(Self {
            digest,
            size_bytes: blob.size_bytes,
        })
    }
}

impl From<BlobRef> for v1::BlobRef {
    fn from(blob: BlobRef) -> Self {
        Self {
            digest: blob.digest.0.to_vec(),
            size_bytes: blob.size_bytes,
        }
    }
}

impl TryFrom<&v1::BlobRef> for BlobRef {
    type Error = MalformedBlobRef;

    fn try_from(blob: &v1::BlobRef) -> Result<Self, MalformedBlobRef> {
        Self::from_wire(Some(blob), "blob")
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = MalformedDigest;

    fn try_from(bytes: &[u8]) -> Result<Self, MalformedDigest> {
        bytes.try_into().map(Self).map_err(|_| MalformedDigest)
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl FromStr for Digest {
    type Err = MalformedDigest;

    fn from_str(text: &str) -> Result<Self, MalformedDigest> {
        blake3::Hash::from_hex(text)
            .map(Self::from)
            .map_err(|_| MalformedDigest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_b3sum_prints() {
        let digest = Digest::from(blake3::hash(b""));
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!("af13".parse::<Digest>(), Err(MalformedDigest));
    }

    #[test]
    fn a_bad_reference_names_its_field() {
        let missing = BlobRef::from_wire(None, "header.blob").unwrap_err();
        assert_eq!(missing.to_string(), "header.blob is missing");
        let short = v1::BlobRef {
            digest: vec![0; 31],
            size_bytes: 1,
        };
        let short = BlobRef::from_wire(Some(&short), "inputs[3].blob").unwrap_err();
        assert_eq!(
            short.to_string(),
            "inputs[3].blob.digest has 31 bytes; a digest has 32"
        );
    }

    #[test]
    fn a_reference_survives_the_wire() {
        let blob = BlobRef {
            digest: Digest([7; 32]),
            size_bytes: 1 << 40,
        };
        assert_eq!(BlobRef::try_from(&v1::BlobRef::from(blob)), Ok(blob));
    }
}
