//! Quantities as operators write them: `512MiB`, `1h`. A bare number is refused, so that nobody
//! guesses a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text is not a quantity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NotAQuantity {
    text: String,
    example: &'static str,
}

impl fmt::Display for NotAQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not understood; write for example {}", self.text, self.example)
    }
}

impl std::error::Error for NotAQuantity {}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = units.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fitting = units.iter().filter(|(_, unit)| value >= *unit && value.is_multiple_of(*unit));
    let smallest = units.iter().min_by_key(|(_, unit)| *unit);
    let (suffix, unit) = fitting.max_by_key(|(_, unit)| *unit).or(smallest).copied().unwrap_or(("", 1));
    write!(f, "{}{suffix}", value / unit)
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $units:ident, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) struct $name(pub(crate) u64);

        impl FromStr for $name {
            type Err = NotAQuantity;

            fn from_str(text: &str) -> Result<Self, NotAQuantity> {
                parse(text, &$units)
                    .map(Self)
                    .ok_or_else(|| NotAQuantity { text: text.to_owned(), example: $example })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(self.0, &$units, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
// "ms" stands before "s", which it ends with; for printing, the largest that divides wins.
const MILLIS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("ms", 1), ("s", 1_000)];

quantity!(
    /// A number of bytes.
    ByteSize, BYTES, "512MiB"
);

quantity!(
    /// A span of time, in milliseconds.
    Span, MILLIS, "500ms, 30s, 10min, 1h or 7d"
);

impl Span {
    /// As a duration.
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_round_trip_and_bad_ones_are_refused() {
        for (text, bytes) in [("512MiB", 512 << 20), ("1GiB", 1 << 30), ("7B", 7), ("0B", 0)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
        for (text, millis) in
            [("500ms", 500), ("2s", 2_000), ("10min", 600_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            assert_eq!(text.parse(), Ok(Span(millis)));
            assert_eq!(Span(millis).to_string(), text);
        }
        for text in ["", "512", "MiB", "1.5GiB", "-1B", "1mb", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["1", "h", "1 hour", "-1s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
