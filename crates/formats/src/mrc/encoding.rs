//! How values lie in a file, and their decoding. Pure: bytes in, floats out.

use half::f16;

/// The type of the stored values, as Dewar can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Mode 0 as the standard and RELION have it: signed bytes.
    Int8,
    /// Mode 0 as IMOD wrote it for years, and marked it: unsigned bytes.
    Uint8,
    /// Mode 1.
    Int16,
    /// Mode 2.
    Float32,
    /// Mode 6.
    Uint16,
    /// Mode 12: IEEE half floats.
    Float16,
}

impl Mode {
    /// The number in the file's header.
    pub fn number(self) -> i32 {
        match self {
            Mode::Int8 | Mode::Uint8 => 0,
            Mode::Int16 => 1,
            Mode::Float32 => 2,
            Mode::Uint16 => 6,
            Mode::Float16 => 12,
        }
    }

    /// The mode a number stands for, mode 0 being signed; `None` if Dewar does not read it.
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Mode::Int8),
            1 => Some(Mode::Int16),
            2 => Some(Mode::Float32),
            6 => Some(Mode::Uint16),
            12 => Some(Mode::Float16),
            _ => None,
        }
    }

    /// The size of one stored value.
    pub fn value_bytes(self) -> usize {
        match self {
            Mode::Int8 | Mode::Uint8 => 1,
            Mode::Int16 | Mode::Uint16 | Mode::Float16 => 2,
            Mode::Float32 => 4,
        }
    }
}

/// Everything one must know to turn a section's bytes into values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The type of the values.
    pub mode: Mode,
    /// Whether each value's most significant byte comes first.
    pub big_endian: bool,
}

/// The bytes and the values asked for do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes cannot be {values} values of MRC mode {mode}: expected {expected} bytes")]
pub struct DecodeError {
    /// How many bytes there are.
    pub bytes: usize,
    /// How many values were asked for.
    pub values: usize,
    /// The mode's number.
    pub mode: i32,
    /// How many bytes there should be.
    pub expected: usize,
}

const CODE_BIG_ENDIAN: u32 = 1 << 8;
const CODE_UNSIGNED_BYTES: u32 = 1 << 9;

impl Encoding {
    /// A number that stands for this encoding where one number must do, as in a message: the MRC
    /// mode, plus 256 if big-endian, plus 512 for unsigned bytes.
    pub fn code(self) -> u32 {
        let order = if self.big_endian { CODE_BIG_ENDIAN } else { 0 };
        let sign = if self.mode == Mode::Uint8 {
            CODE_UNSIGNED_BYTES
        } else {
            0
        };
        self.mode.number() as u32 | order | sign
    }

    /// What [`code`](Self::code) said, or `None` if it never says that.
    pub fn from_code(code: u32) -> Option<Self> {
        let flags = CODE_BIG_ENDIAN | CODE_UNSIGNED_BYTES;
        let number = i32::try_from(code & !flags).ok()?;
        let mode = match (Mode::from_number(number)?, code & CODE_UNSIGNED_BYTES != 0) {
            (Mode::Int8, true) => Mode::Uint8,
            (_, true) => return None,
            (mode, false) => mode,
        };
        Some(Self {
            mode,
            big_endian: code & CODE_BIG_ENDIAN != 0,
        })
    }

    /// Decodes exactly `values.len()` values.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) -> Result<(), DecodeError> {
        let expected = values.len().saturating_mul(self.mode.value_bytes());
        if bytes.len() != expected {
            return Err(DecodeError {
                bytes: bytes.len(),
                values: values.len(),
                mode: self.mode.number(),
                expected,
            });
        }
        match (self.mode, self.big_endian) {
            (Mode::Int8, _) => each(bytes, values, |[byte]| f32::from(byte as i8)),
            (Mode::Uint8, _) => each(bytes, values, |[byte]| f32::from(byte)),
            (Mode::Int16, false) => each(bytes, values, |b| f32::from(i16::from_le_bytes(b))),
            (Mode::Int16, true) => each(bytes, values, |b| f32::from(i16::from_be_bytes(b))),
            (Mode::Uint16, false) => each(bytes, values, |b| f32::from(u16::from_le_bytes(b))),
            (Mode::Uint16, true) => each(bytes, values, |b| f32::from(u16::from_be_bytes(b))),
            (Mode::Float32, false) => each(bytes, values, f32::from_le_bytes),
            (Mode::Float32, true) => each(bytes, values, f32::from_be_bytes),
            (Mode::Float16, false) => each(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            (Mode::Float16, true) => each(bytes, values, |b| f16::from_be_bytes(b).to_f32()),
        }
        Ok(())
    }
}

fn each<const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    let (stored, _) = bytes.as_chunks::<N>();
    for (value, stored) in values.iter_mut().zip(stored) {
        *value = decode(*stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 6] = [
        Mode::Int8,
        Mode::Uint8,
        Mode::Int16,
        Mode::Float32,
        Mode::Uint16,
        Mode::Float16,
    ];

    fn check(mode: Mode, big_endian: bool, bytes: &[u8], expected: &[f32]) {
        let mut values = vec![0.0; expected.len()];
        Encoding { mode, big_endian }
            .decode(bytes, &mut values)
            .unwrap();
        assert_eq!(values, expected, "{mode:?}, big-endian: {big_endian}");
    }

    #[test]
    fn every_mode_in_both_byte_orders() {
        check(Mode::Int8, false, &[0xff, 0x7f], &[-1.0, 127.0]);
        check(Mode::Uint8, true, &[0xff, 0x7f], &[255.0, 127.0]);
        check(Mode::Int16, false, &[0xfe, 0xff], &[-2.0]);
        check(Mode::Int16, true, &[0xff, 0xfe], &[-2.0]);
        check(Mode::Uint16, false, &[0xfe, 0xff], &[65534.0]);
        check(Mode::Uint16, true, &[0x01, 0x00], &[256.0]);
        check(Mode::Float32, false, &[0, 0, 0xc0, 0x3f], &[1.5]);
        check(Mode::Float32, true, &[0x3f, 0xc0, 0, 0], &[1.5]);
        check(
            Mode::Float16,
            false,
            &[0x00, 0x3e, 0x01, 0x00],
            &[1.5, 5.960_464_5e-8],
        );
        check(Mode::Float16, true, &[0xc0, 0x00], &[-2.0]);
    }

    #[test]
    fn a_wrong_length_is_refused() {
        let encoding = Encoding {
            mode: Mode::Int16,
            big_endian: false,
        };
        let error = encoding.decode(&[0; 5], &mut [0.0; 2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "5 bytes cannot be 2 values of MRC mode 1: expected 4 bytes"
        );
    }

    #[test]
    fn codes_name_encodings_one_to_one() {
        for mode in MODES {
            for big_endian in [false, true] {
                let encoding = Encoding { mode, big_endian };
                assert_eq!(Encoding::from_code(encoding.code()), Some(encoding));
            }
        }
        for nonsense in [3, 4, 101, 512 | 2, 1 << 10, u32::MAX] {
            assert_eq!(Encoding::from_code(nonsense), None);
        }
    }
}
