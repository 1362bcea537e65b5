//! Sizes as people read them.

/// Three digits are plenty for a glance; exact sizes are in the JSON.
pub fn rounded(bytes: u64) -> String {
    let units = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn a_size_is_told_in_its_largest_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (5_000_000, "4.8 MiB"),
            (16 << 40, "16.0 TiB"),
        ] {
            assert_eq!(rounded(bytes), text);
        }
    }
}
