//! Times of tokens. They may have fractions of seconds, which DER's own times don't.

use der::asn1::Any;
use der::{Tag, Tagged as _};

use super::TimestampError;
use super::asn1::Accuracy;

/// Microseconds in a second.
pub(super) const MICROS: u64 = 1_000_000;

/// Microseconds since the Unix epoch of a GeneralizedTime `YYYYMMDDhhmmss[.f]Z`; what is finer is rounded up.
pub(super) fn read(time: &Any) -> Result<u64, TimestampError> {
    let fault = TimestampError::Rule("the time of the token is malformed");
    if time.tag() != Tag::GeneralizedTime {
        return Err(fault);
    }
    parse(time.value()).ok_or(fault)
}

fn parse(text: &[u8]) -> Option<u64> {
    let (whole, rest) = text.split_at_checked(14)?;
    let mut fields = [0u16; 6];
    let mut digits = whole.iter();
    for (field, width) in fields.iter_mut().zip([4, 2, 2, 2, 2, 2]) {
        for _ in 0..width {
            *field = *field * 10 + digit(*digits.next()?)?;
        }
    }
    let [year, month, day, hour, minute, second] = fields;
    let small = |field: u16| u8::try_from(field).ok();
    let date =
        der::DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?).ok()?;
    let fraction = match rest.strip_suffix(b"Z")? {
        [] => 0,
        // DER: no zeros at the end, and no point without digits.
        [b'.', .., b'0'] | [b'.'] => return None,
        [b'.', digits @ ..] => micros(digits)?,
        _ => return None,
    };
    date.unix_duration().as_secs().checked_mul(MICROS)?.checked_add(fraction)
}

fn digit(byte: u8) -> Option<u16> {
    byte.is_ascii_digit().then(|| u16::from(byte - b'0'))
}

fn micros(digits: &[u8]) -> Option<u64> {
    let (mut micros, mut unit, mut more) = (0, MICROS, false);
    for byte in digits {
        let value = u64::from(digit(*byte)?);
        unit /= 10;
        micros += value * unit;
        more |= unit == 0 && value != 0;
    }
    Some(micros + u64::from(more))
}

/// Microseconds that the authority's clock may be off.
pub(super) fn accuracy(stated: Option<&Accuracy>) -> Result<u64, TimestampError> {
    let Some(stated) = stated else { return Ok(0) };
    let part = |part: Option<u16>| match part {
        Some(value @ 1..=999) => Ok(u64::from(value)),
        None => Ok(0),
        Some(_) => Err(TimestampError::Rule("the accuracy of the token is malformed")),
    };
    Ok(u64::from(stated.seconds.unwrap_or_default()) * MICROS + part(stated.millis)? * 1000 + part(stated.micros)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_fractions() {
        for (text, micros) in [
            ("19700101000000Z", 0),
            ("20260921141321Z", 1_790_000_001_000_000),
            ("20260921141321.5Z", 1_790_000_001_500_000),
            ("20260921141321.000001Z", 1_790_000_001_000_001),
            ("20260921141321.0000001Z", 1_790_000_001_000_001),
            ("20240229000000Z", 1_709_164_800_000_000),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(micros), "{text}");
        }
        for text in [
            "",
            "20260921141321",
            "202609211413Z",
            "20260921141321.Z",
            "20260921141321.50Z",
            "20260921141321+0100",
            "20261321141321Z",
            "20250229000000Z",
            "2026092114132 Z",
            "20260921141321.5xZ",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn accuracy_adds_up() {
        let of = |seconds, millis, micros| accuracy(Some(&Accuracy { seconds, millis, micros }));
        assert_eq!(of(Some(2), Some(3), Some(4)), Ok(2_003_004));
        assert_eq!((accuracy(None), of(None, None, None)), (Ok(0), Ok(0)));
        assert!(of(None, Some(1000), None).is_err() && of(None, None, Some(0)).is_err());
    }
}
