//! Times as people read them: UTC in the form of RFC 3339. Only for reports; nothing is decided by it.

/// Days of each month of a common year.
const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/// Last year that four digits can show.
const YEAR_MAX: u64 = 9999;

const fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Seconds since the Unix epoch as `2026-09-21T13:33:21Z`; seconds behind the year 9999 as a number.
pub fn utc(seconds: u64) -> String {
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        if year == YEAR_MAX {
            return format!("{seconds} s after 1970-01-01T00:00:00Z");
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    for (at, length) in MONTHS.iter().enumerate() {
        let length = length + u64::from(at == 1 && leap(year));
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

/// The same for milliseconds.
pub(crate) fn utc_millis(millis: u64) -> String {
    utc(millis / 1000)
}

/// Whether a text has the form `2026-09-21T13:33:21Z`, each field within its bounds.
pub(crate) fn is_utc(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:ddZ";
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
    if text.len() != shape.len() || !text.bytes().zip(shape.bytes()).all(fits) {
        return false;
    }
    let number = |from: usize| text.get(from..from + 2).and_then(|digits| digits.parse::<u8>().ok()).unwrap_or(u8::MAX);
    (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 61
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_790_000_001, "2026-09-21T14:13:21Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "253402300800 s after 1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
            assert_eq!(is_utc(text), text.len() == 20);
        }
        assert_eq!(utc_millis(1_790_000_000_999), "2026-09-21T14:13:20Z");
        assert!(utc(u64::MAX).starts_with("18446744073709551615 s"));
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "2026-09-21",
            "2026-09-21 14:13:21Z",
            "2026-13-21T14:13:21Z",
            "2026-09-21T24:13:21Z",
            "2026-09-2１T14:13:2Z",
        ] {
            assert!(!is_utc(text), "{text}");
        }
    }
}
