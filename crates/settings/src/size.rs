//! Sizes as people write them.

use std::{fmt, str::FromStr};

/// A number of bytes, written like `50GiB`, `1.5 TB` or `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size; sizes look like 50GiB, 1.5TB or 4096")]
pub struct MalformedSize(String);

/// Largest first, so that the first that divides a size shows it shortest.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = MalformedSize;

    fn from_str(text: &str) -> Result<Self, MalformedSize> {
        let malformed = || MalformedSize(text.to_owned());
        let trimmed = text.trim();
        let unit_at = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(unit_at);
        let unit_bytes = match unit.trim() {
            "" => 1,
            unit => UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, bytes)| *bytes)
                .ok_or_else(malformed)?,
        };
        // Whole numbers stay exact; only fractions go through floating point.
        if let Ok(whole) = number.parse::<u64>() {
            return whole
                .checked_mul(unit_bytes)
                .map(Self)
                .ok_or_else(malformed);
        }
        let bytes = number.parse::<f64>().map_err(|_| malformed())? * unit_bytes as f64;
        if bytes < u64::MAX as f64 {
            Ok(Self(bytes.round() as u64))
        } else {
            Err(malformed())
        }
    }
}

/// A number of bytes a second, written like `100MB/s`; the `/s` may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth(pub u64);

impl FromStr for Bandwidth {
    type Err = MalformedSize;

    fn from_str(text: &str) -> Result<Self, MalformedSize> {
        let size = text.trim().strip_suffix("/s").unwrap_or(text);
        match size.parse::<ByteSize>() {
            Ok(ByteSize(bytes_per_s)) if bytes_per_s > 0 => Ok(Self(bytes_per_s)),
            _ => Err(MalformedSize(text.to_owned())),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0B"),
            ("4096", 4096, "4KiB"),
            ("50GiB", 50 << 30, "50GiB"),
            ("50 gib", 50 << 30, "50GiB"),
            ("1.5TB", 1_500_000_000_000, "1500GB"),
            ("0.5kB", 500, "500B"),
            ("18446744073709551615", u64::MAX, "18446744073709551615B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse(), Ok(size));
        }
    }

    #[test]
    fn bandwidths_are_sizes_a_second() {
        for text in ["100MB/s", " 100 MB/s", "100MB", "100000000"] {
            let bandwidth: Bandwidth = text.parse().unwrap();
            assert_eq!(bandwidth, Bandwidth(100_000_000), "{text}");
            assert_eq!(bandwidth.to_string(), "100MB/s");
        }
        for text in ["0", "/s", "100MB/m", "fast"] {
            assert!(text.parse::<Bandwidth>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "GiB",
            "-1",
            "5 apples",
            "1..2GB",
            "99999999TiB",
            "1e3",
            "nan",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }
}
