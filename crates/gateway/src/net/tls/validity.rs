//! When a certificate expires.
//!
//! Owns: the few fields of an X.509 certificate on the way to its last day (RFC 5280, section 4.1), in DER (X.690).
//! Does not own: whether the certificate is sound otherwise; rustls has read it before.

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;
/// Most bytes of a length; a certificate of 4 GiB there is none.
const LENGTH_LEN_MAX: u8 = 4;

/// The last second that a certificate is good for, since 1970; `None` when it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, not_after) = time(validity)?;
    time(not_after).map(|(seconds, _)| seconds)
}

/// The content of the element that `input` begins with, and what follows it.
fn element(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (&[tag, first], rest) = input.split_first_chunk()?;
    if tag != wanted {
        return None;
    }
    let (len, rest) = match first.checked_sub(0x80) {
        None => (usize::from(first), rest),
        Some(count @ 1..=LENGTH_LEN_MAX) => {
            let (bytes, rest) = rest.split_at_checked(usize::from(count))?;
            let len = bytes
                .iter()
                .fold(0_u64, |len, &byte| len << 8 | u64::from(byte));
            (usize::try_from(len).ok()?, rest)
        }
        Some(_) => return None,
    };
    rest.split_at_checked(len)
}

/// The time that `input` begins with, in seconds since 1970, and what follows it.
fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (year, text, rest) = if let Some((text, rest)) = element(input, UTC_TIME) {
        let (year, text) = number(text, 2)?;
        (year + if year < 50 { 2000 } else { 1900 }, text, rest)
    } else {
        let (text, rest) = element(input, GENERALIZED_TIME)?;
        let (year, text) = number(text, 4)?;
        (year, text, rest)
    };
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    if text != b"Z" || !(1..=12).contains(&month) {
        return None;
    }
    let seconds = (days_to(year, month) + day - 1) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds, rest))
}

/// The `digits` decimal digits that `text` begins with, and what follows them.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let number = digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    });
    Some((number?, rest))
}

/// Days from 1 January 1970 to the first of `month`. Years begin in March here, so that the leap day is their last and
/// month lengths repeat every five months.
fn days_to(year: i64, month: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 - DAYS_TO_1970
}

/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "20000301000000Z", Some(951_868_800)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20001301000000Z", None),
            (GENERALIZED_TIME, "2000010100000Z", None),
            (UTC_TIME, "7001010000xxZ", None),
            (UTC_TIME, "700101000000", None),
            (INTEGER, "700101000000Z", None),
        ] {
            let mut encoded = vec![tag, text.len() as u8];
            encoded.extend(text.as_bytes());
            let seconds = time(&encoded).map(|(seconds, _)| seconds);
            assert_eq!(seconds, expected, "{text}");
        }
    }

    #[test]
    fn elements_end_where_they_say() {
        for (input, expected) in [
            (&[0x30, 0x01, 7, 8][..], Some((&[7][..], &[8][..]))),
            (&[0x30, 0x81, 0x01, 7, 8], Some((&[7], &[8]))),
            (&[0x30, 0x82, 0x00, 0x01, 7], Some((&[7], &[]))),
            (&[0x30, 0x02, 7], None),
            (&[0x30, 0x80, 7], None),
            (&[0x30, 0x85, 0, 0, 0, 0, 1, 7], None),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 7], None),
            (&[0x31, 0x01, 7], None),
            (&[0x30], None),
        ] {
            assert_eq!(element(input, SEQUENCE), expected, "{input:?}");
        }
    }
}
